"""Convolutional towers of the change captioners: torchvision's ResNet by stages, and a small stem.

Both give maps [N, dim, h, w] and are built from numbers. ImageNet's weights come from torchvision's
own files or timm's copies of them (`hf://timm/resnet101.tv_in1k@main`), whose later stages and
classifier are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rsvlm.errors import UserError, near

if TYPE_CHECKING:
    from rsvlm.checkpoints.dialects import Dialect, Target

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
BLOCKS = ("bottleneck", "basic")


def prepare(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 [..., 3, H, W] to float32 in 0..1, minus `mean`, by `std`; float is taken as ready."""
    if images.dtype != torch.uint8:
        return images
    shift = torch.tensor(mean, device=images.device).view(3, 1, 1)
    scale = torch.tensor(std, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - shift) / scale


class ResNet(nn.Module):
    """Stem and first stages of torchvision's ResNet (He et al., 2016, arXiv 1512.03385).

    Args:
        layers: blocks of each stage that is kept; (3, 4, 23) is ResNet-101 up to `layer3`.
        block: `bottleneck` (ResNet-50 and deeper) or `basic` (ResNet-18 and -34).
        trained_from: the first stage that learns; 2 freezes the stem and `layer1` as the published
            captioners do, 0 trains everything, None nothing. Batch norm's running statistics follow
            the train mode, not this.
        weights: the tower's own file (torchvision's or timm's of ImageNet), loaded at once unless
            the tower is built on `meta`.

    Raises:
        UserError: no such block or number of stages, or weights that do not fit.
    """

    def __init__(
        self,
        layers: Sequence[int] = (3, 4, 23),
        *,
        block: str = "bottleneck",
        trained_from: int | None = 2,
        weights: str | Path | None = None,
    ) -> None:
        from torchvision.models import resnet

        super().__init__()
        if block not in BLOCKS:
            raise UserError(f"block={block!r}. {near(block, BLOCKS)}")
        if not 1 <= len(layers) <= 4:
            raise UserError(f"layers={list(layers)}: a ResNet has one to four stages.")
        kind = resnet.Bottleneck if block == "bottleneck" else resnet.BasicBlock
        whole = resnet.ResNet(kind, [*layers, *([1] * (4 - len(layers)))])
        self.conv1, self.bn1 = whole.conv1, whole.bn1
        for stage in range(1, len(layers) + 1):
            setattr(self, f"layer{stage}", getattr(whole, f"layer{stage}"))
        self.stages = len(layers)
        self.dim = 64 * kind.expansion * 2 ** (len(layers) - 1)
        for name, parameter in self.named_parameters():
            stage = int(name[5]) if name.startswith("layer") else 0
            parameter.requires_grad_(trained_from is not None and stage >= trained_from)
        self.weights = weights
        if not self.conv1.weight.is_meta:
            self.load_own()

    def load_own(self) -> None:
        """Load the tower's own file, where one was named.

        Raises:
            UserError: it cannot be had, or is another tower's.
        """
        if self.weights is not None:
            from rsvlm import checkpoints

            checkpoints.load(self, self.weights)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """Torchvision's own layout."""
        from rsvlm.checkpoints.dialects import Dialect

        table: dict[str, Target] = {"conv1.weight": "conv1.weight", "bn1.*": "bn1.*", "fc.*": None}
        for stage in range(1, 5):
            kept = stage <= self.stages
            table[f"layer{stage}.*"] = f"layer{stage}.*" if kept else None
        return (Dialect("torchvision_resnet", ("fc.weight",), table),)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] normalised to [N, dim, h, w]; a side shrinks by 2 ** (stages + 1)."""
        x = torch.relu(self.bn1(self.conv1(images)))
        x = nn.functional.max_pool2d(x, 3, stride=2, padding=1)
        for stage in range(1, self.stages + 1):
            x = getattr(self, f"layer{stage}")(x)
        return x


class ConvStem(nn.Module):
    """A few strided 3x3 convolutions with batch norm: the tower of the tiny models.

    Args:
        widths: channels of each layer; every layer halves the sides.
    """

    dialects: tuple[Dialect, ...] = ()

    def __init__(self, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        if not widths:
            raise UserError("widths=[]: a tower needs one layer at least.")
        steps: list[nn.Module] = []
        for into, out in zip((3, *widths), widths, strict=False):
            steps += [
                nn.Conv2d(into, out, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
        self.layers = nn.Sequential(*steps)
        self.dim = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] to [N, dim, h, w]."""
        return self.layers(images)
