"""Semantic maps from a model in the place of the data set's: a class for every pixel of an image.

MModalCC reads maps of both dates. Where a user has none, a segmentation model gives them: a tower
of this package or of timm with a small head, trained with the captioner, or one of
transformers with its weights. Each takes pairs [B, 2, 3, H, W], normalised with ImageNet's mean and
deviation, and
gives logits [B, 2, classes, H, W].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, extra, near


class TimmTower(nn.Module):
    """One feature map of a timm model.

    Args:
        name: timm's name of the architecture, as `resnet18` or `mobilenetv3_small_050`.
        level: which of its feature maps, counted from the finest; -1 is the coarsest.
        **options: passed on to `timm.create_model`.

    Raises:
        UserError: timm has no such model, or no maps of it.
    """

    def __init__(self, name: str, *, level: int = -1, **options: Any) -> None:
        super().__init__()
        with extra("vision"):
            import timm

        known = timm.list_models()
        if name not in known:
            raise UserError(f"timm has no model {name!r}. {near(name, known)}")
        options = {"pretrained": False, "features_only": True} | options
        body: Any = timm.create_model(name, **options)
        channels = list(body.feature_info.channels())
        self.body, self.level = body, level
        if not -len(channels) <= level < len(channels):
            raise UserError(f"level={level}: {name} has {len(channels)} feature maps.")
        self.dim = int(channels[level])

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, dim, h, w]."""
        return self.body(images)[self.level]


class Segmenter(nn.Module):
    """A tower, run on each date, and a head of two convolutions, resized to the image.

    Args:
        encoder: [N, 3, H, W] to [N, dim, h, w].
        classes: number of classes.
        width: channels of the head.
        paired: the head of a date sees the other date's features too. Data sets that leave what
            did not change unlabelled (SECOND) can be learnt in no other way.
    """

    def __init__(
        self, encoder: nn.Module, classes: int, *, width: int = 64, paired: bool = True
    ) -> None:
        super().__init__()
        if classes < 2:
            raise UserError(f"classes={classes}: a segmentation model needs two at least.")
        self.encoder, self.classes, self.paired = encoder, classes, paired
        into = int(encoder.dim) * (2 if paired else 1)  # type: ignore[arg-type]
        self.head = nn.Sequential(
            nn.Conv2d(into, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, classes, 1),
        )

    def forward(self, pairs: Tensor) -> Tensor:
        """[B, 2, 3, H, W] to logits [B, 2, classes, H, W]."""
        features = self.encoder(pairs.flatten(0, 1)).unflatten(0, pairs.shape[:2])
        if self.paired:
            features = torch.cat([features, features.flip(1)], dim=2)
        return _resized(self.head(features.flatten(0, 1)), pairs)


class HuggingFaceSegmenter(nn.Module):
    """A semantic segmentation model of transformers (SegFormer, UperNet, ...).

    Args:
        weights: a folder that `save_pretrained` wrote, or None for random weights.
        config: `model_type` and sizes for random weights.

    Raises:
        UserError: neither or both are given, or there is no such folder.
    """

    def __init__(
        self, weights: str | Path | None = None, *, config: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        with extra("language"):
            from transformers import AutoConfig, AutoModelForSemanticSegmentation

        if (weights is None) == (config is None):
            raise UserError(
                "a segmentation model of transformers needs weights=<folder>, or config= with its "
                "model_type and sizes for random weights."
            )
        if weights is not None:
            if not (Path(weights) / "config.json").is_file():
                raise UserError(f"{weights} is no folder with a model of transformers in it.")
            self.body = AutoModelForSemanticSegmentation.from_pretrained(weights)
        else:
            made = AutoConfig.for_model(**dict(config or {}))
            self.body = AutoModelForSemanticSegmentation.from_config(made)
        self.classes = int(self.body.config.num_labels)

    def forward(self, pairs: Tensor) -> Tensor:
        """[B, 2, 3, H, W] to logits [B, 2, classes, H, W]; each date by itself."""
        return _resized(self.body(pixel_values=pairs.flatten(0, 1)).logits, pairs)


def _resized(logits: Tensor, pairs: Tensor) -> Tensor:
    """[B * 2, C, h, w] at the size of the images, [B, 2, C, H, W]."""
    size = list(pairs.shape[-2:])
    logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits.unflatten(0, pairs.shape[:2])


def map_ids(logits: Tensor) -> Tensor:
    """The likeliest class of each pixel, without gradient: [..., C, H, W] to long [..., H, W]."""
    return logits.detach().argmax(-3)
