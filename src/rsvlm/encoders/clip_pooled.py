"""CLIP's image tower as the vision tower of a language model that reads one vector an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.encoders.clip import OPENAI_MEAN, OPENAI_STD
from rsvlm.encoders.sizes import sizes
from rsvlm.encoders.towers import ResNetTower, VisionTransformer
from rsvlm.errors import UserError
from rsvlm.nn.transformer import ACTIVATIONS, Mlp

__all__ = ["ClipPooled"]


class ClipPooled(nn.Module):
    """Images to one token each, [N, 1, dim]: the class token after the last norm, unprojected.

    That is `pooler_output` of transformers' CLIPVisionModel; a ResNet gives its pooled features.

    Args:
        arch: one of `encoders.clip.ARCHS`; or the numbers of a `VisionTransformer`: `image_size`,
            `patch_size`, `width`, `layers`, `heads`, `embed_dim` and where they differ `mlp_ratio`,
            `stem`.
        activation: `gelu` or `quick_gelu`; None takes what the weights say.
        image_size: another side than the architecture's own, pixels.
        mean: per-channel mean of the images in 0..1; None takes the zoo row's, or OpenAI's.
        std: per-channel deviation, likewise.
        weights: any checkpoint of a whole CLIP that `checkpoints.load` takes (`zoo:…`, `hf://…`, a
            path, a run's own); loaded at once unless it is built on `meta`.
        device: where to build; `meta` makes no weights.

    Attributes:
        dim: width of the token.
        image_size: side of the images, pixels.
        tower: CLIP's own, with the projection that is not used here.

    Raises:
        UserError: unknown words, or weights that do not fit.
    """

    image_mean: Tensor
    image_std: Tensor

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
        super().__init__()
        if activation is not None and activation not in ACTIVATIONS:
            raise UserError(
                f"activation={activation!r}: it must be one of {', '.join(ACTIVATIONS)}."
            )
        self.weights, self._given = weights, (mean, std)
        self.mean, self.std = tuple(mean or OPENAI_MEAN), tuple(std or OPENAI_STD)
        with torch.device(device or torch.get_default_device()):
            self.tower: Any = _tower(arch, image_size)
            self.register_buffer("image_mean", torch.empty(3, 1, 1), persistent=False)
            self.register_buffer("image_std", torch.empty(3, 1, 1), persistent=False)
        self.image_size: int = self.tower.image_size
        self.dim: int = self.tower.dim
        self._activate(activation)
        if not self.image_mean.is_meta:
            self._fill_buffers(self.image_mean.device)
            if weights is not None:
                self._load_own(weights, activation)

    def _load_own(self, weights: str | Path, activation: str | None) -> None:
        from rsvlm.checkpoints.clip_facts import settle_activation
        from rsvlm.checkpoints.load import dialects_of, load_contents
        from rsvlm.checkpoints.read import read
        from rsvlm.checkpoints.resolve import resolve

        found = resolve(str(weights))
        contents = read(found.local())
        dialects = dialects_of(self.tower)
        load_contents(self.tower, contents, found, part="visual", dialects=dialects)
        if isinstance(self.tower, VisionTransformer):
            self._activate(settle_activation(activation, contents, found.row, found.name))
        facts = contents.packed["model"] if contents.packed else {}
        row = found.row
        mean, std = (row.mean, row.std) if row else (facts.get("mean"), facts.get("std"))
        self.mean = tuple(self._given[0] or mean or OPENAI_MEAN)
        self.std = tuple(self._given[1] or std or OPENAI_STD)
        self._fill_buffers(self.image_mean.device)

    def _activate(self, name: str | None) -> None:
        self.activation = name
        for module in self.modules():
            if isinstance(module, Mlp):
                module.activation = name

    def _fill_buffers(self, device: torch.device) -> None:
        """Constants that are in no checkpoint; images are normalised in float32."""
        self.image_mean = torch.tensor(self.mean, device=device).view(3, 1, 1)
        self.image_std = torch.tensor(self.std, device=device).view(3, 1, 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> ClipPooled:
        # See CLIP._apply: a model built on `meta` gets its constants back when it becomes real.
        if self.image_mean.is_meta:
            self._fill_buffers(torch.device("cpu"))
        super()._apply(fn, recurse)
        self._fill_buffers(self.image_mean.device)
        return self

    @property
    def frozen_blocks(self) -> int:
        """1 where nothing is trained, so that the pooled vectors can be kept; else 0."""
        return int(not any(p.requires_grad for p in self.parameters()))

    def features_to(self, images: Tensor, block: int) -> Tensor:
        """What `from_features` goes on from: images as they are (0), or their tokens (1).

        Args:
            images: [N, 3, S, S]; uint8 is scaled and normalised here, float is taken as normalised.
            block: 0 or 1.
        """
        return self(images) if block else images

    def from_features(self, features: Tensor, block: int) -> Tensor:
        """Tokens [N, 1, dim] from what `features_to(images, block)` gave."""
        return features if block else self(features)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, 1, dim] of images [N, 3, S, S]; uint8 is scaled and normalised here."""
        if self.image_mean.is_meta and not images.is_meta:
            self._fill_buffers(images.device)
        if not images.is_floating_point():
            images = images.float().div_(255).sub_(self.image_mean).div_(self.image_std)
        if isinstance(self.tower, VisionTransformer):
            return self.tower.pooled(images)[:, None]
        return self.tower(images)[:, None]


def _tower(arch: str | Mapping[str, Any], side: int | None) -> VisionTransformer | ResNetTower:
    if not isinstance(arch, str):
        return VisionTransformer(**{**arch, "image_size": side or arch["image_size"]})
    size = sizes(arch)
    options: dict[str, Any] = {
        "width": size.width,
        "heads": size.heads,
        "embed_dim": size.embed_dim,
    }
    if isinstance(size.layers, tuple):
        return ResNetTower(side or size.image_size, layers=size.layers, **options)
    return VisionTransformer(
        side or size.image_size, size.patch_size, layers=size.layers, stem=size.stem, **options
    )
