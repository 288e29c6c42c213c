"""GeoPix's class-wise learnable memory (Ou et al., 2025, arXiv 2501.06828).

For each class and each scale a bank of feature maps is learned; features of the image read the bank
of an object's class before its mask is drawn.

- `released` computes what the published code does (Norman-Ou/GeoPix 4ae9a35): the results of both
  attentions and of the feed-forward are thrown away, so that features become LayerNorm((1 + scale)
  x), and neither bank nor encoder has any effect. Nothing but the scale and that norm is trained.
- `paper` is what its text describes: features attend over space to themselves and then to the bank
  and to the encoded first mask, each with a residual, and a feed-forward follows. Order and norms
  are SAM 2's (Ravi et al., 2024), from which the released file was derived.
- `none` leaves the features alone and has no parameters.

`released` and `paper` hold the same tensors. The published size is 75 classes x 2 levels x 64 maps
of 64 x 32 x 32, 629,145,600 numbers.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, near
from rsvlm.nn.image_necks import StoredBatchNorm, norm_of

VARIANTS = ("paper", "released", "none")


class _Block(nn.Module):
    """A residual block of the mask's encoder."""

    def __init__(self, dim_in: int, dim_out: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim_in, dim_out, 3, stride, 1, bias=False)
        self.bn1 = norm_of(norm, dim_out)
        self.conv2 = nn.Conv2d(dim_out, dim_out, 3, 1, 1, bias=False)
        self.bn2 = norm_of(norm, dim_out)
        self.downsample = nn.Sequential(
            nn.Conv2d(dim_in, dim_out, 1, stride, bias=False), norm_of(norm, dim_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        """X [n, dim_in, H, W]."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class _Sampler(nn.Module):
    """A mask to a quarter of its side."""

    def __init__(self, dim: int, norm: str) -> None:
        super().__init__()
        self.layer1 = _Block(1, dim // 4, 2, norm)
        self.layer2 = _Block(dim // 4, dim // 2, 2, norm)
        self.layer3 = _Block(dim // 2, dim, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        """X [n, 1, H, W] to [n, dim, H / 4, W / 4]."""
        return self.layer3(self.layer2(self.layer1(x)))


class _ConvNeXt(nn.Module):
    """SAM 2's fuser: a ConvNeXt block of one dimension."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.full((dim,), 1e-6))
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = norm_of("layer", dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """X [n, dim, h, w]."""
        y = self.norm(self.dwconv(x)).permute(0, 2, 3, 1)
        y = self.gate * self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y.permute(0, 3, 1, 2)


class MemoryEncoder(nn.Module):
    """A mask over its image's features, as maps of the memory's width.

    Args:
        dim_in: width of the features.
        dim: width of the memory.
        norm: `batch`, as published, or `layer`.
    """

    def __init__(self, dim_in: int, dim: int, norm: str) -> None:
        super().__init__()
        self.mask_downsampler = _Sampler(dim, norm)
        self.pix_feat_proj = nn.Conv2d(dim_in, dim, 1)
        self.fuser = _ConvNeXt(dim)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Maps [n, dim, h, w].

        Args:
            images: [n, dim_in, h, w].
            masks: logits [n, 1, 4 h, 4 w].
        """
        seen = self.mask_downsampler(masks.sigmoid())
        if seen.shape[-2:] != images.shape[-2:]:
            seen = F.interpolate(seen, images.shape[-2:], mode="bilinear", align_corners=False)
        return self.fuser(self.pix_feat_proj(images) + seen)


class BankFuser(nn.Module):
    """The maps of a bank to one: 1 x 1 x 1 convolutions across them.

    Args:
        length: maps of a bank.
        norm: `batch`, as published, with ReLU; `layer` has no norm here, and GELU.
    """

    def __init__(self, length: int, norm: str) -> None:
        super().__init__()
        widths = [length, max(length // 2, 4), max(length // 4, 4), 1]
        steps: list[nn.Module] = []
        for i, (a, b) in enumerate(itertools.pairwise(widths)):
            steps += [nn.Conv3d(a, b, 1), StoredBatchNorm(b) if norm == "batch" else nn.Identity()]
            # Few maps behind a ReLU may all be dead from the start.
            steps += [nn.ReLU() if norm == "batch" else nn.GELU()] if i < 2 else []
        self.model = nn.Sequential(*steps)

    def forward(self, bank: Tensor) -> Tensor:
        """Banks [n, L, D, H, W] to maps [n, D, H, W]."""
        return self.model(bank)[:, 0]


class MemoryLayer(nn.Module):
    """Attention over the image, over the memory, and a feed-forward.

    Args:
        dim: width of the features.
        memory: width of the memory.
        hidden: width of the feed-forward.
        heads: heads of the attention over the memory; the other one has one.
    """

    def __init__(self, dim: int, memory: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), 1.421))
        self.self_attn = nn.MultiheadAttention(dim, 1, batch_first=True)
        self.cross_attn = nn.MultiheadAttention(
            dim, heads, kdim=memory, vdim=memory, batch_first=True
        )
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, places: Tensor, memory: Tensor, known: Tensor) -> Tensor:
        """Features [n, hw, dim].

        Args:
            x: [n, hw, dim].
            places: positions of the features [hw, dim].
            memory: [n, m, memory].
            known: positions of the memory [m, memory].
        """
        y = self.norm1(x)
        asked = y + places
        x = x + self.self_attn(asked, asked, y, need_weights=False)[0]
        y = self.norm2(x) + places
        x = x + self.scale * self.cross_attn(y, memory + known, memory, need_weights=False)[0]
        return x + self.linear2(F.relu(self.linear1(self.norm3(x))))


class ClassMemory(nn.Module):
    """See the head of this file.

    Args:
        classes: number of classes.
        dim: width of the image's features.
        levels: scales of the mask decoder.
        length: maps of a bank.
        memory_dim: width of a map.
        grid: side of a map; other than the features' only in `paper`.
        hidden: width of the feed-forward.
        heads: heads of the attention over the memory.
        variant: `paper`, `released` or `none`.
        norm: `batch`, as published, or `layer`.

    Raises:
        UserError: an unknown variant, no class, or widths that cannot be.
    """

    def __init__(
        self,
        classes: int = 75,
        dim: int = 256,
        *,
        levels: int = 2,
        length: int = 64,
        memory_dim: int = 64,
        grid: int = 32,
        hidden: int = 512,
        heads: int = 4,
        variant: str = "paper",
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(f"model.memory.variant={variant!r}. {near(variant, VARIANTS)}")
        if min(classes, levels, length, memory_dim, grid) < 1:
            raise UserError(
                "a class memory's classes, levels, length, width and grid are 1 or more."
            )
        if dim % 4 or memory_dim % 4 or dim % heads:
            raise UserError(
                f"model.memory: dim={dim} and memory_dim={memory_dim} must be multiples of 4, and "
                f"dim of heads={heads}."
            )
        self.variant, self.classes, self.levels, self.dim = variant, classes, levels, dim
        if variant == "none":
            return
        self.memory = nn.Parameter(torch.empty(classes, levels, length, memory_dim, grid, grid))
        if not self.memory.is_meta:
            nn.init.normal_(self.memory)
        self.encoder = MemoryEncoder(dim, memory_dim, norm)
        self.fuser = BankFuser(length, norm)
        self.layer = MemoryLayer(dim, memory_dim, hidden, heads)
        self.norm = nn.LayerNorm(dim)
        if variant == "released":
            self.requires_grad_(False)
            self.layer.scale.requires_grad_(True)
            self.norm.requires_grad_(True)

    def bank(self, classes: Tensor, level: int) -> Tensor:
        """The fused banks [n, D, H, W] of classes [n] at a level."""
        return self.fuser(self.memory[classes, level])

    def forward(self, images: Tensor, masks: Tensor, classes: Tensor, level: int) -> Tensor:
        """Features that have read the memory.

        Args:
            images: [n, dim, h, w], for each object those of its image.
            masks: logits [n, 1, 4 h, 4 w], a first mask of each object.
            classes: [n] long.
            level: which scale.

        Returns:
            [n, dim, h, w].
        """
        if self.variant == "none":
            return images
        size = images.shape[-2:]
        x = images.flatten(2).transpose(1, 2)
        if self.variant == "released":
            x = self.norm(x * (1 + self.layer.scale))
        else:
            maps = [self.encoder(images, masks), self.bank(classes, level)]
            memory = torch.cat([m.flatten(2) for m in maps], dim=2).transpose(1, 2)
            places = positions(size[0], size[1], x.shape[-1], x)
            width = memory.shape[-1]
            known = torch.cat([positions(m.shape[-2], m.shape[-1], width, x) for m in maps])
            x = self.norm(self.layer(x, places, memory, known))
        return x.transpose(1, 2).unflatten(2, size)


def positions(high: int, wide: int, dim: int, like: Tensor) -> Tensor:
    """Sines and cosines of rows and columns, as shares of the side: [high * wide, dim].

    Args:
        high: rows.
        wide: columns.
        dim: width, a multiple of 4.
        like: gives device and dtype.
    """
    quarter = dim // 4
    rates = torch.exp(
        torch.arange(quarter, device=like.device) * (-math.log(1e4) / max(quarter, 1))
    )
    axes = []
    for side in (high, wide):
        at = (torch.arange(side, device=like.device) + 0.5) / side * 2 * math.pi
        turned = at[:, None] * rates * 32
        axes.append(torch.cat([turned.sin(), turned.cos()], dim=1))
    rows = axes[0][:, None].expand(-1, wide, -1)
    columns = axes[1][None].expand(high, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(like.dtype)
