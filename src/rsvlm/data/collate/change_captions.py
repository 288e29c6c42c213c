"""From pairs of two dates to one batch for change captioners with a word vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import SampleError
from rsvlm.data.text.vocabulary import Vocabulary


@dataclass(slots=True)
class ChangeBatch:
    """B pairs of images with their captions.

    Attributes:
        images: uint8 [B, 2, 3, H, W], before and after.
        semantic: [B, 2, H, W] long, class ids of both dates, or None where the data set has none.
        change_mask: [B, H, W] bool, or None where the data set has none.
        input_ids: [B, L] long, a caption between its start and end marks, padded behind; L = 0
            without a vocabulary.
        caption_lengths: [B] long, ids of a caption with both marks; 0 without a caption.
        changed: [B] long, 1 where something changed, 0 where nothing did, -1 where not said.
        index: [B] long, positions in the data set.
        references: for each pair all captions that the view left, B lists.
        ids: the pairs' names.
        truncated: captions that lost their end.
        unknown: words outside of the vocabulary.
        skipped: one sentence for each pair that could not be used.
    """

    images: torch.Tensor
    semantic: torch.Tensor | None
    change_mask: torch.Tensor | None
    input_ids: torch.Tensor
    caption_lengths: torch.Tensor
    changed: torch.Tensor
    index: torch.Tensor
    references: list[list[str]]
    ids: list[str]
    truncated: int
    unknown: int
    skipped: list[str]

    def __len__(self) -> int:
        """The number of pairs; 0 where none of a batch could be used."""
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ChangeBatch:
        """The batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> ChangeBatch:
        """The batch in page-locked memory; DataLoader calls this."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> ChangeBatch:
        return replace(
            self,
            images=function(self.images),
            semantic=None if self.semantic is None else function(self.semantic),
            change_mask=None if self.change_mask is None else function(self.change_mask),
            input_ids=function(self.input_ids),
            caption_lengths=function(self.caption_lengths),
            changed=function(self.changed),
            index=function(self.index),
        )


class ChangeCollate:
    """Stacks pairs and turns a caption into word ids.

    Of several captions the first one becomes ids: `TransformedDataset(caption="random")` gives
    training one of them at random, evaluation keeps all as references.

    Args:
        vocabulary: words to ids; None leaves the ids out (language models with a tokenizer of their
            own take a `ChatCollate`).
        max_words: longer captions lose their end; 50 as published, which with both marks makes 52.
        length: pad ids to this length, as published files do (52); None pads to the longest.
        need_semantic: a pair without maps is an error.
    """

    def __init__(
        self,
        vocabulary: Vocabulary | None = None,
        *,
        max_words: int = 50,
        length: int | None = None,
        need_semantic: bool = False,
    ) -> None:
        self.vocabulary, self.max_words, self.length = vocabulary, max_words, length
        self.need_semantic = need_semantic

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> ChangeBatch:
        """Collates what a `TransformedDataset` gives.

        Raises:
            SampleError: a sample is no pair, sizes differ within the batch, or only some of its
                samples have maps or masks.
        """
        kept = [item for item in items if isinstance(item, TransformedSample)]
        skipped: list[str] = []
        for item in items:
            skipped.extend(item.skipped if isinstance(item, TransformedSample) else [item.reason])
        input_ids, lengths, truncated, unknown = self._captions(kept)
        semantic = _stacked([item.sample.semantic or None for item in kept], "semantic maps", kept)
        if self.need_semantic and semantic is None and kept:
            raise SampleError(
                f"{_who(kept[0])} has no semantic maps, which this model reads beside the images: "
                "take a data set that has them (SECOND-CC, scenes with parts=[semantic])."
            )
        masks = [item.sample.meta.get("change_mask") for item in kept]
        mask = _stacked(masks, "a change mask", kept)
        flags = [item.sample.meta.get("changeflag") for item in kept]
        return ChangeBatch(
            images=_pairs(kept),
            semantic=None if semantic is None else torch.from_numpy(semantic.astype(np.int64)),
            change_mask=None if mask is None else torch.from_numpy(mask.astype(bool)),
            input_ids=input_ids,
            caption_lengths=lengths,
            changed=torch.tensor([-1 if f is None else int(f) for f in flags], dtype=torch.long),
            index=torch.tensor([item.index for item in kept], dtype=torch.long),
            references=[list(item.sample.texts) for item in kept],
            ids=[str(item.sample.meta.get("id", item.index)) for item in kept],
            truncated=truncated,
            unknown=unknown,
            skipped=skipped,
        )

    def _captions(
        self, kept: Sequence[TransformedSample]
    ) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        vocabulary = self.vocabulary
        rows: list[list[int]] = []
        truncated = unknown = 0
        for item in kept:
            if vocabulary is None or not item.sample.texts:
                rows.append([])
                continue
            ids, cut, strange = vocabulary.encode(item.sample.texts[0], self.max_words)
            truncated += cut > 0
            unknown += strange
            rows.append(ids)
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
        longest = max(map(len, rows), default=0)
        if self.length is not None and vocabulary is not None:
            if longest > self.length:
                raise SampleError(
                    f"length={self.length} does not hold max_words={self.max_words} and two marks."
                )
            longest = self.length
        pad = vocabulary.pad if vocabulary is not None else 0
        table = torch.full((len(rows), longest), pad, dtype=torch.long)
        for i, row in enumerate(rows):
            table[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        return table, lengths, truncated, unknown


def _who(item: TransformedSample) -> str:
    meta = item.sample.meta
    return f"pair {meta.get('id', item.index)!r} of {meta.get('dataset', '?')!r}"


def _pairs(items: Sequence[TransformedSample]) -> torch.Tensor:
    rows: list[torch.Tensor] = []
    for item in items:
        images = item.sample.images
        if len(images) != 2:
            raise SampleError(
                f"{_who(item)} has {len(images)} image(s); a change model takes two dates. Is this "
                "a data set with layout=before_after?"
            )
        tensors = [image for image in images if isinstance(image, torch.Tensor)]
        shapes = {tuple(t.shape) for t in tensors} | {tuple(row.shape[1:]) for row in rows[:1]}
        if len(tensors) != 2 or len(shapes) != 1:
            raise SampleError(
                f"{_who(item)} does not go into one batch: shapes {sorted(shapes)}. A transform "
                "that gives one size (Squash, Preprocess, Augment) belongs before the collate."
            )
        rows.append(torch.stack(tensors))
    return torch.stack(rows) if rows else torch.empty(0, 2, 3, 0, 0, dtype=torch.uint8)


def _stacked(
    parts: Sequence[object], what: str, items: Sequence[TransformedSample]
) -> np.ndarray | None:
    there = [part is not None for part in parts]
    if not any(there):
        return None
    if not all(there):
        with_, without = items[there.index(True)], items[there.index(False)]
        raise SampleError(f"{_who(with_)} has {what} and {_who(without)} has none.")
    return np.stack([np.asarray(part) for part in parts])
