"""The loss of a model that answers and draws a change mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rsvlm.losses.language import AnswerLoss


class AnswerAndMaskLoss(AnswerLoss):
    """Cross entropy of the answers' tokens, and of the pixels that changed.

    Args:
        weight: of the mask's term.
        positive: how often a changed pixel counts; 2 as published.
        smoothing: label smoothing of the answers.
    """

    def __init__(
        self, *, weight: float = 1.0, positive: float = 2.0, smoothing: float = 0.0
    ) -> None:
        super().__init__(smoothing=smoothing)
        self.weight, self.positive = weight, positive

    def forward(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            outputs: `logits` and `targets` of the answers, `change_logits` [B, S, S].
            batch: `change_mask` [B, H, W].

        Returns:
            `answer` and `change_mask`, scalars.
        """
        drawn = mask_loss(outputs["change_logits"], batch.change_mask, positive=self.positive)
        return {**super().forward(outputs, batch), "change_mask": self.weight * drawn}


def mask_loss(logits: Tensor, mask: Tensor, *, positive: float = 2.0) -> Tensor:
    """Binary cross entropy in float32, changed pixels counting `positive` times; the mean.

    Args:
        logits: [B, S, S].
        mask: [B, H, W], not 0 where something changed; taken to S x S by the nearest pixel.
        positive: 2 as published.
    """
    target: Any = (mask != 0).float()[:, None]
    if target.shape[-2:] != logits.shape[-2:]:
        target = F.interpolate(target, logits.shape[-2:], mode="nearest")
    weight = logits.new_tensor(positive, dtype=torch.float32)
    return F.binary_cross_entropy_with_logits(logits.float(), target[:, 0], pos_weight=weight)
