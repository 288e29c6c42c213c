"""CLIP's image tower alone, with its normalisation, as the vision tower of a language model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from rsvlm.encoders.clip.architectures import sizes
from rsvlm.encoders.clip.model import OPENAI_MEAN, OPENAI_STD
from rsvlm.encoders.clip.towers import ResNetTower, VisionTransformer
from rsvlm.errors import UserError
from rsvlm.nn.transformer import ACTIVATIONS, Mlp


class ClipTower(nn.Module):
    """What `ClipPooled` and `ClipPatches` share; they say what is read of the tower.

    Args:
        arch: one of `encoders.clip.ARCHS`; or the numbers of a `VisionTransformer`: `image_size`,
            `patch_size`, `width`, `layers`, `heads`, with `projection` `embed_dim`, and where they
            differ `mlp_ratio`, `stem`.
        activation: `gelu` or `quick_gelu`; None takes what the weights say.
        image_size: another side than the architecture's own, pixels.
        mean: per-channel mean of the images in 0..1; None takes the zoo row's, or OpenAI's.
        std: per-channel deviation, likewise.
        weights: any checkpoint of a whole CLIP that `checkpoints.load` takes (`zoo:…`, `hf://…`, a
            path, a run's own); loaded at once unless it is built on `meta`.
        projection: keep CLIP's projection into the common space.
        positions: what to do with position embeddings of another image size, see `ClipPatches`.
        device: where to build; `meta` makes no weights.

    Attributes:
        dim: width of the tokens.
        image_size: side of the images, pixels.
        tower: CLIP's own.

    Raises:
        UserError: unknown words, or weights that do not fit.
    """

    image_mean: Tensor
    image_std: Tensor

    #: Names of the layers that LoRA tunes: none.
    tuned: Sequence[str] = ()
    #: Filter of the resize, as CLIP's.
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __init__(
        self,
        arch: str | Mapping[str, Any],
        *,
        activation: str | None,
        image_size: int | None,
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        weights: str | Path | None,
        projection: bool,
        positions: str = "exact",
        device: torch.device | str | None,
    ) -> None:
        super().__init__()
        if activation is not None and activation not in ACTIVATIONS:
            raise UserError(
                f"activation={activation!r}: it must be one of {', '.join(ACTIVATIONS)}."
            )
        self.weights, self._given = weights, (mean, std)
        self.mean, self.std = tuple(mean or OPENAI_MEAN), tuple(std or OPENAI_STD)
        with torch.device(device or torch.get_default_device()):
            self.tower: Any = _tower(arch, image_size, projection)
            self.register_buffer("image_mean", torch.empty(3, 1, 1), persistent=False)
            self.register_buffer("image_std", torch.empty(3, 1, 1), persistent=False)
        self.image_size: int = self.tower.image_size
        self.dim: int = self.tower.dim
        self.positions: str = positions
        self.tower.positions = positions  # loading asks the module that it fills
        self._activate(activation)
        if not self.image_mean.is_meta:
            self._fill_buffers(self.image_mean.device)
            if weights is not None:
                self._load_own(weights, activation, projection)

    def _load_own(self, weights: str | Path, activation: str | None, projection: bool) -> None:
        from rsvlm.checkpoints.load import load_contents
        from rsvlm.checkpoints.read import read
        from rsvlm.checkpoints.resolve import resolve
        from rsvlm.encoders.clip.activation import settle_activation
        from rsvlm.encoders.clip.layouts import CLIP_DIALECTS, TOWER_DIALECTS

        found = resolve(str(weights))
        contents = read(found.local())
        dialects = CLIP_DIALECTS if projection else TOWER_DIALECTS
        if contents.packed and not projection:
            contents.tensors.pop("visual.proj", None)
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

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # See CLIP._apply: a model built on `meta` gets its constants back when it becomes real.
        if self.image_mean.is_meta:
            self._fill_buffers(torch.device("cpu"))
        super()._apply(fn, recurse)
        self._fill_buffers(self.image_mean.device)
        return self

    def normalised(self, images: Tensor) -> Tensor:
        """Images [N, 3, S, S]; uint8 is scaled and normalised, float is taken as normalised."""
        if self.image_mean.is_meta and not images.is_meta:
            self._fill_buffers(images.device)
        if images.is_floating_point():
            return images
        return images.float().div_(255).sub_(self.image_mean).div_(self.image_std)

    @property
    def frozen_blocks(self) -> int:
        """1 where nothing is trained, so that the tokens can be kept; else 0."""
        return int(not any(p.requires_grad for p in self.parameters()))

    def features_to(self, images: Tensor, block: int) -> Tensor:
        """What `from_features` goes on from: images as they are (0), or their tokens (1).

        Args:
            images: [N, 3, S, S], see `normalised`.
            block: 0 or 1.
        """
        return self(images) if block else images

    def from_features(self, features: Tensor, block: int) -> Tensor:
        """Tokens [N, T, dim] from what `features_to(images, block)` gave."""
        return features if block else self(features)


def _tower(arch: str | Mapping[str, Any], side: int | None, projection: bool) -> Any:
    if not isinstance(arch, str):
        numbers = {**arch, "image_size": side or arch["image_size"]}
        return VisionTransformer(**(numbers if projection else {**numbers, "embed_dim": None}))
    size = sizes(arch)
    options: dict[str, Any] = {"width": size.width, "heads": size.heads}
    if isinstance(size.layers, tuple):
        options["embed_dim"] = size.embed_dim
        return ResNetTower(side or size.image_size, layers=size.layers, **options)
    return VisionTransformer(
        side or size.image_size,
        size.patch_size,
        layers=size.layers,
        stem=size.stem,
        embed_dim=size.embed_dim if projection else None,
        **options,
    )
