"""The loss of a model that answers and draws a change mask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rsvlm.losses.language import AnswerLoss
from rsvlm.nn.mask_branch import mask_loss


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
