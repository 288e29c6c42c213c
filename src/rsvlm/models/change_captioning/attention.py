"""Blocks of the change captioners: grid positions, cross attention, multistage fusion.

The three published models (RSICCformer, Chg2Cap, MModalCC) are made of these. Sequences are
batch-first, [B, S, D].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.nn.transformer import Attention


class GridPositions(nn.Module):
    """Learned positions of a grid: the first half of the channels by column, the second by row.

    Args:
        height: most rows.
        width: most columns.
        dim: channels, even.
    """

    def __init__(self, height: int, width: int, dim: int) -> None:
        super().__init__()
        if dim % 2:
            raise UserError(f"grid positions need an even width, got {dim}.")
        self.columns = nn.Embedding(width, dim // 2)
        self.rows = nn.Embedding(height, dim // 2)

    def forward(self, height: int, width: int) -> Tensor:
        """Positions of the first `height` rows and `width` columns, [height * width, dim].

        Raises:
            UserError: the grid is larger than the tables.
        """
        most = (self.rows.num_embeddings, self.columns.num_embeddings)
        if height > most[0] or width > most[1]:
            raise UserError(
                f"a feature map of {height}x{width} does not fit positions of {most[0]}x{most[1]}: "
                "use smaller images or build the model with a larger grid."
            )
        columns = self.columns.weight[:width].expand(height, -1, -1)
        rows = self.rows.weight[:height, None].expand(-1, width, -1)
        return torch.cat([columns, rows], dim=-1).flatten(0, 1)


class CrossLayer(nn.Module):
    """Post-norm transformer layer whose queries attend to another sequence.

    `h = LN(q + Drop(Attention(q, k, k)))`, `out = LN(h + Drop(W2 Drop(ReLU(W1 h))))`.
    """

    def __init__(self, dim: int, heads: int, *, hidden: int | None = None, dropout: float) -> None:
        super().__init__()
        hidden = hidden or 4 * dim
        self.attn = Attention(dim, heads, dropout=dropout)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[B, Q, D] and [B, S, D] (keys and values) to [B, Q, D]."""

        def drop(x: Tensor) -> Tensor:
            return F.dropout(x, self.dropout, self.training)

        h = self.norm1(queries + drop(self.attn(keys, queries)))
        inner = drop(torch.relu(self.linear1(h)))
        return self.norm2(h + drop(self.linear2(inner)))


class ConvBlock(nn.Module):
    """Residual bottleneck of the fusion: 1x1 to half, 3x3, 1x1 back, each with batch norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        self.conv1, self.bn1 = nn.Conv2d(dim, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = nn.Conv2d(half, half, 3, padding=1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = nn.Conv2d(half, dim, 1), nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, h, w] to [B, D, h, w]."""
        h = torch.relu(self.bn1(self.conv1(x)))
        h = torch.relu(self.bn2(self.conv2(h)))
        return torch.relu(self.bn3(self.conv3(h)) + x)


class Fusion(nn.Module):
    """Multistage fusion of the layers' outputs (RSICCformer's MBF, MModalCC's conv block).

    `out = LN_i(ConvBlock_i(out + [before_i; after_i]))` over the layers, from `out = 0`.

    Args:
        dim: channels of one date.
        stages: number of layers.
    """

    def __init__(self, dim: int, stages: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(2 * dim) for _ in range(stages))
        self.norms = nn.ModuleList(nn.LayerNorm(2 * dim) for _ in range(stages))

    def forward(self, pairs: Sequence[tuple[Tensor, Tensor]], height: int, width: int) -> Tensor:
        """Outputs of every layer for both dates, [B, S, D] each, to [B, S, 2 D]."""
        out: Tensor | None = None
        for block, norm, (before, after) in zip(self.blocks, self.norms, pairs, strict=True):
            both = torch.cat([before, after], dim=-1)
            both = both if out is None else both + out
            grid = both.transpose(1, 2).unflatten(2, (height, width))
            out = norm(block(grid).flatten(2).transpose(1, 2))
        assert out is not None
        return out


def reset_attention(module: nn.Module) -> None:
    """Start every `Attention` below `module` as torch's `MultiheadAttention` starts.

    Query, key and value are one Xavier-uniform matrix [3 D, D] there, so that each part has the
    bound sqrt(6 / 4 D); biases are zero.
    """
    for attn in module.modules():
        if not isinstance(attn, Attention):
            continue
        for linear in (attn.q_proj, attn.k_proj, attn.v_proj):
            bound = math.sqrt(6 / (4 * linear.in_features))
            nn.init.uniform_(linear.weight, -bound, bound)
            nn.init.zeros_(linear.bias)
        nn.init.zeros_(attn.out_proj.bias)


def reset_encoder(module: nn.Module) -> None:
    """Xavier-uniform for all matrices, kernels and tables below `module`, as published."""
    packed = {
        id(linear.weight)
        for attn in module.modules()
        if isinstance(attn, Attention)
        for linear in (attn.q_proj, attn.k_proj, attn.v_proj)
    }
    for parameter in module.parameters():
        if parameter.dim() > 1 and id(parameter) not in packed:
            nn.init.xavier_uniform_(parameter)
    reset_attention(module)


def batch_norms(module: nn.Module) -> Iterable[nn.BatchNorm2d]:
    """Every batch norm below `module`."""
    return (each for each in module.modules() if isinstance(each, nn.BatchNorm2d))
