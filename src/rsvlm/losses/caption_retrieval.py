"""The loss of a model that captions images and finds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from rsvlm.losses.contrastive import ClipLoss
from rsvlm.losses.language import cross_entropy_of


class CaptionRetrievalLoss(nn.Module):
    """FROMAGe's loss (Koh et al., 2023, arXiv 2301.13823, section 3.2), which RS-CapRet takes over.

    Cross entropy of captions behind their image, cross entropy of the same texts alone up to their
    [RET], and symmetric InfoNCE between images and [RET]s of the global batch.

    Args:
        caption: weight of the first.
        retrieval: weight of the other two.
        local_loss, chunk, label_smoothing, duplicates: of the InfoNCE, see
            `losses.contrastive.ClipLoss`.
    """

    def __init__(
        self,
        *,
        caption: float = 1.0,
        retrieval: float = 1.0,
        local_loss: bool = True,
        chunk: int | None = None,
        label_smoothing: float = 0.0,
        duplicates: str = "negatives",
    ) -> None:
        super().__init__()
        self.caption, self.retrieval = caption, retrieval
        self.contrastive = ClipLoss(
            local_loss, chunk=chunk, label_smoothing=label_smoothing, duplicates=duplicates
        )

    def forward(self, outputs: Mapping[str, Tensor], batch: Any = None) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            outputs: `logits`, `targets` of captions; `text_logits`, `text_targets` of texts alone
                (or see `cross_entropy_of`); `image_features`, `text_features`, `logit_scale`, see
                `ClipLoss`.
            batch: see `ClipLoss`.

        Returns:
            `caption`, `text` and `contrastive`, weighted scalars.
        """
        caption, text = cross_entropy_of(outputs), cross_entropy_of(outputs, "text_")
        found = self.contrastive(outputs, batch)["contrastive"]
        return {
            "caption": self.caption * caption,
            "text": self.retrieval * text,
            "contrastive": self.retrieval * found,
        }
