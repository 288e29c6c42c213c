"""From items to one typed batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import SampleError


class Tokenizer(Protocol):
    """open_clip's tokenizers: ids padded with 0, end-of-text the largest id, cut in silence."""

    def __call__(self, texts: list[str], context_length: int) -> torch.Tensor:
        """Ids [T, context_length], long."""
        ...


@dataclass(slots=True)
class PairBatch:
    """Images and texts that belong together: B images, T texts.

    Attributes:
        images: uint8 [B, 3, H, W].
        input_ids: [T, L] long, padded with 0; T = B in training, all captions in evaluation.
        image_of_text: [T] long, the row of a text's image within the batch.
        index: [B] long, the images' positions in the data set.
        label: [B] long, the scene class, -1 where there is none.
        texts: the T captions.
        ids: the B images' names.
        truncated: how many of the T captions were cut to fit the context.
        skipped: one sentence for each image that could not be used.
    """

    images: torch.Tensor
    input_ids: torch.Tensor
    image_of_text: torch.Tensor
    index: torch.Tensor
    label: torch.Tensor
    texts: list[str]
    ids: list[str]
    truncated: int
    skipped: list[str]

    def __len__(self) -> int:
        """The number of images; 0 where none of a batch could be used."""
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PairBatch:
        """The batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> PairBatch:
        """The batch in page-locked memory; DataLoader calls this."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> PairBatch:
        return replace(
            self,
            images=function(self.images),
            input_ids=function(self.input_ids),
            image_of_text=function(self.image_of_text),
            index=function(self.index),
            label=function(self.label),
        )


class PairCollate:
    """Stacks images and tokenises captions.

    Trimming cuts the padding behind the longest text, up to a multiple of 8 for the kernels. A
    causal text tower never looks past end-of-text, so its features are exactly the same.

    Token ids are kept by caption, at most `remember` of them: data sets of a few captions per
    image are tokenised once per worker.

    Args:
        tokenizer: texts to ids [T, context_length].
        max_text: longest text in tokens; by default the tokenizer's `context_length`, or 77.
            Longer ones are cut, keep end-of-text as their last token, and are counted.
        trim: see above; without it L is `max_text`.
        all_texts: all captions of a sample (evaluation), instead of exactly one (training).
        prompt: wraps a caption before it is tokenised; the batch keeps the bare caption.
        remember: captions whose ids are kept.
    """

    def __init__(
        self,
        tokenizer: Tokenizer | Any,
        max_text: int | None = None,
        *,
        trim: bool = True,
        all_texts: bool = False,
        prompt: Callable[[str], str] | None = None,
        remember: int = 500_000,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_text = max_text or getattr(tokenizer, "context_length", None) or 77
        self.trim, self.all_texts, self.prompt, self.remember = trim, all_texts, prompt, remember
        self._known: dict[str, tuple[np.ndarray, bool]] = {}

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> PairBatch:
        """Collates what a `TransformedDataset` gives.

        Raises:
            SampleError: a sample has not exactly one caption in training, or the images' sizes
                differ.
        """
        kept = [item for item in items if isinstance(item, TransformedSample)]
        skipped: list[str] = []
        for item in items:
            skipped.extend(item.skipped if isinstance(item, TransformedSample) else [item.reason])
        for item in kept:
            if not self.all_texts and len(item.sample.texts) != 1:
                raise SampleError(
                    f"sample {item.sample.meta.get('id', item.index)!r} of "
                    f"{item.sample.meta.get('dataset', '?')!r} has {len(item.sample.texts)} "
                    "captions where one is needed: View(caption='random' or 'first') chooses one, "
                    "PairCollate(all_texts=True) takes any number."
                )
        texts = [text for item in kept for text in item.sample.texts]
        owners = [row for row, item in enumerate(kept) for _ in item.sample.texts]
        input_ids, truncated = self.tokenize(texts)
        return PairBatch(
            images=_stack(kept),
            input_ids=input_ids,
            image_of_text=torch.tensor(owners, dtype=torch.long),
            index=torch.tensor([item.index for item in kept], dtype=torch.long),
            label=torch.tensor(
                [-1 if item.sample.label is None else item.sample.label for item in kept],
                dtype=torch.long,
            ),
            texts=texts,
            ids=[str(item.sample.meta.get("id", item.index)) for item in kept],
            truncated=truncated,
            skipped=skipped,
        )

    def tokenize(self, texts: Sequence[str]) -> tuple[torch.Tensor, int]:
        """Ids [T, L] of bare captions, and how many of them were cut."""
        rows: list[np.ndarray] = []
        truncated = 0
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        ids = dict(zip(fresh, self._encode(fresh), strict=True)) if fresh else {}
        for text in texts:
            row, cut = ids[text] if text in ids else self._known[text]
            rows.append(row)
            truncated += cut
        for text, entry in ids.items():
            if len(self._known) >= self.remember:
                self._known.pop(next(iter(self._known)), None)  # the oldest
            self._known[text] = entry
        length = self.max_text
        if self.trim:
            longest = max(map(len, rows), default=1)
            length = min(length, -(-longest // 8) * 8)
        out = np.zeros((len(rows), length), dtype=np.int64)
        for i, row in enumerate(rows):
            out[i, : len(row)] = row
        return torch.from_numpy(out), truncated

    def _encode(self, texts: list[str]) -> list[tuple[np.ndarray, bool]]:
        prompted = [self.prompt(text) for text in texts] if self.prompt else texts
        table = self.tokenizer(prompted, context_length=self.max_text).numpy()
        # End-of-text is the largest id of the vocabulary; CLIP finds it the same way.
        ends = table.argmax(axis=1)
        entries = []
        for row, end, text in zip(table, ends, prompted, strict=True):
            cut = False
            if end == self.max_text - 1:
                # Full: either it just fits, or the tokenizer cut it, which it does not say.
                longer = self.tokenizer([text], context_length=self.max_text + 1)
                cut = bool(longer[0, self.max_text] != 0)
            entries.append((row[: end + 1].astype(np.int32), cut))
        return entries


def _stack(items: Sequence[TransformedSample]) -> torch.Tensor:
    images: list[torch.Tensor] = []
    for item in items:
        image = item.sample.images[0]
        if not isinstance(image, torch.Tensor) or (images and image.shape != images[0].shape):
            first = f" with {_who(items[0])} of {list(images[0].shape)}" if images else ""
            size = list(image.shape) if isinstance(image, torch.Tensor) else "no tensor"
            raise SampleError(
                f"image {_who(item)} ({size}) does not go into one batch{first}. A transform that "
                "gives one size, Preprocess(size) or Augment(size), belongs before the collate."
            )
        images.append(image)
    return torch.stack(images) if images else torch.empty(0, 3, 0, 0, dtype=torch.uint8)


def _who(item: TransformedSample) -> str:
    return repr(item.sample.meta.get("id", item.index))
