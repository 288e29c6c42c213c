"""Dialogues on two dates with the mask of what changed, for models that answer and draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rsvlm.data.collate.chat import ChatCollate
from rsvlm.data.collate.chat_batch import ChatBatch
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import SampleError


@dataclass(slots=True)
class ChangeChatBatch(ChatBatch):
    """A `ChatBatch` with a change mask for each dialogue.

    Attributes:
        change_mask: bool [B, H, W], in the frame of the images as the model sees them; empty where
            the samples have none, which only generation allows.
    """

    change_mask: torch.Tensor


class ChangeChatCollate(ChatCollate):
    """A `ChatCollate` that brings `meta["change_mask"]` along."""

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> ChangeChatBatch:
        """Collates what a `TransformedDataset` gives.

        Raises:
            SampleError: a training sample has no change mask; and what `ChatCollate` raises.
        """
        rows, skipped, lost = self.rows(items)
        masks = [row.item.sample.meta.get("change_mask") for row in rows]
        lacking = [row for row, mask in zip(rows, masks, strict=True) if mask is None]
        if lacking and not self.generation:
            meta = lacking[0].item.sample.meta
            raise SampleError(
                f"sample {meta.get('id', '?')!r} of {meta.get('dataset', '?')!r} has no change "
                "mask, which the mask branch learns from: take a data set that has them "
                "(LEVIR-MCI, scenes with parts=[semantic]), or model.mask_head=null."
            )
        there = [torch.from_numpy(np.asarray(mask) != 0) for mask in masks if mask is not None]
        whole = torch.stack(there) if there and not lacking else torch.empty(0, 0, 0).bool()
        return ChangeChatBatch(**self.fields(rows, skipped, lost), change_mask=whole)
