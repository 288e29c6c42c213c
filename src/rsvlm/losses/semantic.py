"""Captions, and the semantic maps that they are written from, learnt together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.losses.language import CaptionLoss


class CaptionAndMaps(CaptionLoss):
    """Caption cross entropy, and that of a segmentation model's maps of both dates.

    Args:
        pad: id of the padding.
        smoothing: label smoothing of the words.
        weight: of the maps' loss.
    """

    def __init__(self, pad: int = 0, *, smoothing: float = 0.0, weight: float = 1.0) -> None:
        super().__init__(pad, smoothing=smoothing)
        if weight <= 0:
            raise UserError(f"loss.weight={weight}: it must be positive; CaptionLoss has no maps.")
        self.weight = weight

    def forward(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            outputs: `logits` of the words, `semantic_logits` [B, 2, C, H, W].
            batch: as for `CaptionLoss`, and `semantic` [B, 2, H, W], class ids of both dates.

        Returns:
            `caption` and `semantic`, scalars.

        Raises:
            UserError: the model has no segmentation model, or the data no maps to learn from.
        """
        losses = super().forward(outputs, batch)
        logits = outputs.get("semantic_logits")
        if logits is None:
            raise UserError("this loss trains a segmentation model: say model.semantic_from=model.")
        if batch.semantic is None:
            raise UserError(
                "this loss trains the segmentation model on the data set's semantic maps, and "
                "there are none: use a data set with maps, or loss=caption with a trained model."
            )
        classes = logits.flatten(0, 1).float()
        return losses | {
            "semantic": self.weight * F.cross_entropy(classes, batch.semantic.flatten(0, 1))
        }
