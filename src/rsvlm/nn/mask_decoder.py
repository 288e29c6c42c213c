"""Masks from prompts: SAM's mask decoder for any number of images with any number of objects each.

Kirillov et al., 2023, "Segment Anything" (arXiv 2304.02643), and its multi-scale form of PixelLM
(Ren et al., 2024, arXiv 2312.02228), which GeoPix took over. The two-way transformer and the prompt
encoder are those of the package `segment_anything`; its own decoder repeats each image for each
prompt, so that it takes one image at a time, and ours takes one image for each object instead.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, extra


def sam() -> Any:
    """The package `segment_anything.modeling`.

    Raises:
        UserError: it is not installed.
    """
    with extra("pixel"):
        from segment_anything import modeling
    return modeling


def _norm(dim: int) -> nn.Module:
    with extra("pixel"):
        from segment_anything.modeling.common import LayerNorm2d

    return LayerNorm2d(dim)


def _exact(positions: Callable[..., Tensor], *args: Any) -> Tensor:
    """Positions outside of autocast: angles of several turns in half precision are off by 0.1."""
    with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
        return positions(*args)


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        dim_in: width of the input.
        hidden: width of the inner layers.
        dim_out: width of the output.
        depth: number of layers.
    """

    def __init__(self, dim_in: int, hidden: int, dim_out: int, depth: int = 3) -> None:
        super().__init__()
        widths = [dim_in, *[hidden] * (depth - 1), dim_out]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """X [..., dim_in] to [..., dim_out]."""
        for i, layer in enumerate(self.layers):
            x = layer(x) if i == len(self.layers) - 1 else F.relu(layer(x))
        return x


class PromptEncoder(nn.Module):
    """SAM's prompt encoder, of which prompts that are vectors already use two things.

    Its points, boxes and masks are kept as published files have them, and not trained.

    Args:
        dim: width.
        grid: side of the image features.
        image_size: side of the image, pixels.
        mask_channels: of the mask prompt's convolutions.
        train: train what a missing mask is given as.
    """

    def __init__(
        self, dim: int, grid: int, image_size: int, *, mask_channels: int = 16, train: bool = True
    ) -> None:
        super().__init__()
        self.encoder = sam().PromptEncoder(
            embed_dim=dim,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=mask_channels,
        )
        self.encoder.requires_grad_(False)
        self.encoder.no_mask_embed.requires_grad_(train)

    def dense(self) -> Tensor:
        """What is added where no mask is given, [1, dim, 1, 1]."""
        return self.encoder.no_mask_embed.weight[..., None, None]

    def positions(self) -> Tensor:
        """Positions of the grid, [1, dim, grid, grid]."""
        return _exact(self.encoder.get_dense_pe)


class MaskDecoder(nn.Module):
    """A prompt and an image's features to a mask, at one of several levels.

    A level above the first doubles the side of the features and weighs them by the mask of the
    level before. Levels have transformers of their own and share everything else. What no output
    depends on (the masks that SAM gives beside the first, and its scores) is not trained.

    Args:
        dim: width.
        depth: layers of a two-way transformer.
        heads: its attention heads.
        mlp_dim: width of its MLPs.
        levels: scales; 1 is SAM's decoder.
        upscale: how much larger than the features a mask is, 2 or 4.
        masks: mask tokens.
        score_hidden: width of the score's MLP.
        score_depth: its layers.

    Raises:
        UserError: another `upscale`, or no level.
    """

    def __init__(
        self,
        dim: int = 256,
        *,
        depth: int = 2,
        heads: int = 8,
        mlp_dim: int = 2048,
        levels: int = 2,
        upscale: int = 2,
        masks: int = 4,
        score_hidden: int = 256,
        score_depth: int = 3,
    ) -> None:
        super().__init__()
        if levels < 1 or upscale not in (2, 4):
            raise UserError(
                f"levels={levels}, upscale={upscale}: a mask decoder has one level or more, and "
                "enlarges 2 or 4 times."
            )
        build = sam().TwoWayTransformer
        self.levels, self.upscale = levels, upscale
        self.transformers = nn.ModuleList(
            build(depth=depth, embedding_dim=dim, num_heads=heads, mlp_dim=mlp_dim)
            for _ in range(levels)
        )
        self.score_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(masks, dim)
        up = nn.ConvTranspose2d
        if upscale == 2:
            steps = [up(dim, dim // 8, 2, 2), _norm(dim // 8), nn.GELU()]
        else:
            steps = [up(dim, dim // 4, 2, 2), _norm(dim // 4), nn.GELU()]
            steps += [up(dim // 4, dim // 8, 2, 2), nn.GELU()]
        self.upscaling = nn.Sequential(*steps)
        self.hyper = nn.ModuleList(Mlp(dim, dim, dim // 8) for _ in range(masks))
        self.score = Mlp(dim, score_hidden, masks, score_depth)
        if levels > 1:
            with extra("pixel"):
                from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom

            self.upsample = nn.Sequential(up(dim, dim, 2, 2), _norm(dim), nn.GELU())
            self.pe = PositionEmbeddingRandom(dim // 2)
            self.level_embed = nn.Embedding(levels, dim)
        self.hyper[1:].requires_grad_(False)
        self.score.requires_grad_(False)

    def forward(
        self,
        images: Tensor,
        prompts: Tensor,
        positions: Tensor,
        dense: Tensor,
        *,
        level: int = 0,
        before: Tensor | None = None,
        every: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Masks of n objects.

        Args:
            images: [n, dim, h, w], for each object the features of its image.
            prompts: [n, P, dim].
            positions: [1, dim, h, w], of the first level.
            dense: [1, dim, 1, 1], see `PromptEncoder`.
            level: which.
            before: logits [n, 1, h', w'] of the level before; only above the first.
            every: give the masks of all mask tokens, not the first one's alone.

        Returns:
            Logits [n, m, H, W] and scores [n, m]; H is `upscale` times the features' side.
        """
        count = len(images)
        tokens = torch.cat([self.score_token.weight, self.mask_tokens.weight])
        tokens = torch.cat([tokens.expand(count, -1, -1).to(prompts.dtype), prompts], dim=1)
        if self.levels > 1:
            tokens = tokens + self.level_embed.weight[level]
        if level:
            images = self.upsample(images)
            assert before is not None
            size = images.shape[-2:]
            if before.shape[-2:] != size:
                before = F.interpolate(before, size, mode="bilinear", align_corners=False)
            images = images * (1 + before.mean(1, keepdim=True).sigmoid())
            positions = _exact(self.pe, tuple(size))[None]
        images = images + dense
        _, dim, high, wide = images.shape
        positions = positions.to(images.dtype).expand(count, -1, -1, -1)
        read, seen = self.transformers[level](images, positions, tokens)
        enlarged = self.upscaling(seen.transpose(1, 2).reshape(count, dim, high, wide))
        used = len(self.hyper) if every else 1
        weights = torch.stack([self.hyper[i](read[:, 1 + i]) for i in range(used)], dim=1)
        masks = torch.einsum("nmc,nchw->nmhw", weights, enlarged)
        return masks, self.score(read[:, 0])[:, :used]
