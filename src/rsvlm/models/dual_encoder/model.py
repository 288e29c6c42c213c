"""A contrastive model of two pretrained towers: both are frozen, and two heads learn one space.

The contrast of CLIP (Radford et al., 2021, arXiv 2103.00020) between parts that were pretrained
apart, as LiT does for the image side (Zhai et al., 2022, arXiv 2111.07991). Since the picture's
tower is frozen, its tokens are computed once (`nn.feature_cache`) and an epoch costs the heads
alone. The form of the heads is ours: the grid's mean and maximum, standardised, through two linear
layers; a sentence's frozen vector and its learned words through two.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.data.transforms import Preprocess
from rsvlm.nn.feature_cache import cache_of


def _mlp(into: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(into, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, out),
    )


class ImageHead(nn.Module):
    """Tokens [N, T, dim_in] of a frozen tower, the first of them for the whole, to [N, dim_out].

    Args:
        dim_in: width of the tower.
        dim_out: numbers of a feature.
        hidden: width between the layers.
        dropout: before each of them.
    """

    def __init__(self, dim_in: int, dim_out: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        # Channels of a backbone differ in scale by orders of magnitude; this brings each to one.
        self.norm = nn.BatchNorm1d(dim_in, affine=False)
        self.layers = _mlp(2 * dim_in, hidden, dim_out, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """See above."""
        tokens = self.norm(tokens.transpose(1, 2)).transpose(1, 2)
        return self.layers(torch.cat([tokens[:, 0], tokens[:, 1:].amax(1)], dim=1))


class DualEncoder(nn.Module):
    """See the head of this file.

    Args:
        vision: a frozen tower, `vision(images) -> [N, T, vision.dim]`, as `encoders.timm_grid`.
        text: `text(input_ids) -> [T, text.dim]`, as `encoders.sentences`.
        dim: numbers of a feature.
        hidden: width of both heads; an image's is twice that.
        dropout: of the image's head.
        text_dropout: of the text's head.
        logit_scale: initial logarithm of the temperature's inverse.
        cache_gib: memory in which the frozen features of pictures are kept, GiB; 0 keeps none.
        cache_folder: a folder in which they stay for other runs; None keeps them in memory alone.
    """

    dialects: tuple[Dialect, ...] = ()

    def __init__(
        self,
        vision: nn.Module,
        text: nn.Module,
        *,
        dim: int = 256,
        hidden: int = 512,
        dropout: float = 0.2,
        text_dropout: float = 0.1,
        logit_scale: float = math.log(1 / 0.07),
        cache_gib: float = 0.0,
        cache_folder: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.vision: Any = cast("Any", vision.requires_grad_(False))
        self.text: Any = cast("Any", text)
        self.image_head = ImageHead(self.vision.dim, dim, hidden=2 * hidden, dropout=dropout)
        self.text_head = _mlp(self.text.dim, hidden, dim, text_dropout)
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.cache = cache_of(self.vision, cache_gib, cache_folder)

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        return self.vision.image_size

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to uint8 [3, S, S]; normalisation is the tower's own."""
        return Preprocess(self.image_size, interpolation=self.vision.interpolation)

    @property
    def tokenizer(self) -> Any:
        """Texts to ids, as the text tower reads them."""
        return self.text.tokenizer

    @torch.no_grad()
    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """Keeps the temperature's inverse in [1, maximum]; called after each step."""
        self.logit_scale.clamp_(0, math.log(maximum))

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Features [N, dim] of images [N, 3, S, S]; `normalize` gives unit length."""
        if self.cache is None:
            features = self.vision.features_to(images, 1)
        else:
            features = self.cache(images, lambda new: self.vision.features_to(new, 1))
        found = self.image_head(self.vision.from_features(features, 1))
        return F.normalize(found.float(), dim=-1) if normalize else found

    def encode_text(self, input_ids: Tensor, normalize: bool = False) -> Tensor:
        """Features [T, dim] of ids [T, L] of `tokenizer`; likewise."""
        found = self.text_head(self.text(input_ids))
        return F.normalize(found.float(), dim=-1) if normalize else found

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """What `losses.contrastive` takes.

        Args:
            batch: has `images` [B, 3, S, S] and `input_ids` [T, L].

        Returns:
            `image_features` [B, dim] and `text_features` [T, dim] of unit length, `logit_scale`
            (the factor itself).
        """
        return {
            "image_features": self.encode_image(batch.images, normalize=True),
            "text_features": self.encode_text(batch.input_ids, normalize=True),
            "logit_scale": self.logit_scale.exp(),
        }
