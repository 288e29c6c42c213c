"""Answers, and pairs and answers that belong together (BLIP-2's image-text contrast)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.losses.contrastive import gather
from rsvlm.losses.language import AnswerLoss


class AnswerAndContrastLoss(AnswerLoss):
    """`AnswerLoss`, and a contrastive term over all processes.

    An image's similarity to a text is that of the query nearest to it (BLIP-2, section 3.1); the
    term is the mean of the cross entropies of both directions, label smoothing 0.1 as in LAVIS.

    Args:
        weight: of the contrastive term.
        contrast_smoothing: its label smoothing.
        **options: see `AnswerLoss`.
    """

    def __init__(
        self, *, weight: float = 1.0, contrast_smoothing: float = 0.1, **options: Any
    ) -> None:
        super().__init__(**options)
        if weight < 0:
            raise UserError(f"loss.weight={weight}: it must be 0 or more.")
        self.weight, self.contrast_smoothing = weight, contrast_smoothing

    def forward(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            outputs: see `AnswerLoss`; `contrast_images` [B, Q, E], `contrast_texts` [B, E] and
                `contrast_temp` of a model with a contrast head.
            batch: not read.

        Returns:
            `answer`, and `contrast`, weighted.

        Raises:
            UserError: the model has no contrast head.
        """
        if "contrast_images" not in outputs:
            raise UserError(
                "loss=answer_and_contrast needs a model with a contrast head: "
                "'model.contrast={_target_: rsvlm.models.deltavlm.contrastive_head."
                "ContrastiveHead, _partial_: true}' with model=deltavlm."
            )
        images, texts = outputs["contrast_images"].float(), outputs["contrast_texts"].float()
        first, every_image, every_text = 0, images, texts
        if dist.is_available() and dist.is_initialized():
            first = dist.get_rank() * len(images)
            every_image, every_text = gather(images), gather(texts)
        temp = outputs["contrast_temp"].float()
        to_text = torch.einsum("bqe,te->bqt", images, every_text).amax(1) / temp
        to_image = torch.einsum("te,bqe->tbq", texts, every_image).amax(2) / temp
        targets = torch.arange(first, first + len(images), device=images.device)
        both = [
            F.cross_entropy(scores, targets, label_smoothing=self.contrast_smoothing)
            for scores in (to_text, to_image)
        ]
        term = torch.stack(both).mean()
        return {**super().forward(outputs, batch), "contrast": self.weight * term}
