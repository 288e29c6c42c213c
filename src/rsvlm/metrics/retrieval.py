"""Image-text retrieval under the two published, incompatible protocols.

`remoteclip` and `rs5m` (RemoteCLIP, GeoRSCLIP, ITRA; all take it from clip_benchmark) keep every
caption and take only an image's own captions as positives; RemoteCLIP asks each with a capital and
small letters behind it, GeoRSCLIP as it stands, which a CLIP's tokenizer cannot tell apart.
`skyscript` keeps each distinct sentence once and takes every image that has it. All count a query
as a hit at k when at least one positive is among its k best.

Ties: both published codes leave them to the sort of the day (`topk`, `argsort`). Here the earlier
item wins: images in the order of their index in the data set, captions in the order of their
images, distinct sentences in the order of their first appearance. That is a stable sort of the
scores, so a model whose features have collapsed scores chance, and neither batches nor ranks
change a number. Copies of one sentence share one feature vector, so that they tie exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from rsvlm.metrics.gather import GatherMetric
from rsvlm.metrics.ranking import (
    Rows,
    all_ranks,
    exact_float32,
    first_of_each,
    ranks_both_ways,
)
from rsvlm.metrics.recall import (
    EVERY_CAPTION,
    PREFIX,
    RANKS,
    Example,
    Protocol,
    Ranking,
    Table,
    chance_of,
    recalls,
)


def text_keys(texts: Sequence[str]) -> Tensor:
    """[len(texts)] int64 hashes: equal exactly for equal strings.

    The hash does not depend on the process, so that keys of several ranks may be compared; among a
    million sentences the chance of any collision is 3e-8.
    """
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor(
        [int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64
    )


class Retrieval(GatherMetric):
    """Recall at k in both directions, in per cent.

    Formula: the share of queries with at least one positive among the k best, of images among
    captions (i2t) and of captions among images (t2i); mean_recall, the mean of the six at 1, 5 and
    10, or one mean per direction. Range: 0 to 100 per cent. Higher is better. Protocols:
    remoteclip, rs5m, skyscript. Used in: RemoteCLIP's and GeoRSCLIP's tables on RSICD, RSITMD and
    UCM (remoteclip, rs5m), SkyScript's (skyscript).

    Features that are not finite, images without captions and a set of no images are errors. Memory
    beside the features as they came is `block` squared scores and a few numbers a caption,
    whatever the size of the set; several processes gather their features first.
    Published codes: RemoteCLIP `retrieval.py` (a6a4787) over clip_benchmark's `recall_at_k`;
    SkyScript `cross_modal_retrieval.ipynb` (b16d2e7).

    Args:
        protocol: `remoteclip`, `rs5m` or `skyscript`, see the module.
        block: queries and candidates scored at a time.
        prefix: put before each caption by `prompt`; None takes the protocol's own. SkyScript's
            prefix is for RSICD, RSITMD and UCM; on its own captions it uses none (`prefix=""`).
        examples: queries of each kind to keep for pictures.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    image_features: list[Tensor]
    image_index: list[Tensor]
    text_features: list[Tensor]
    text_image: list[Tensor]
    text_order: list[Tensor]
    text_key: list[Tensor]

    def __init__(
        self,
        protocol: Protocol = "remoteclip",
        *,
        block: int = 1024,
        prefix: str | None = None,
        examples: int = 6,
        **kwargs: Any,
    ) -> None:
        integers = ("image_index", "text_image", "text_order", "text_key")
        features = ("image_features", "text_features")
        super().__init__(dict.fromkeys(features, True) | dict.fromkeys(integers, False), **kwargs)
        if protocol not in RANKS:
            raise ValueError(
                f"retrieval protocol {protocol!r} is unknown; choose one of {sorted(RANKS)}."
            )
        if block < 1:
            raise ValueError(f"block={block}: score at least one query at a time.")
        self.protocol = protocol
        self.block = block
        self.prefix = PREFIX[protocol] if prefix is None else prefix
        self.shown = examples
        self._facts: tuple[dict[str, int], dict[str, float]] | None = None
        self._shown: tuple[list[Example], list[Example]] | None = None

    def prompt(self, text: str) -> str:
        """The string to encode for a caption under this protocol."""
        return self.prefix + (text.capitalize() if self.protocol == "remoteclip" else text)

    def update(
        self,
        image_features: Tensor,
        text_features: Tensor,
        image_of_text: Tensor,
        image_index: Tensor,
        text_keys: Tensor | None = None,
    ) -> None:
        """Adds a batch of images with all their captions.

        An image that comes twice (samplers pad the last batch) counts once.

        Args:
            image_features: [b, D], unit length.
            text_features: [t, D], unit length, of the prompts (see `prompt`).
            image_of_text: [t], the row of the caption's image within this batch.
            image_index: [b], the image's position in the data set.
            text_keys: [t] int64, equal for equal sentences (`text_keys(texts)`); without them
                every caption counts as a sentence of its own, which `skyscript` does not allow.

        Raises:
            ValueError: shapes that do not fit, or features that are not finite.
        """
        b, t = len(image_features), len(text_features)
        if image_features.ndim != 2 or text_features.shape[1:] != image_features.shape[1:]:
            raise ValueError(
                f"image features {tuple(image_features.shape)} and text features "
                f"{tuple(text_features.shape)} must be [b, D] and [t, D] with one D."
            )
        if image_of_text.shape != (t,) or image_index.shape != (b,):
            raise ValueError(
                f"image_of_text {tuple(image_of_text.shape)} must be [{t}] and image_index "
                f"{tuple(image_index.shape)} must be [{b}]."
            )
        if t and not 0 <= int(image_of_text.min()) <= int(image_of_text.max()) < b:
            raise ValueError(
                f"image_of_text names rows {int(image_of_text.min())} to "
                f"{int(image_of_text.max())} of a batch of {b} images; it holds rows within the "
                "batch, not positions in the data set."
            )
        if not bool(image_features.isfinite().all() & text_features.isfinite().all()):
            raise ValueError(
                f"features of the batch with images {image_index.tolist()[:8]} are not finite."
            )
        image = image_index.long()[image_of_text.long()]
        # The caption's place among those of its row, so that a row repeated in the same batch
        # gives the same places.
        order = torch.zeros_like(image)
        sort = torch.argsort(image_of_text, stable=True)
        run = torch.unique_consecutive(image_of_text[sort], return_counts=True)[1]
        order[sort] = torch.arange(t, device=image.device) - torch.repeat_interleave(
            run.cumsum(0) - run, run
        )
        if text_keys is None:
            if self.protocol == "skyscript":
                raise ValueError("protocol skyscript merges equal sentences: give text_keys.")
            # Distinct per caption and the same on every rank.
            text_keys = image * 4096 + order
        elif text_keys.shape != (t,):
            raise ValueError(f"text_keys {tuple(text_keys.shape)} must be [{t}].")
        self.image_features.append(image_features.detach().float())
        self.image_index.append(image_index.long())
        self.text_features.append(text_features.detach().float())
        self.text_image.append(image)
        self.text_order.append(order)
        self.text_key.append(text_keys.long().to(image.device))

    def compute(self) -> dict[str, Tensor]:
        """Recalls in per cent: `i2t_r1`, ..., and `mean_recall` or one mean per direction."""
        table = self._table()
        # Kept, because torchmetrics lets go of the other ranks' states after `compute`.
        self._facts = (_counts(table), self._random(table))
        with exact_float32(table.index.device):
            i2t, t2i = self._ranks(table)
            self._shown = self._examples(table, i2t, t2i)
        return recalls(self.protocol, i2t, t2i)

    def rankings(self) -> tuple[list[Ranking], list[Ranking]]:
        """Of each image and each text: places of all right candidates, and the ten best ones.

        Texts are captions, or under `skyscript` distinct sentences, named by their first caption.
        """
        table = self._table()
        _need_positive(table.item_image, len(table.images), "image", "caption")
        index, owner, place = table.index.tolist(), table.item_image.tolist(), table.item_place
        captions = [(index[o], p) for o, p in zip(owner, place.tolist(), strict=True)]
        images = [(position, 0) for position in index]
        device = table.index.device
        if self.protocol in EVERY_CAPTION:
            column, texts = table.item_column, table.texts.select(table.item_column)
            pairs = torch.stack([table.item_image, torch.arange(len(column), device=device)])
        else:
            column, texts = torch.arange(len(table.texts), device=device), table.texts
            pairs = table.pairs
            captions = [captions[n] for n in first_of_each(table.item_column)[1].tolist()]
        with exact_float32(device):
            every = torch.arange(len(index), device=device)
            i2t = _named(all_ranks(table.images, table.texts, column, pairs), images, captions)
            t2i = _named(all_ranks(texts, table.images, every, pairs.flip(0)), captions, images)
        return i2t, t2i

    def chance(self) -> dict[str, float]:
        """What a random order is expected to score on the images and captions of all ranks.

        Raises:
            RuntimeError: before the first `compute`.
        """
        return dict(self._computed_facts()[1])

    def counts(self) -> dict[str, int]:
        """How many images, captions and distinct sentences all ranks have seen.

        Raises:
            RuntimeError: before the first `compute`.
        """
        return dict(self._computed_facts()[0])

    def examples(self) -> tuple[list[Example], list[Example]]:
        """Text queries and image queries of the last `compute`, evenly spread over the images.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._shown is None:
            raise RuntimeError("examples are there after compute; call that first.")
        return self._shown

    def _computed_facts(self) -> tuple[dict[str, int], dict[str, float]]:
        if self._facts is None:
            raise RuntimeError("counts and chance are there after compute; call that first.")
        return self._facts

    def _random(self, table: Table) -> dict[str, float]:
        images = len(table.images)
        if self.protocol in EVERY_CAPTION:
            i2t = (len(table.item_column), torch.bincount(table.item_image, minlength=images))
            t2i = (images, torch.ones(len(table.item_image), dtype=torch.long))
        else:
            texts = len(table.texts)
            i2t = (texts, torch.bincount(table.pairs[0], minlength=images))
            t2i = (images, torch.bincount(table.pairs[1], minlength=texts))
        return chance_of(self.protocol, i2t, t2i)

    def _examples(
        self, table: Table, i2t: Tensor, t2i: Tensor
    ) -> tuple[list[Example], list[Example]]:
        images, texts, column = table.images, table.texts, table.item_column
        index, owner, place = table.index, table.item_image, table.item_place
        count = min(self.shown, len(images))
        # The middles of equal stretches of the data set, and the first caption of each.
        rows = [int((i + 0.5) * len(images) / count) for i in range(count)]
        firsts = torch.searchsorted(owner, torch.tensor(rows, device=owner.device)).tolist()
        every = self.protocol in EVERY_CAPTION
        first_of_text = first_of_each(column)[1]
        belongs = {(int(i), int(u)) for i, u in table.pairs.T.tolist()} if not every else set()

        def caption(item: int) -> tuple[int, int]:
            return int(index[owner[item]]), int(place[item])

        by_text, by_image = [], []
        for row, item in zip(rows, firsts, strict=True):
            text = int(column[item])
            score = images.scores(texts[text : text + 1][0], self.block)
            best = score.sort(descending=True, stable=True)
            near = best.indices[:5].tolist()
            by_text.append(
                Example(
                    query=caption(item),
                    answers=[(int(index[i]), 0) for i in near],
                    hits=[i == row if every else (i, text) in belongs for i in near],
                    scores=best.values[:5].tolist(),
                    rank=int(t2i[item if every else text]) + 1,
                )
            )
            score = texts.scores(images[row : row + 1][0], self.block)
            best = (score[column] if every else score).sort(descending=True, stable=True)
            near = best.indices[:5].tolist()
            items = near if every else first_of_text[near].tolist()
            hits = [
                int(owner[i]) == row if every else (row, u) in belongs
                for i, u in zip(items, near, strict=True)
            ]
            by_image.append(
                Example(
                    query=(int(index[row]), 0),
                    answers=[caption(i) for i in items],
                    hits=hits,
                    scores=best.values[:5].tolist(),
                    rank=int(i2t[row]) + 1,
                )
            )
        return by_text, by_image

    def _table(self) -> Table:
        """The gathered states in canonical order, each image and each caption once."""
        image_features, text_features = self.parts("image_features"), self.parts("text_features")
        image_index, text_image = self.held("image_index"), self.held("text_image")
        text_order, text_key = self.held("text_order"), self.held("text_key")
        if not image_features or image_index is None:
            raise ValueError("no images were given: call update before compute.")
        if not text_features or text_image is None or text_order is None or text_key is None:
            raise ValueError("no captions were given: retrieval needs at least one per image.")
        index, first = first_of_each(image_index)
        # Captions by (image, place), then without the copies of padded samples.
        places = int(text_order.max()) + 1
        number = torch.searchsorted(index, text_image) * places + text_order
        _, keep = first_of_each(number)
        item_image = torch.searchsorted(index, text_image[keep])
        # Sentences numbered by first appearance; copies share the first one's features.
        _, column = torch.unique(text_key[keep], return_inverse=True)
        _, rows = first_of_each(column)
        by_appearance = torch.argsort(rows)
        number = torch.empty_like(by_appearance)
        number[by_appearance] = torch.arange(len(rows), device=rows.device)
        column = number[column]
        pairs = torch.unique(item_image * len(rows) + column)
        return Table(
            images=Rows(image_features, first),
            index=index,
            texts=Rows(text_features, keep[rows[by_appearance]]),
            item_place=text_order[keep],
            item_column=column,
            item_image=item_image,
            pairs=torch.stack([pairs // len(rows), pairs % len(rows)]),
        )

    def _ranks(self, table: Table) -> tuple[Tensor, Tensor]:
        """[N] and [T or U]: how many candidates stand before each query's best positive."""
        _need_positive(table.item_image, len(table.images), "image", "caption")
        if self.protocol in EVERY_CAPTION:
            item = torch.arange(len(table.item_column), device=table.index.device)
            column, pairs = table.item_column, torch.stack([table.item_image, item])
        else:
            column, pairs = torch.arange(len(table.texts), device=table.index.device), table.pairs
        return ranks_both_ways(table.images, table.texts, column, pairs, block=self.block)


def _named(
    found: Iterable[tuple[list[int], list[int], list[float]]],
    queries: Sequence[tuple[int, int]],
    candidates: Sequence[tuple[int, int]],
) -> list[Ranking]:
    return [
        Ranking(query, ranks, [candidates[n] for n in best], scores)
        for query, (ranks, best, scores) in zip(queries, found, strict=True)
    ]


def _counts(table: Table) -> dict[str, int]:
    return {
        "images": len(table.images),
        "captions": len(table.item_column),
        "sentences": len(table.texts),
    }


def _need_positive(owner: Tensor, count: int, one: str, other: str) -> None:
    without = (torch.bincount(owner, minlength=count) == 0).nonzero().flatten().tolist()
    if without:
        raise ValueError(
            f"{len(without)} {one}s have no {other} (first rows: {without[:5]}); retrieval needs "
            f"at least one {other} per {one}. Leave them out or give them one."
        )
