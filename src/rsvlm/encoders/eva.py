"""EVA-ViT: the vision tower of BLIP-2, InstructBLIP, MiniGPT-4 and what descends from them.

Fang et al., 2022, "EVA: Exploring the Limits of Masked Visual Representation Learning at Scale"
(arXiv 2211.07636), as LAVIS builds it: 39 of the published 40 blocks and no final norm, so the
output is the published model's next to last layer. timm's `EvaBlock` does the maths: query and
value have a bias, the key's is a constant zero, LayerNorm has eps 1e-6, the MLP a plain GELU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rsvlm.encoders.clip.model import OPENAI_MEAN, OPENAI_STD
from rsvlm.errors import UserError, extra
from rsvlm.nn.lora import add_lora, tuned_layers

if TYPE_CHECKING:
    from rsvlm.checkpoints.hooks import Loaded
from rsvlm.checkpoints.dialects import Dialect

__all__ = ["EvaViT"]

#: LoRA of RS5M's captioner: the joint projection of query, key and value, and the output's.
LORA = {"r": 16, "alpha": 16, "dropout": 0.05, "targets": ("attn.qkv", "attn.proj")}


class EvaViT(nn.Module):
    """Images to tokens [N, 1 + G * G, dim], the class token first.

    Args:
        image_size: side of the images, pixels.
        patch_size: side of a patch, pixels.
        dim: width.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of the MLP, rounded down, over `dim`.
        mean: per-channel mean of the images in 0..1.
        std: per-channel deviation.
        half_rounded: see `round_to_half`; done when the tower's own file is loaded.
        weights: the tower's own file, loaded at once unless it is built on `meta`; positions are
            interpolated where they are of another image size.
        device: where to build; `meta` makes no weights.

    Attributes:
        dim: width of the tokens.
        image_size: side of the images, pixels.
        tokens: 1 + G * G.

    Raises:
        UserError: sizes that do not divide.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 14,
        dim: int = 1408,
        depth: int = 39,
        heads: int = 16,
        mlp_ratio: float = 4.3637,
        mean: Sequence[float] = OPENAI_MEAN,
        std: Sequence[float] = OPENAI_STD,
        half_rounded: bool = False,
        weights: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        with extra("vision"):
            from timm.models.eva import EvaBlock

        if image_size % patch_size:
            raise UserError(
                f"image_size={image_size} is not a multiple of patch_size={patch_size}."
            )
        if dim % heads:
            raise UserError(f"EVA-ViT: dim={dim} is not divisible by heads={heads}.")
        self.image_size, self.patch_size, self.dim = image_size, patch_size, dim
        self.mean, self.std = tuple(mean), tuple(std)
        self.half_rounded, self.weights = half_rounded, weights
        self.tokens = 1 + (image_size // patch_size) ** 2
        with torch.device(device or torch.get_default_device()):
            self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
            self.pos_embed = nn.Parameter(torch.empty(1, self.tokens, dim))
            self.patch_embed = nn.Conv2d(3, dim, patch_size, stride=patch_size)
            self.blocks = nn.ModuleList(
                EvaBlock(
                    dim,
                    heads,
                    mlp_ratio=mlp_ratio,
                    norm_layer=lambda width, **kw: nn.LayerNorm(width, eps=1e-6, **kw),
                )
                for _ in range(depth)
            )
            self.register_buffer("image_mean", torch.empty(3, 1, 1), persistent=False)
            self.register_buffer("image_std", torch.empty(3, 1, 1), persistent=False)
        if not self.cls_token.is_meta:
            self.reset_parameters()
            self.load_own()

    def load_own(self) -> None:
        """Load the tower's own file, where one was named.

        Raises:
            UserError: it cannot be had, or is another tower's.
        """
        if self.weights is not None:
            from rsvlm import checkpoints

            checkpoints.load(self, self.weights, interpolate=True)

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The layout of `eva_vit_g.pth`."""
        from rsvlm.encoders.eva_layouts import eva_dialect

        return (eva_dialect(len(self.blocks), self.tuned),)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh, as LAVIS does: normal of 0.02, residuals scaled by depth.

        Narrower towers draw wider, so that signals keep their size.
        """
        std = 0.02 * max(1.0, math.sqrt(1408 / self.dim))
        with torch.no_grad():
            for parameter in (self.cls_token, self.pos_embed):
                nn.init.trunc_normal_(parameter, std=std)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=std)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                elif isinstance(module, nn.LayerNorm):
                    module.reset_parameters()
            self.patch_embed.reset_parameters()
            for number, block in enumerate(self._eva_blocks(), start=1):
                nn.init.zeros_(block.attn.q_bias)
                nn.init.zeros_(block.attn.v_bias)
                block.attn.proj.weight.div_(math.sqrt(2 * number))
                block.mlp.fc2.weight.div_(math.sqrt(2 * number))
        self._fill_buffers(self.cls_token.device)

    def _eva_blocks(self) -> list[Any]:
        return list(self.blocks)

    def _fill_buffers(self, device: torch.device) -> None:
        """Constants that are in no checkpoint; images are normalised in float32."""
        self.image_mean = torch.tensor(self.mean, device=device).view(3, 1, 1)
        self.image_std = torch.tensor(self.std, device=device).view(3, 1, 1)
        for block in self._eva_blocks():
            block.attn.k_bias = torch.zeros_like(block.attn.k_bias, device=device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EvaViT:
        # See CLIP._apply: a model built on `meta` gets its constants back when it becomes real.
        if self.image_mean.is_meta:
            self._fill_buffers(torch.device("cpu"))
        super()._apply(fn, recurse)
        self._fill_buffers(self.image_mean.device)
        return self

    def freeze(self, train_last: int = 0) -> None:
        """Train only the last blocks.

        Args:
            train_last: how many of them; 0 freezes the tower.

        Raises:
            UserError: more than there are.
        """
        if not 0 <= train_last <= len(self.blocks):
            raise UserError(f"train_last={train_last}: the tower has {len(self.blocks)} blocks.")
        self.requires_grad_(False)
        for block in self._eva_blocks()[len(self.blocks) - train_last :]:
            block.requires_grad_(True)

    def add_lora(self, settings: Mapping[str, Any] | None = None) -> None:
        """Freezes the tower and adds low-rank updates to its blocks.

        Args:
            settings: `r`, `alpha`, `dropout`, `targets` where they differ from `LORA`.

        Raises:
            UserError: an unknown word, or targets that the blocks have none of.
        """
        self.requires_grad_(False)
        add_lora(self, settings or {}, LORA, where="the vision tower")
        for block in self._eva_blocks():
            # timm takes the weight out of the layer where it adds the bias in one go, and would
            # leave the update out.
            block.attn.qkv_bias_separate |= hasattr(block.attn.qkv, "base_layer")

    @property
    def tuned(self) -> list[str]:
        """Names of the layers that LoRA tunes; numbers stand as {}."""
        return tuned_layers(self)

    @property
    def frozen_blocks(self) -> int:
        """Number of leading blocks that no gradient needs, all before them being frozen too."""
        stem = (self.cls_token, self.pos_embed, *self.patch_embed.parameters())
        if any(p.requires_grad for p in stem):
            return 0
        for number, block in enumerate(self._eva_blocks()):
            if any(p.requires_grad for p in block.parameters()):
                return number
        return len(self.blocks)

    def after_load(self, loaded: Loaded) -> list[str]:
        """Rounds the tower's own weights where that is asked for."""
        if not self.half_rounded or not loaded.names:
            return []
        self.round_to_half()
        return ["weights of linear layers rounded to float16"]

    def round_to_half(self) -> None:
        """Round the weights of linear and convolution layers to float16's precision, in place.

        LAVIS converts those to float16 before DeltaVLM widens them again, so its frozen weights are
        float16 numbers in float32 storage. Needed for equality in the last bits only.
        """
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    for parameter in module.parameters(recurse=False):
                        parameter.copy_(parameter.half())

    def _normalise(self, images: Tensor) -> Tensor:
        if images.is_floating_point():
            return images
        return images.float().div_(255).sub_(self.image_mean).div_(self.image_std)

    def features_to(self, images: Tensor, block: int) -> Tensor:
        """Tokens before block number `block`, which `from_features` goes on from.

        With all blocks before it frozen, they depend on the image alone and can be kept.

        Args:
            images: [N, 3, S, S]; uint8 is scaled and normalised here, float is taken as normalised.
            block: 0 is before the first block, `len(blocks)` behind the last.

        Returns:
            [N, tokens, dim].

        Raises:
            UserError: images of another size, or no such block.
        """
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise UserError(
                f"the tower takes images of {self.image_size} x {self.image_size} pixels, got "
                f"{images.shape[-2]} x {images.shape[-1]}. Resize them, or build the model with "
                "model.vision.image_size=."
            )
        if not 0 <= block <= len(self.blocks):
            raise UserError(f"block {block}: the tower has {len(self.blocks)}.")
        if self.image_mean.is_meta and not images.is_meta:
            self._fill_buffers(images.device)
        images = self._normalise(images).to(self.patch_embed.weight.dtype)
        x = self.patch_embed(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self._run(x, 0, block)

    def from_features(self, features: Tensor, block: int) -> Tensor:
        """The tower's output from what `features_to(images, block)` gave.

        Args:
            features: [N, tokens, dim].
            block: where they were taken.
        """
        if self.image_mean.is_meta and not features.is_meta:
            self._fill_buffers(features.device)
        return self._run(features, block, len(self.blocks))

    def _run(self, x: Tensor, start: int, end: int) -> Tensor:
        for block in self._eva_blocks()[start:end]:
            x = block(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        """Tokens [N, tokens, dim]; frozen leading blocks leave no graph."""
        return self.features_to(images, len(self.blocks))
