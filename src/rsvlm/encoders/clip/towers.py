"""CLIP's towers: a vision transformer, open_clip's ResNet, and the causal text transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsvlm.encoders.clip.architectures import stem_widths
from rsvlm.encoders.clip.layouts import CLIP_DIALECTS
from rsvlm.errors import UserError
from rsvlm.nn.transformer import Block, Extra, LayerNorm


def _compute_dtype(weight: Tensor) -> torch.dtype:
    """The dtype that matrix products have here: autocast's where it is on, else the weight's."""
    device = weight.device.type
    if device != "meta" and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return weight.dtype


def _reset(module: nn.Module) -> None:
    """Draw fresh values for everything below `module`; its own parameters are the caller's."""
    for child in module.modules():
        reset = getattr(child, "reset_parameters", None)
        if child is not module and callable(reset):
            reset()


def _check_side(images: Tensor, side: int) -> None:
    if images.shape[-2:] != (side, side):
        got = "x".join(str(n) for n in images.shape[-2:])
        raise UserError(
            f"images are {got}, this model takes {side}x{side}: resize them in the transform, or "
            "build the model with model.image_size."
        )


def _blocks_of(tower: nn.Module) -> list[Block]:
    return [module for module in tower.modules() if isinstance(module, Block)]


class Blocks(nn.ModuleList):
    """A stack of blocks whose last one runs for the pooled token only."""

    def __init__(
        self, width: int, layers: int, *, heads: int, drop_path: float = 0.0, **options: Any
    ) -> None:
        # Stochastic depth grows linearly from nothing to `drop_path`.
        rates = [drop_path * i / max(layers - 1, 1) for i in range(layers)]
        super().__init__(Block(width, heads, drop_path=rate, **options) for rate in rates)
        self.grad_checkpointing = False

    def run(self, index: int, *args: Any) -> Tensor:
        """Block `index` on `args`, recomputed in the backward pass when that is asked for."""
        block: nn.Module = self[index]
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, *args, use_reentrant=False)
        return block(*args)

    def forward(
        self,
        x: Tensor,
        pool: Tensor | int,
        causal: bool = False,
        extras: Sequence[Extra] | None = None,
    ) -> Tensor:
        """[B, L, D] to [B, D]: the last block's output at token `pool` of each row.

        `extras` has one for each block where the tower has a `peft`.
        """
        last = len(self) - 1
        for index in range(last + 1):
            extra = extras[index] if extras else None
            x = self.run(index, x, causal, pool if index == last else None, extra)
        return x


class VisionTransformer(nn.Module):
    """CLIP's ViT: patches, a class token, pre-norm blocks, projection of the class token."""

    dialects = CLIP_DIALECTS

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        *,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int | None,
        stem: str = "patch",
        mlp_ratio: float = 4.0,
        activation: str | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
        patch_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise UserError(
                f"image_size={image_size} is not a multiple of patch_size={patch_size}."
            )
        if not 0 <= patch_dropout < 1:
            raise UserError(f"patch_dropout={patch_dropout}: it must lie in [0, 1).")
        if stem not in ("patch", "conv"):
            raise UserError(f"stem={stem!r}: it must be patch or conv.")
        self.image_size, self.patch_size, self.dim = image_size, patch_size, width
        self.patch_dropout = patch_dropout
        tokens = (image_size // patch_size) ** 2 + 1
        self.stem = self._conv_stem(width, patch_size) if stem == "conv" else None
        if stem == "patch":
            self.conv1 = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.ln_pre = LayerNorm(width)
        self.blocks = Blocks(
            width,
            layers,
            heads=heads,
            mlp_ratio=mlp_ratio,
            drop_path=drop_path,
            activation=activation,
            dropout=dropout,
        )
        self.ln_post = LayerNorm(width)
        # Models that read patches have no use for it.
        self.proj = None if embed_dim is None else nn.Parameter(torch.empty(width, embed_dim))
        self.peft: nn.Module | None = None
        self._init_own()

    @staticmethod
    def _conv_stem(width: int, patch_size: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        channels = 3
        for out in stem_widths(width, patch_size):
            layers += [
                nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False),
                # Group norm, not batch norm: ranks, batch sizes and evaluation change nothing.
                nn.GroupNorm(math.gcd(8, out), out),
                nn.GELU(),
            ]
            channels = out
        return nn.Sequential(*layers, nn.Conv2d(width, width, 1, bias=False))

    def _init_own(self) -> None:
        scale = self.dim**-0.5
        for parameter in (self.class_embedding, self.positional_embedding, self.proj):
            if parameter is not None:
                nn.init.normal_(parameter, std=scale)
        # open_clip has one [3 D, D] matrix here, with Xavier's bound for that shape.
        bound = math.sqrt(1.5 / self.dim)
        for block in _blocks_of(self):
            for linear in (block.attn.q_proj, block.attn.k_proj, block.attn.v_proj):
                nn.init.uniform_(linear.weight, -bound, bound)
                nn.init.zeros_(linear.bias)
            nn.init.zeros_(block.attn.out_proj.bias)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh, as open_clip does for its vision tower."""
        _reset(self)
        self._init_own()

    def _embed(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] float to [B, 1 + patches, width]."""
        _check_side(images, self.image_size)
        images = images.to(_compute_dtype(self.class_embedding))
        if self.stem is not None:
            x = self.stem(images).flatten(2).transpose(1, 2)
        else:
            # The convolution as a matrix product of patches: a stride as large as the kernel.
            grid, patch = self.image_size // self.patch_size, self.patch_size
            x = images.unflatten(3, (grid, patch)).unflatten(2, (grid, patch))
            x = x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
            x = F.linear(x, self.conv1.weight.flatten(1))
        token = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([token, x], dim=1) + self.positional_embedding.to(x.dtype)
        if self.patch_dropout and self.training:
            x = self._drop_patches(x)
        return self.ln_pre(x)

    def _drop_patches(self, x: Tensor) -> Tensor:
        """Keep a random subset of each row's patches (Li et al., 2023, FLIP, arXiv 2212.00794)."""
        count = x.shape[1] - 1
        kept = max(1, int(count * (1 - self.patch_dropout)))
        index = torch.rand(len(x), count, device=x.device).topk(kept, dim=1).indices + 1
        index = torch.cat([index.new_zeros(len(x), 1), index], dim=1)
        return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))

    def tokens(self, images: Tensor, layer: int = -1) -> Tensor:
        """Hidden states after a block, for models that read patches rather than one vector.

        Args:
            images: [B, 3, S, S], normalised.
            layer: which block, as a Python index: -1 the last one, -2 the one before it.

        Returns:
            [B, 1 + patches, width], the class token first, before `ln_post`.
        """
        return self.several(images, (layer,))[0]

    def several(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Hidden states after several blocks, in one pass; see `tokens`."""
        wanted = [range(len(self.blocks))[layer] for layer in layers]
        found: dict[int, Tensor] = {}
        x = self._embed(images)
        extras = self.peft(x) if self.peft is not None else [None] * len(self.blocks)
        for index in range(max(wanted) + 1):
            x = self.blocks.run(index, x, False, None, extras[index])
            if index in wanted:
                found[index] = x
        return [found[index] for index in wanted]

    def pooled(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, S, S] to their class tokens [B, width] before the projection."""
        x = self._embed(images)
        extras = self.peft(x) if self.peft is not None else None
        return self.ln_post(self.blocks(x, 0, False, extras))

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, S, S] to features [B, embed_dim], not of unit norm."""
        pooled = self.pooled(images)
        return pooled if self.proj is None else pooled @ self.proj


class ResNetTower(nn.Module):
    """open_clip's ModifiedResNet behind the same interface."""

    dialects = CLIP_DIALECTS

    def __init__(
        self, image_size: int, *, width: int, layers: Sequence[int], heads: int, embed_dim: int
    ) -> None:
        super().__init__()
        from open_clip.modified_resnet import ModifiedResNet

        self.image_size, self.dim = image_size, embed_dim
        self.trunk = ModifiedResNet(
            layers=list(layers),
            output_dim=embed_dim,
            heads=heads,
            image_size=image_size,
            width=width,
        )

    def reset_parameters(self) -> None:
        """Draw all parameters afresh, as open_clip does."""
        _reset(self)
        nn.init.normal_(
            self.trunk.attnpool.positional_embedding,
            std=self.trunk.attnpool.positional_embedding.shape[1] ** -0.5,
        )
        self.trunk.init_parameters()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, S, S] to features [B, embed_dim], not of unit norm."""
        _check_side(images, self.image_size)
        return self.trunk(images.to(self.trunk.conv1.weight.dtype))


class TextTransformer(nn.Module):
    """CLIP's causal text transformer; a caption's feature is read at its end-of-text token."""

    dialects = CLIP_DIALECTS

    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        *,
        width: int,
        layers: int,
        heads: int,
        embed_dim: int,
        activation: str | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.context_length, self.dim = context_length, width
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = Blocks(
            width,
            layers,
            heads=heads,
            drop_path=drop_path,
            activation=activation,
            dropout=dropout,
        )
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embed_dim))
        self.peft: nn.Module | None = None
        self._init_own()

    def _init_own(self) -> None:
        width = self.dim
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)
        out_std = width**-0.5 * (2 * len(self.blocks)) ** -0.5
        for block in _blocks_of(self):
            attn, mlp = block.attn, block.mlp
            for linear in (attn.q_proj, attn.k_proj, attn.v_proj):
                nn.init.normal_(linear.weight, std=width**-0.5)
                nn.init.zeros_(linear.bias)
            nn.init.normal_(attn.out_proj.weight, std=out_std)
            nn.init.zeros_(attn.out_proj.bias)
            nn.init.normal_(mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(mlp.c_proj.weight, std=out_std)

    def reset_parameters(self) -> None:
        """Draw all parameters afresh, as open_clip does for its text tower."""
        _reset(self)
        self._init_own()

    def forward(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, L], any L up to `context_length`, to features [B, embed_dim].

        Tokens after a caption's end-of-text cannot reach its feature (the mask is causal), so
        a batch may be cut after its last end-of-text token without changing any feature.
        """
        length = input_ids.shape[1]
        if length > self.context_length:
            raise UserError(
                f"input_ids have {length} tokens, the text tower takes {self.context_length}: "
                "tokenize with rsvlm.encoders.clip.model.tokenizer, which truncates."
            )
        dtype = _compute_dtype(self.positional_embedding)
        x = self.token_embedding(input_ids).to(dtype)
        x = x + self.positional_embedding[:length].to(dtype)
        # End-of-text is the largest id of the vocabulary, the first one counts.
        end = input_ids.argmax(dim=-1)
        extras = self.peft(x, end) if self.peft is not None else None
        return self.ln_final(self.blocks(x, end, True, extras)) @ self.text_projection
