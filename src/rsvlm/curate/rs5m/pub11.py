"""PUB11: which of billions of captions speak of remote sensing, and which pictures show it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rsvlm.curate.encoder import Encoder
from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.curate.scores import ImageTextSimilarity
from rsvlm.errors import UserError
from rsvlm.files import written_whole

_SEEN = "(?:imag|photo|map|pic|view|scan"
#: The paper's first group (App. B2), beginnings of words.
GROUP_1 = (
    "remote sensing",
    "earth observ",
    rf"aerial {_SEEN}|satellite)",
    rf"satellite {_SEEN}|data|surveillance)",
    "(?:space|spaceborne|space-borne) (?:photo|imag|view)",
    "space surveillance",
)
#: The second, names; "Freesound" stands there too.
GROUP_2 = (
    "google earth",
    "freesound",
    "sentinel[- ]1",
    "sentinel[- ]2",
    "gaofen",
    "usgs",
    "naip",
    "modis",
    "eosdis",
    "worldview",
    "planet dove",
    "arcgis",
    "maxar",
    "landsat",
    "geographic information system",
)
_NOUNS = ("remote sensing image", "aerial image", "satellite image")
_LOOKS = (
    "",
    "low resolution ",
    "bad ",
    "cropped ",
    "bright ",
    "dark ",
    "close-up ",
    "black and white ",
    "jpeg corrupted ",
    "blurry ",
    "good ",
)
#: App. B3: three nouns in eleven looks. The articles are ours.
TEMPLATES = tuple(
    f"{'an' if (look + noun)[0] == 'a' else 'a'} {look}{noun}" for noun in _NOUNS for look in _LOOKS
)


@dataclass
class KeywordFilter:
    """Keeps captions that hold a word of either group; adds `keyword` and `keyword_group`.

    Neither Data-Juicer nor NeMo Curator has an operator of this kind.

    Args:
        group_1: regular expressions, at the beginning of a word, in any case.
        group_2: regular expressions of whole words, in any case.
    """

    group_1: Sequence[str] = GROUP_1
    group_2: Sequence[str] = GROUP_2
    name = "keyword_filter"
    version = "1"

    def __post_init__(self) -> None:
        try:
            self._groups = {
                1: re.compile(rf"(?<!\w)(?:{'|'.join(self.group_1)})", re.IGNORECASE),
                2: re.compile(rf"(?<!\w)(?:{'|'.join(self.group_2)})(?!\w)", re.IGNORECASE),
            }
        except re.error as error:
            raise UserError(f"a keyword is no regular expression: {error}.") from error

    def __call__(self, record: Record) -> Outcome:
        """See `Stage`."""
        caption = " ".join(record["caption"].split())
        if not caption:
            return Dropped("no_caption")
        for number, pattern in self._groups.items():
            if found := pattern.search(caption):
                word = found[0].lower()
                return {**record, "caption": caption, "keyword": word, "keyword_group": number}
        return Dropped("no_keyword")


@dataclass
class TemplateSimilarity(ImageTextSimilarity):
    """The paper's score: the cosine of a picture with the mean of 33 templates."""

    texts: Sequence[str] = TEMPLATES


@dataclass
class RemoteSensingDetector:
    """Adds `rs_score`, the probability that a picture shows the ground from above.

    The paper's detector (a ViTAE tuned on 2,500 of MillionAID and 2,500 aerial pictures of LAION
    against 5,000 of ImageNet) is not published. Here it is a logistic regression over `embedding`,
    which `fit` trains; without its file, the encoder's own choice between texts.

    Args:
        weights: what `fit` wrote; None compares texts.
        encoder: the one that made `embedding`; needed without `weights`.
        positive: texts of what is kept, and
        negative: of what is not.
        batch_size: records at a time.

    Raises:
        UserError: neither weights nor an encoder.
    """

    weights: str | None = None
    encoder: Encoder | None = None
    positive: Sequence[str] = tuple(f"a {noun}" for noun in _NOUNS)
    negative: Sequence[str] = (
        "a photo of people",
        "a photo of an object",
        "a photo of an animal",
        "a landscape photo from the ground",
        "a diagram",
        "a screenshot of text",
        "a book cover",
    )
    batch_size: int = 256
    name = "remote_sensing_detector"
    version = "1"

    def __post_init__(self) -> None:
        if self.weights is None and self.encoder is None:
            raise UserError(
                "the detector needs what fit wrote, pipeline.stages.detector.weights=<file>, or an "
                "encoder."
            )

    def setup(self) -> None:
        """Reads the weights, or encodes the texts."""
        if self.weights is not None:
            self._weight, self._bias = read_weights(self.weights)
        elif self.encoder is not None:
            self.encoder.load()
            self._texts = self.encoder.texts([*self.positive, *self.negative])

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        seen = np.stack([record["embedding"] for record in records])
        if self.weights is not None:
            if seen.shape[1] != len(self._weight):
                raise UserError(
                    f"{self.weights} is for vectors of {len(self._weight)} numbers, and these have "
                    f"{seen.shape[1]}: it was trained with another encoder."
                )
            found = 1 / (1 + np.exp(-(seen @ self._weight + self._bias)))
        else:
            logits = 100 * seen @ self._texts.T
            chances = np.exp(logits - logits.max(1, keepdims=True))
            found = chances[:, : len(self.positive)].sum(1) / chances.sum(1)
        return [{**r, "rs_score": float(p)} for r, p in zip(records, found, strict=True)]


def fit(
    positive: npt.NDArray[Any], negative: npt.NDArray[Any], path: str | Path, *, seed: int = 0
) -> dict[str, float]:
    """Trains the detector on vectors of pictures and writes it as .npz.

    Logistic regression with a penalty of 1 over the number, by Newton's method, on a division of
    7 : 1 : 2 as in the paper.

    Args:
        positive: [N, D] of pictures from above.
        negative: [M, D] of others.
        path: of the file.
        seed: of the division.

    Returns:
        Accuracy in per cent on `train`, `val` and `test`.
    """
    x = np.concatenate([positive, negative]).astype(np.float64)
    y = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    order = np.random.default_rng(seed).permutation(len(x))
    cuts = np.split(order, [int(0.7 * len(x)), int(0.8 * len(x))])
    ones = np.c_[x, np.ones(len(x))]
    w = np.zeros(ones.shape[1])
    held, told = ones[cuts[0]], y[cuts[0]]
    for _ in range(25):
        p = 1 / (1 + np.exp(-held @ w))
        slope = held.T @ (p - told) / len(told) + w / len(told)
        bend = (held * (p * (1 - p))[:, None]).T @ held / len(told) + np.eye(len(w)) / len(told)
        step = np.linalg.solve(bend, slope)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    with written_whole(path) as beside, beside.open("wb") as file:
        np.savez(file, weight=w[:-1].astype(np.float32), bias=np.float32(w[-1]))
    names = ("train", "val", "test")
    right = (ones @ w > 0) == (y > 0.5)
    return {
        name: 100 * float(right[cut].mean())
        for name, cut in zip(names, cuts, strict=True)
        if len(cut)
    }


def read_weights(path: str | Path) -> tuple[npt.NDArray[np.float32], float]:
    """What `fit` wrote.

    Raises:
        UserError: it is not there, or something else.
    """
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as held:
            return held["weight"].astype(np.float32), float(held["bias"])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is no detector that rs5m.pub11.fit wrote: {error}.") from error
