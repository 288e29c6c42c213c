"""CLIP's image tower as the vision tower of a language model that reads its patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsvlm.encoders.clip.architectures import sizes
from rsvlm.encoders.clip.vision_tower import ClipTower
from rsvlm.errors import UserError, near

__all__ = ["ClipLayers", "ClipPatches"]

#: How positions of another image size are taken over from a file.
POSITIONS = ("exact", "bicubic", "geochat")


class ClipPatches(ClipTower):
    """Images to the tokens of their patches [N, G * G, dim], of one of the tower's last blocks.

    Args:
        arch: see `ClipTower`; a ViT.
        image_size: another side than the architecture's own, pixels.
        layer: the block whose output is read, as a Python index; LLaVA reads -2. Later blocks are
            kept, as published files hold them, and not run.
        activation: `quick_gelu` (OpenAI's weights) or `gelu`; weights that say another are refused.
        positions: what to do with position embeddings of another image size: `exact` refuses them,
            `bicubic` resizes them as open_clip does, `geochat` as GeoChat does (from 336 to 504).
        mean: see `ClipTower`.
        std: see `ClipTower`.
        weights: see `ClipTower`; a file of the image tower alone will do.
        device: where to build; `meta` makes no weights.

    Attributes:
        tokens: G * G.

    Raises:
        UserError: unknown words, a ResNet, or weights that do not fit.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "ViT-L-14-336",
        *,
        image_size: int | None = None,
        layer: int = -2,
        activation: str = "quick_gelu",
        positions: str = "exact",
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        weights: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if positions not in POSITIONS:
            raise UserError(
                f"vision.positions={positions!r} is not known. {near(positions, POSITIONS)}"
            )
        if isinstance(arch, str) and isinstance(sizes(arch).layers, tuple):
            raise UserError(f"vision.arch={arch}: a ResNet has no patches to read; take a ViT.")
        super().__init__(
            arch,
            activation=activation,
            image_size=image_size,
            mean=mean,
            std=std,
            weights=weights,
            projection=False,
            positions=positions,
            device=device,
        )
        count = len(self.tower.blocks)
        if not -count <= layer < count:
            raise UserError(f"vision.layer={layer}: the tower has {count} blocks.")
        self.layer = layer
        self.tokens: int = (self.image_size // self.tower.patch_size) ** 2

    @property
    def idle(self) -> list[str]:
        """Names of parameters that no output depends on: those behind the block that is read."""
        last = self.layer % len(self.tower.blocks)
        unread = ["tower.ln_post."]
        unread += [f"tower.blocks.{i}." for i in range(last + 1, len(self.tower.blocks))]
        return [name for name, _ in self.named_parameters() if name.startswith(tuple(unread))]

    def hidden(self, images: Tensor, layer: int) -> Tensor:
        """Tokens [N, G * G, dim] behind a block, without the class token.

        Args:
            images: [N, 3, S, S], see `normalised`.
            layer: the block, as a Python index.
        """
        return self.tower.tokens(self.normalised(images), layer)[:, 1:]

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, G * G, dim] of images [N, 3, S, S]; see `hidden`."""
        return self.hidden(images, self.layer)


class ClipLayers(ClipPatches):
    """Images to the tokens of their patches after several blocks, side by side in one pass.

    Args:
        arch: see `ClipPatches`.
        also: further blocks, as Python indices: masks are drawn from other ones than the language
            model reads.
        **options: of `ClipPatches`.

    Raises:
        UserError: see `ClipPatches`; a block that is not there.
    """

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "ViT-L-14-336",
        *,
        also: Sequence[int] = (),
        **options: Any,
    ) -> None:
        super().__init__(arch, **options)
        count = len(self.tower.blocks)
        for layer in also:
            if not -count <= layer < count:
                raise UserError(f"vision.also={layer}: the tower has {count} blocks.")
        self.layers = [self.layer, *also]

    @property
    def idle(self) -> list[str]:
        """See `ClipPatches.idle`."""
        count = len(self.tower.blocks)
        last = max(layer % count for layer in self.layers)
        unread = ["tower.ln_post.", *(f"tower.blocks.{i}." for i in range(last + 1, count))]
        return [name for name, _ in self.named_parameters() if name.startswith(tuple(unread))]

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, G * G, (1 + len(also)) * dim]: the language model's block, then the others."""
        found = self.tower.several(self.normalised(images), self.layers)
        return torch.cat([tokens[:, 1:] for tokens in found], dim=-1)
