"""Bridges that read each image alone: tokens joined and projected, an MLP, a Q-Former."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.nn.qformer import QFormer


class GroupedLinear(nn.Module):
    """Neighbouring tokens of a ViT joined along their channels, then one linear layer.

    MiniGPT-v2 (Chen et al., 2023, arXiv 2310.09478) and SkyEyeGPT. The class token is left out. The
    joined tokens follow each other in a row of patches: a strip of 1 x `group`, not a square.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        group: tokens joined into one.
        train_norm: train the norm of the tower's output too, which the published code leaves as it
            is made (gain 1, offset 0).
    """

    joint = False

    def __init__(
        self, dim_in: int, dim_out: int, *, group: int = 4, train_norm: bool = False
    ) -> None:
        super().__init__()
        self.group = group
        self.norm = nn.LayerNorm(dim_in).requires_grad_(train_norm)
        self.proj = nn.Linear(group * dim_in, dim_out)

    def count(self, tokens: int) -> int:
        """Embeddings of an image of that many tokens, the class token among them.

        Raises:
            UserError: they do not divide into groups.
        """
        if (tokens - 1) % self.group:
            raise UserError(
                f"the tower gives {tokens - 1} tokens of patches, which do not divide into groups "
                f"of {self.group}: choose another model.vision.image_size or model.bridge.group."
            )
        return (tokens - 1) // self.group

    def forward(self, features: Tensor) -> Tensor:
        """Tokens [N, 1 + T, dim_in], the class token first, to [N, T / group, dim_out]."""
        joined = self.norm(features)[:, 1:].unflatten(1, (-1, self.group)).flatten(2)
        return self.proj(joined)


class MlpProjector(nn.Module):
    """LLaVA-1.5's projector: linear layers with GELU between them, for each token.

    Liu et al., 2024, "Improved Baselines with Visual Instruction Tuning" (arXiv 2310.03744).

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        depth: number of linear layers; 1 is the first LLaVA's.
    """

    joint = False

    def __init__(self, dim_in: int, dim_out: int, *, depth: int = 2) -> None:
        super().__init__()
        if depth < 1:
            raise UserError(f"bridge.depth={depth}: it must be 1 or more.")
        widths = [dim_in, *[dim_out] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = nn.GELU()

    def count(self, tokens: int) -> int:
        """Embeddings of an image of that many tokens: as many."""
        return tokens

    def forward(self, features: Tensor) -> Tensor:
        """Tokens [N, T, dim_in] to [N, T, dim_out]."""
        for number, layer in enumerate(self.layers):
            features = layer(self.activation(features) if number else features)
        return features


class PooledMlpProjector(nn.Module):
    """PixelLM's projector: a square of patches made smaller, then two linear layers with a GELU.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        grid: side of the smaller square.
        widen: the inner width as a multiple of `dim_out`.
    """

    joint = False

    def __init__(self, dim_in: int, dim_out: int, *, grid: int = 16, widen: int = 2) -> None:
        super().__init__()
        self.grid = grid
        self.layers = nn.ModuleList(
            [nn.Linear(dim_in, widen * dim_out), nn.Linear(widen * dim_out, dim_out)]
        )

    def count(self, tokens: int) -> int:
        """Embeddings of an image, of however many tokens."""
        del tokens
        return self.grid**2

    def forward(self, features: Tensor) -> Tensor:
        """Tokens [N, p * p, dim_in] to [N, grid * grid, dim_out]."""
        side = math.isqrt(features.shape[1])
        if side != self.grid:
            square = features.transpose(1, 2).unflatten(2, (side, side)).float()
            pooled = F.interpolate(square, (self.grid, self.grid), mode="bilinear")
            features = pooled.flatten(2).transpose(1, 2).to(features.dtype)
        return self.layers[1](F.gelu(self.layers[0](features)))


class QFormerBridge(nn.Module):
    """BLIP-2's bridge: a norm of the tower's tokens, a Q-Former without text, one linear layer.

    Li et al., 2023, "BLIP-2" (arXiv 2301.12597), section 3.3.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        norm_eps: of the norm; LAVIS' is 1e-5, transformers' copy of its weights runs with 1e-6.
        queries, dim, layers, heads, hidden, cross_every, dropout: see `QFormer`.
    """

    joint = False

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        norm_eps: float = 1e-5,
        queries: int = 32,
        dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        cross_every: int = 2,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim_in, eps=norm_eps)
        self.qformer = QFormer(
            dim_in,
            queries=queries,
            dim=dim,
            layers=layers,
            heads=heads,
            hidden=hidden,
            cross_every=cross_every,
            vocab_size=0,
            dropout=dropout,
        )
        self.proj = nn.Linear(dim, dim_out)

    def count(self, tokens: int) -> int:
        """Embeddings of an image, of however many tokens: one for each query."""
        del tokens
        return self.qformer.queries.shape[1]

    def forward(self, features: Tensor) -> Tensor:
        """Tokens [N, T, dim_in] to [N, queries, dim_out]."""
        return self.proj(self.qformer(self.norm(features)))
