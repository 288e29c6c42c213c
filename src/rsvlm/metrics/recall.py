"""Retrieval's protocols, and their recalls from the places of right candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from rsvlm.metrics.intervals import Floats, Statistics, share
from rsvlm.metrics.ranking import Rows, chance_recall

Protocol = Literal["remoteclip", "rs5m", "skyscript"]

PREFIX = {"remoteclip": "", "rs5m": "", "skyscript": "a satellite image. "}
RANKS = {"remoteclip": (1, 5, 10), "rs5m": (1, 5, 10), "skyscript": (1, 5, 10, 100)}
#: Protocols that keep every caption and take only an image's own as right.
EVERY_CAPTION = ("remoteclip", "rs5m")


@dataclass(frozen=True)
class Example:
    """A query with its five best answers, for people to look at.

    A caption is named by (position of its image in the data set, place among that image's
    captions), an image by (position in the data set, 0).

    Attributes:
        query: what was asked for.
        answers: best first.
        hits: whether each answer is a positive.
        scores: cosines of the answers.
        rank: place of the best positive, from 1.
    """

    query: tuple[int, int]
    answers: list[tuple[int, int]]
    hits: list[bool]
    scores: list[float]
    rank: int


@dataclass(frozen=True)
class Table:
    """What all ranks gave, in canonical order.

    Attributes:
        images: [N, D].
        index: [N], their positions in the data set.
        texts: [U, D], one row per distinct sentence.
        item_place: [T], each caption's place among its image's, captions ordered by image.
        item_column: [T], its row in `texts`.
        item_image: [T], its row in `images`.
        pairs: [2, P], distinct (image, sentence) pairs.
    """

    images: Rows
    index: Tensor
    texts: Rows
    item_place: Tensor
    item_column: Tensor
    item_image: Tensor
    pairs: Tensor


@dataclass(frozen=True)
class Ranking:
    """What was found for a query.

    A caption is named by (position of its image in the data set, place among that image's
    captions), an image by (position, 0).

    Attributes:
        query: what was asked for.
        ranks: places of all right candidates, from 0, ascending.
        best: the ten best candidates, best first.
        scores: their cosines.
    """

    query: tuple[int, int]
    ranks: list[int]
    best: list[tuple[int, int]]
    scores: list[float]


def recalls(protocol: str, i2t: Tensor, t2i: Tensor) -> dict[str, Tensor]:
    """Recalls in per cent, and their means, from the places of best positives.

    Args:
        protocol: whose depths and means.
        i2t: [N] of images, from 0.
        t2i: [T] of texts.
    """
    ks = RANKS[protocol]
    found = {f"i2t_r{k}": (i2t < k).double().mean() * 100 for k in ks}
    found |= {f"t2i_r{k}": (t2i < k).double().mean() * 100 for k in ks}
    return _with_means(protocol, found)


def chance_of(protocol: str, i2t: tuple[int, Tensor], t2i: tuple[int, Tensor]) -> dict[str, float]:
    """What a random order is expected to score.

    Args:
        protocol: whose depths and means.
        i2t: how many texts there are, and [N] how many of them are right for each image.
        t2i: how many images there are, and [T] how many of them are right for each text.
    """
    ks = RANKS[protocol]
    found = {f"i2t_r{k}": torch.tensor(chance_recall(*i2t, k=k)) for k in ks}
    found |= {f"t2i_r{k}": torch.tensor(chance_recall(*t2i, k=k)) for k in ks}
    return {name: float(value) for name, value in _with_means(protocol, found).items()}


def _with_means(protocol: str, found: dict[str, Tensor]) -> dict[str, Tensor]:
    ways = [torch.stack([found[f"{way}_r{k}"] for k in (1, 5, 10)]) for way in ("i2t", "t2i")]
    if protocol in EVERY_CAPTION:
        return found | {"mean_recall": torch.cat(ways).mean()}
    return found | {"i2t_mean_recall": ways[0].mean(), "t2i_mean_recall": ways[1].mean()}


def statistics(protocol: str, best: Mapping[str, Sequence[tuple[int, int]]]) -> Statistics:
    """Queries that are hit at each depth, by the image that they are of.

    Args:
        protocol: whose depths and means.
        best: `i2t` and `t2i` -> (image, place of the best positive from 0) of each query.
    """
    ks = RANKS[protocol]
    images, rows = [], []
    for way in (0, 1):
        for image, rank in best[("i2t", "t2i")[way]]:
            row = np.zeros((2, len(ks) + 1))
            row[way] = [*(rank < k for k in ks), 1]
            images.append(image)
            rows.append(row.reshape(-1))

    def value(sums: Floats) -> dict[str, Floats]:
        both = sums.reshape(*sums.shape[:-1], 2, len(ks) + 1)
        hit = 100 * share(both[..., :-1], both[..., -1:] * np.ones(len(ks)))
        found = {
            f"{way}_r{k}": hit[..., n, place]
            for n, way in enumerate(("i2t", "t2i"))
            for place, k in enumerate(ks)
        }
        means = {way: hit[..., n, :3].mean(-1) for n, way in enumerate(("i2t", "t2i"))}
        if protocol in EVERY_CAPTION:
            return found | {"mean_recall": (means["i2t"] + means["t2i"]) / 2}
        return found | {f"{way}_mean_recall": one for way, one in means.items()}

    return Statistics(images, np.array(rows), value)
