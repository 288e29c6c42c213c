"""From a tower's patches to the features that masks are drawn from."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, extra, near


class StoredBatchNorm(nn.Module):
    """A batch norm that always uses its stored statistics, and trains gain and offset.

    Batches of a few images have statistics of little worth, and each process has its own.

    Args:
        dim: channels.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """X [B, dim, ...]."""
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


NORMS = ("batch", "layer")


def norm_of(word: str, dim: int) -> nn.Module:
    """A norm of maps [B, dim, H, W]: `batch`, with stored statistics, or `layer`.

    Raises:
        UserError: another word.
    """
    if word not in NORMS:
        raise UserError(f"norm={word!r} is not known. {near(word, NORMS)}")
    if word == "batch":
        return StoredBatchNorm(dim)
    with extra("pixel"):
        from segment_anything.modeling.common import LayerNorm2d

    return LayerNorm2d(dim)


class GeoPixNeck(nn.Module):
    """GeoPix's: 3 x 3, resized to the grid, 3 x 3; each with norm and ReLU.

    Args:
        dim_in: width of the patches.
        dim_out: width of the features.
        grid: their side.
        hidden: width between the convolutions.
        norm: `batch`, as published, or `layer`.
    """

    def __init__(
        self, dim_in: int, dim_out: int, *, grid: int, hidden: int = 512, norm: str = "batch"
    ) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(dim_in, hidden, 3, padding=1), norm_of(norm, hidden), nn.ReLU()
        )
        self.resize = nn.Upsample(size=(grid, grid), mode="bilinear", align_corners=False)
        self.conv2 = nn.Sequential(
            nn.Conv2d(hidden, dim_out, 3, padding=1), norm_of(norm, dim_out), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """X [N, dim_in, p, p] to [N, dim_out, grid, grid]."""
        return self.conv2(self.resize(self.conv1(x)))


class SamNeck(nn.Sequential):
    """SAM's, which PixelLM puts behind its projected patches: 1 x 1 and 3 x 3, each with a norm.

    Args:
        dim_in: width of the patches.
        dim_out: width of the features.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__(
            nn.Conv2d(dim_in, dim_out, 1, bias=False),
            norm_of("layer", dim_out),
            nn.Conv2d(dim_out, dim_out, 3, padding=1, bias=False),
            norm_of("layer", dim_out),
        )
