"""DeltaVLM's mask branch: from the difference of two dates' features to a change mask.

It stands in the published code (hanlinwu/DeltaVLM 6c9bd60, `mask_decoder.py`,
`blip2_vicua_mask.py`), which no configuration reaches, and not in the paper. The published call
fails on a misnamed argument, and its loss on probabilities is unsafe in half precision; here the
branch gives logits. No weights are published.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, near

VARIANTS = ("released", "paper")


class FeatureUnification(nn.Module):
    """Channels of any number to `bases` maps: how much each of some learned windows answers.

    Every channel meets every base (the mean over the window's pixels inside of the image); a
    softmax over the bases, then the mean over the channels.

    Args:
        bases: number of learned windows.
        size: side of a window, pixels of the grid.
        variant: `paper` does what is said above. `released` reads the answers, which lie by
            channel and base, as if they lay by base and channel, so that softmax and mean run over
            mixtures of both, as the published code does.
    """

    def __init__(self, bases: int, size: int = 5, *, variant: str = "released") -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"mask branch: variant={variant!r}. {near(variant, VARIANTS)}")
        self.variant = variant
        self.basis = nn.Parameter(torch.empty(bases, 1, size, size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the windows afresh."""
        nn.init.normal_(self.basis, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, C, H, W] to [B, bases, H, W]."""
        batch, channels, height, width = x.shape
        bases, _, size, _ = self.basis.shape
        answers = F.conv2d(x.reshape(-1, 1, height, width), self.basis, padding=size // 2)
        box = torch.ones(1, 1, size, size, dtype=x.dtype, device=x.device)
        inside = F.conv2d(torch.ones_like(x[:1, :1]), box, padding=size // 2)
        answers = answers / inside
        if self.variant == "released":
            mixed = answers.reshape(batch, bases, channels, height, width)
            return mixed.softmax(1).mean(2)
        return answers.reshape(batch, channels, bases, height, width).softmax(2).mean(1)


class ResBlock(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(8, dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(8, dim)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, dim, H, W]."""
        y = F.silu(self.norm1(self.conv1(x)))
        return F.silu(x + self.norm2(self.conv2(y)))


class WindowAttention(nn.Module):
    """Self-attention within windows, with learned biases of relative places, pre-norm, residual.

    Args:
        dim: channels.
        size: side of a window; maps that it does not divide are padded, and the padding not seen.
        heads: attention heads.
    """

    def __init__(self, dim: int, size: int = 7, heads: int = 4) -> None:
        super().__init__()
        self.size, self.heads = size, heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros((2 * size - 1) ** 2, heads))

    def _places(self, device: torch.device) -> Tensor:
        """Row of `bias` for each pair of a window's pixels, [size^2, size^2]."""
        axis = torch.arange(self.size, device=device)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
        apart = grid[:, :, None] - grid[:, None, :] + self.size - 1
        return apart[0] * (2 * self.size - 1) + apart[1]

    def _windows(self, x: Tensor) -> Tensor:
        """[B, H, W, C] to [B * windows, size^2, C]."""
        batch, high, wide, channels = x.shape
        s = self.size
        x = x.reshape(batch, high // s, s, wide // s, s, channels).transpose(2, 3)
        return x.reshape(-1, s * s, channels)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, dim, H, W]."""
        batch, dim, height, width = x.shape
        s = self.size
        high, wide = math.ceil(height / s) * s, math.ceil(width / s) * s
        margin = (0, 0, 0, wide - width, 0, high - height)
        tokens = self.norm(x.permute(0, 2, 3, 1))
        q, k, v = self.qkv(self._windows(F.pad(tokens, margin))).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        mask = self.bias[self._places(x.device)].permute(2, 0, 1)[None].to(q.dtype)
        if high * wide != height * width:
            there = F.pad(torch.ones_like(tokens[..., :1]), margin)
            seen = self._windows(there).transpose(1, 2)[:, None] > 0
            mask = mask.masked_fill(~seen, float("-inf"))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = self.proj(y.transpose(1, 2).flatten(2))
        y = y.reshape(batch, high // s, wide // s, s, s, dim).transpose(2, 3)
        y = y.reshape(batch, high, wide, dim)[:, :height, :width]
        return x + y.permute(0, 3, 1, 2)


class Upsample(nn.Module):
    """Twice the size: transposed convolution, residual block, attention within windows."""

    def __init__(self, dim_in: int, dim_out: int, *, window: int | None) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(dim_in, dim_out, 4, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, dim_out)
        self.block = ResBlock(dim_out)
        self.attention = WindowAttention(dim_out, window) if window else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, dim_in, H, W] to [B, dim_out, 2 H, 2 W]."""
        x = self.block(F.silu(self.norm(self.up(x))))
        return x if self.attention is None else self.attention(x)


class MaskHead(nn.Module):
    """Features of two dates to logits of a change mask.

    Args:
        bases: maps after the unification.
        widths: channels after each doubling of the size.
        window: side of the attention's windows; the last doubling has none.
        size: side of the mask, pixels.
        variant: of the unification.
    """

    def __init__(
        self,
        *,
        bases: int = 128,
        widths: Sequence[int] = (64, 32, 32, 32),
        window: int = 7,
        size: int = 256,
        variant: str = "released",
    ) -> None:
        super().__init__()
        self.size = size
        self.unify = FeatureUnification(bases, variant=variant)
        self.conv = nn.Conv2d(bases, bases, 3, padding=1)
        self.norm = nn.GroupNorm(8, bases)
        self.block = ResBlock(bases)
        self.ups = nn.ModuleList(
            Upsample(before, after, window=window if i < len(widths) - 1 else None)
            for i, (before, after) in enumerate(zip((bases, *widths[:-1]), widths, strict=True))
        )
        last = widths[-1]
        self.head = nn.Sequential(
            nn.Conv2d(last, last, 3, padding=1),
            nn.GroupNorm(8, last),
            nn.SiLU(),
            nn.Conv2d(last, 1, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, size, size]; above 0 is changed.

        Args:
            features: [B, 2, 1 + G * G, D], before and after, class tokens first.
        """
        difference = (features[:, 1] - features[:, 0])[:, 1:]
        side = math.isqrt(difference.shape[1])
        x = difference.transpose(1, 2).unflatten(2, (side, side))
        x = self.block(F.silu(self.norm(self.conv(self.unify(x)))))
        for up in self.ups:
            x = up(x)
        x = self.head(x)
        if x.shape[-1] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", align_corners=False)
        return x[:, 0]
