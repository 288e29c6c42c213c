"""Losses of answers that come with masks: cross entropy, and BCE and Dice of the masks.

BCE and Dice are LISA's (Lai et al., 2024, arXiv 2308.00692), which PixelLM took over word by word;
GeoPix' configuration has the same three weights. Both are means over the masks of all processes,
however unevenly these are spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.losses.language import AnswerLoss

#: What the published Dice divides its sums by before the epsilon is added.
SCALE, EPS = 1000.0, 1e-6


def bce_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross entropy of each mask's pixels, in float32: [n].

    Args:
        logits: [n, H, W].
        masks: [n, H, W] of 0 and 1.
    """
    loss = F.binary_cross_entropy_with_logits(logits.float(), masks.float(), reduction="none")
    return loss.flatten(1).mean(1)


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 minus the Dice coefficient of each mask, in float32: [n].

    The published epsilon counts as a thousandth of a pixel, so that an empty mask has a loss just
    under 1 and nearly no gradient.

    Args:
        logits: [n, H, W].
        masks: [n, H, W] of 0 and 1.
    """
    found, true = logits.float().sigmoid().flatten(1), masks.float().flatten(1)
    both = 2 * (found / SCALE * true).sum(1)
    every = (found / SCALE).sum(1) + (true / SCALE).sum(1)
    return 1 - (both + EPS) / (every + EPS)


class AnswerAndMasksLoss(AnswerLoss):
    """Cross entropy of the answers' tokens, and BCE and Dice of their masks.

    Args:
        answer: weight of the cross entropy.
        bce: of the masks' binary cross entropy.
        dice: of the Dice loss.
        smoothing: label smoothing of the answers.
        balance: see `AnswerLoss`.

    Raises:
        UserError: a weight below 0.
    """

    def __init__(
        self,
        *,
        answer: float = 1.0,
        bce: float = 2.0,
        dice: float = 0.5,
        smoothing: float = 0.0,
        balance: float = 0.01,
    ) -> None:
        super().__init__(smoothing=smoothing, balance=balance)
        for word, weight in (("answer", answer), ("bce", bce), ("dice", dice)):
            if weight < 0:
                raise UserError(f"loss.{word}={weight}: it must be 0 or more.")
        self.answer, self.bce, self.dice = answer, bce, dice

    def forward(self, outputs: Mapping[str, Any], batch: Any) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            outputs: those of `AnswerLoss`, and `mask_logits`: for each dialogue [n, H, W], n its
                own; none at all is allowed.
            batch: `masks`, likewise, of bool.

        Returns:
            `answer`, `mask_bce` and `mask_dice`, weighted scalars; `balance` of a model with
            experts.
        """
        found = super().forward(outputs, batch)
        found["answer"] = self.answer * found["answer"]
        pairs = list(zip(outputs["mask_logits"], batch.masks, strict=True))
        for word, weight, loss in (("bce", self.bce, bce_loss), ("dice", self.dice, dice_loss)):
            rows = [
                loss(logits, masks) if len(masks) else _nothing(logits) for logits, masks in pairs
            ]
            found[f"mask_{word}"] = weight * mask_mean(rows)
        return found


def _nothing(logits: Tensor) -> Tensor:
    """No mask's loss, which still has its place in the graph: [0]."""
    return logits.float().flatten(1).sum(1)


def mask_mean(rows: Sequence[Tensor]) -> Tensor:
    """The mean over the masks of all processes, as this process's part of it.

    The published sum is divided by the number of masks and 1e-8.

    Args:
        rows: losses [n] of some images' masks; all may be empty.
    """
    losses = torch.cat(list(rows))
    count = torch.tensor(float(len(losses)), device=losses.device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return losses.sum() / (count + 1e-8)
