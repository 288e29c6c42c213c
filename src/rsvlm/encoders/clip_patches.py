"""CLIP's image tower as the vision tower of a language model that reads its patches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.encoders.clip import OPENAI_MEAN, OPENAI_STD
from rsvlm.encoders.sizes import sizes
from rsvlm.encoders.towers import VisionTransformer
from rsvlm.errors import UserError, near
from rsvlm.nn.transformer import ACTIVATIONS, Mlp

__all__ = ["ClipPatches"]

#: How positions of another image size are taken over from a file.
POSITIONS = ("exact", "bicubic", "geochat")


class ClipPatches(nn.Module):
    """Images to the tokens of their patches [N, G * G, dim], of one of the tower's last blocks.

    Args:
        arch: a ViT of `encoders.clip.ARCHS`; or the numbers of a `VisionTransformer`: `image_size`,
            `patch_size`, `width`, `layers`, `heads`, and where they differ `mlp_ratio`, `stem`.
        image_size: another side than the architecture's own, pixels.
        layer: the block whose output is read, as a Python index; LLaVA reads -2. Later blocks are
            kept, as published files hold them, and not run.
        activation: `quick_gelu` (OpenAI's weights) or `gelu`.
        positions: what to do with position embeddings of another image size: `exact` refuses them,
            `bicubic` resizes them as open_clip does, `geochat` as GeoChat does (from 336 to 504).
        mean: per-channel mean of the images in 0..1.
        std: per-channel deviation.
        weights: any checkpoint of a whole CLIP or of its image tower that `checkpoints.load` takes;
            loaded at once unless it is built on `meta`.
        device: where to build; `meta` makes no weights.

    Attributes:
        dim: width of the tokens.
        image_size: side of the images, pixels.
        tokens: G * G.

    Raises:
        UserError: unknown words, a ResNet, or weights that do not fit.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        arch: str | Mapping[str, Any] = "ViT-L-14-336",
        *,
        image_size: int | None = None,
        layer: int = -2,
        activation: str = "quick_gelu",
        positions: str = "exact",
        mean: Sequence[float] = OPENAI_MEAN,
        std: Sequence[float] = OPENAI_STD,
        weights: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        for what, word, known in (
            ("activation", activation, ACTIVATIONS),
            ("positions", positions, POSITIONS),
        ):
            if word not in known:
                raise UserError(f"vision.{what}={word!r} is not known. {near(word, known)}")
        numbers = _numbers(arch)
        if image_size is not None:
            numbers["image_size"] = image_size
        self.layer, self.positions, self.weights = layer, positions, weights
        self.mean, self.std = tuple(mean), tuple(std)
        with torch.device(device or torch.get_default_device()):
            self.tower: Any = VisionTransformer(**numbers, embed_dim=None)
            self.register_buffer("image_mean", torch.empty(3, 1, 1), persistent=False)
            self.register_buffer("image_std", torch.empty(3, 1, 1), persistent=False)
        if not -len(self.tower.blocks) <= layer < len(self.tower.blocks):
            raise UserError(f"vision.layer={layer}: the tower has {len(self.tower.blocks)} blocks.")
        self.dim: int = self.tower.dim
        self.image_size: int = self.tower.image_size
        self.tokens: int = (self.image_size // self.tower.patch_size) ** 2
        for module in self.tower.modules():
            if isinstance(module, Mlp):
                module.activation = activation
        if not self.image_mean.is_meta:
            self._fill_buffers(self.image_mean.device)
            self.load_own()

    def load_own(self) -> None:
        """Load the tower's own file, where one was named.

        Raises:
            UserError: it cannot be had, or is another tower's.
        """
        if self.weights is None:
            return
        from rsvlm import checkpoints
        from rsvlm.checkpoints.clip_keys import TOWER_DIALECTS

        self.tower.positions = self.positions
        checkpoints.load(self.tower, self.weights, part="visual", dialects=TOWER_DIALECTS)

    def _fill_buffers(self, device: torch.device) -> None:
        """Constants that are in no checkpoint; images are normalised in float32."""
        self.image_mean = torch.tensor(self.mean, device=device).view(3, 1, 1)
        self.image_std = torch.tensor(self.std, device=device).view(3, 1, 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ClipPatches:
        # See CLIP._apply: a model built on `meta` gets its constants back when it becomes real.
        if self.image_mean.is_meta:
            self._fill_buffers(torch.device("cpu"))
        super()._apply(fn, recurse)
        self._fill_buffers(self.image_mean.device)
        return self

    @property
    def frozen_blocks(self) -> int:
        """1 where nothing is trained, so that the tokens can be kept; else 0."""
        return int(not any(p.requires_grad for p in self.parameters()))

    def features_to(self, images: Tensor, block: int) -> Tensor:
        """What `from_features` goes on from: images as they are (0), or their tokens (1)."""
        return self(images) if block else images

    def from_features(self, features: Tensor, block: int) -> Tensor:
        """Tokens [N, G * G, dim] from what `features_to(images, block)` gave."""
        return features if block else self(features)

    def hidden(self, images: Tensor, layer: int) -> Tensor:
        """Tokens [N, G * G, dim] behind a block, without the class token.

        Args:
            images: [N, 3, S, S]; uint8 is scaled and normalised here, float is taken as normalised.
            layer: the block, as a Python index.
        """
        if self.image_mean.is_meta and not images.is_meta:
            self._fill_buffers(images.device)
        if not images.is_floating_point():
            images = images.float().div_(255).sub_(self.image_mean).div_(self.image_std)
        return self.tower.tokens(images, layer)[:, 1:]

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, G * G, dim] of images [N, 3, S, S]; see `hidden`."""
        return self.hidden(images, self.layer)


def _numbers(arch: str | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(arch, str):
        return dict(arch)
    size = sizes(arch)
    if isinstance(size.layers, tuple):
        raise UserError(f"vision.arch={arch}: a ResNet has no patches to read; take a ViT.")
    return {
        "image_size": size.image_size,
        "patch_size": size.patch_size,
        "width": size.width,
        "layers": size.layers,
        "heads": size.heads,
        "stem": size.stem,
    }
