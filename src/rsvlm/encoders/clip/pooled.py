"""CLIP's image tower as the vision tower of a language model that reads one vector an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsvlm.encoders.clip.towers import VisionTransformer
from rsvlm.encoders.clip.vision_tower import ClipTower

__all__ = ["ClipPooled"]


class ClipPooled(ClipTower):
    """Images to one token each, [N, 1, dim]: the class token after the last norm, unprojected.

    That is `pooler_output` of transformers' CLIPVisionModel; a ResNet gives its pooled features.
    The projection stays and is not used.

    Args:
        arch: see `ClipTower`; with `embed_dim` where these are numbers.
        activation: see `ClipTower`.
        image_size: another side than the architecture's own, pixels.
        mean: see `ClipTower`.
        std: see `ClipTower`.
        weights: see `ClipTower`.
        device: where to build; `meta` makes no weights.
    """

    tokens = 1

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "ViT-L-14",
        *,
        activation: str | None = None,
        image_size: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        weights: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(
            arch,
            activation=activation,
            image_size=image_size,
            mean=mean,
            std=std,
            weights=weights,
            projection=True,
            device=device,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, 1, dim] of images [N, 3, S, S], see `normalised`."""
        images = self.normalised(images)
        if isinstance(self.tower, VisionTransformer):
            return self.tower.pooled(images)[:, None]
        return self.tower(images)[:, None]
