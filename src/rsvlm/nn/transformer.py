"""The pre-norm residual block that CLIP's two towers are made of.

Same maths and parameter names as open_clip's `ResidualAttentionBlock`, but query, key and value are
three linear layers (so that adapters and per-projection settings reach them), and the last block of
a tower can be run for its pooled token alone. `nn/adapters.py` fills the places named `peft`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from rsvlm.errors import UserError
from rsvlm.nn.precision import no_autocast

ACTIVATIONS = ("gelu", "quick_gelu")


def quick_gelu(x: Tensor) -> Tensor:
    """`x * sigmoid(1.702 x)`, the activation that OpenAI's CLIP models were trained with.

    Written with `silu`, which has a fused backward and keeps one tensor for it instead of three.
    """
    return F.silu(1.702 * x) / 1.702


class LayerNorm(nn.LayerNorm):
    """Layer norm that gives back the dtype it got, under autocast too.

    Autocast on a GPU would run it in float32 and keep a float32 copy of its input for the backward
    pass; the kernels accumulate in float32 anyway.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension of x [..., D]."""
        # The CPU's kernel takes float32 gains with half-precision inputs, the GPU's does not.
        if x.dtype == self.weight.dtype or x.device.type == "cpu":
            return super().forward(x)
        with no_autocast(x.device.type):
            weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)


class Extra(NamedTuple):
    """What the `peft` of one block is given by its tower.

    Attributes:
        prefix: [2, P, D], keys and values in front of the block's own.
        weights: [B, L], the share of each token in a mean over a row; None for equal shares.
    """

    prefix: Tensor | None = None
    weights: Tensor | None = None


class Attention(nn.Module):
    """Multi-head attention with separate projections and PyTorch's fused kernel."""

    def __init__(self, dim: int, heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"attention: dim={dim} is not divisible by heads={heads}.")
        self.heads = heads
        self.dropout = dropout
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)
        self.peft: nn.Module | None = None

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(
        self,
        x: Tensor,
        queries: Tensor | None = None,
        *,
        causal: bool = False,
        mask: Tensor | None = None,
        extra: Extra | None = None,
    ) -> Tensor:
        """Attend from `queries` to `x`.

        Args:
            x: [B, L, D], keys and values.
            queries: [B, Q, D]; x itself when None.
            causal: a token sees itself and earlier ones; only without `queries` and `mask`.
            mask: bool, broadcastable to [B, heads, Q, L], True where a query may look.
            extra: for `peft`.

        Returns:
            [B, Q, D].
        """
        queries = x if queries is None else queries
        q, k, v = self.q_proj(queries), self.k_proj(x), self.v_proj(x)
        if self.peft is not None:
            q, k, v = self.peft(x, queries, q, k, v, extra)
            mask, causal = _see_prefix(mask, causal, x.shape[1], k)
        attended = F.scaled_dot_product_attention(
            self._split(q),
            self._split(k),
            self._split(v),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=causal,
        )
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def _see_prefix(
    mask: Tensor | None, causal: bool, length: int, keys: Tensor
) -> tuple[Tensor | None, bool]:
    """Mask and `causal` where `peft` has put keys in front of the `length` own: all see those."""
    more = keys.shape[1] - length
    if more and causal:
        every = torch.ones(length, length + more, dtype=torch.bool, device=keys.device)
        return every.tril(more), False
    if more and mask is not None:
        return F.pad(mask, (more, 0), value=True), causal
    return mask, causal


class Mlp(nn.Module):
    """Two linear layers around CLIP's activation, which must be named before the first forward."""

    def __init__(
        self, dim: int, hidden: int, *, activation: str | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, hidden)
        self.c_proj = nn.Linear(hidden, dim)
        self.activation = activation
        self.dropout = dropout
        #: Whether the backward pass computes the activation again instead of keeping it.
        self.recompute = False

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        x = self.c_fc(x)
        if self.recompute and torch.is_grad_enabled():
            # Only the activation runs twice: the second pass stops where it has c_proj's input.
            random = self.training and self.dropout > 0
            return checkpoint(self._project, x, use_reentrant=False, preserve_rng_state=random)
        return self._project(x)

    def _project(self, x: Tensor) -> Tensor:
        if self.activation == "gelu":
            x = F.gelu(x)
        elif self.activation == "quick_gelu":
            x = quick_gelu(x)
        else:
            raise UserError(
                "this CLIP's activation is not set, and the wrong one gives wrong features without "
                "any other sign. Say model.activation=quick_gelu (OpenAI's weights and models that "
                "started from them) or model.activation=gelu (LAION's, own trainings), or load a "
                "zoo row (ckpt=zoo:...), which knows."
            )
        return self.c_proj(F.dropout(x, self.dropout, self.training))


class Block(nn.Module):
    """Pre-norm residual attention block: x + attn(ln_1 x), then x + mlp(ln_2 x)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        activation: str | None = None,
        dropout: float = 0.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(dim)
        self.attn = Attention(dim, heads, dropout=dropout)
        self.ln_2 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio), activation=activation, dropout=dropout)
        self.dropout = dropout
        self.drop_path = drop_path
        self.peft: nn.Module | None = None
        #: Whether `peft` reads all tokens of the output, so that none may be left out.
        self.whole = False

    def _branch(self, x: Tensor) -> Tensor:
        """Dropout and stochastic depth (Huang et al., 2016) of a residual branch [B, L, D]."""
        if not self.training:
            return x
        if self.dropout:
            x = F.dropout(x, self.dropout)
        if self.drop_path:
            # One draw per sample; dropout on ones scales the kept ones by 1 / (1 - drop_path).
            x = x * F.dropout(x.new_ones(x.shape[0], 1, 1), self.drop_path)
        return x

    def forward(
        self,
        x: Tensor,
        causal: bool = False,
        pool: Tensor | int | None = None,
        extra: Extra | None = None,
    ) -> Tensor:
        """Run the block, for all tokens or for one per row.

        One per row is exact in a tower's last block: nothing reads the other tokens after it, they
        serve as keys and values only.

        Args:
            x: [B, L, D].
            causal: a token sees itself and earlier ones only.
            pool: the token to compute, the same in all rows or [B]; None for all tokens.
            extra: for `peft`, what the tower says to this block.

        Returns:
            [B, L, D], or [B, D] with `pool`.
        """
        h = self.ln_1(x)
        if pool is None or self.whole:
            x = self._finish(x, self.attn(h, causal=causal, extra=extra), extra)
            if pool is None:
                return x
            return (
                x[:, pool]
                if isinstance(pool, int)
                else x[torch.arange(len(x), device=x.device), pool]
            )
        mask = None
        if isinstance(pool, int):
            x, queries = x[:, pool, None], h[:, pool, None]
            if causal:
                h = h[:, : pool + 1]
        else:
            rows = pool.view(-1, 1, 1).expand(-1, 1, x.shape[-1])
            x, queries = x.gather(1, rows), h.gather(1, rows)
            if causal:
                seen = torch.arange(h.shape[1], device=h.device) <= pool.unsqueeze(-1)
                mask = seen[:, None, None]
        return self._finish(x, self.attn(h, queries, mask=mask, extra=extra), extra).squeeze(1)

    def _finish(self, x: Tensor, attended: Tensor, extra: Extra | None) -> Tensor:
        """What follows the attention."""
        x = x + self._branch(attended)
        x = x + self._branch(self.mlp(self.ln_2(x)))
        return x if self.peft is None else self.peft(x, extra)
