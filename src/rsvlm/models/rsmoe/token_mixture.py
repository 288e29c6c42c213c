"""A mixture of MLP experts at each token, which the public RS-MoE repository has.

`ShareExpertMOE` of CongcongWen1208/RS-MoE (5480f72), in front of the language model, on the
embeddings of its text: experts that all tokens go through, and experts of which a linear router
picks the `top_k` likeliest. An expert is two linear layers, four times as wide between them, with
GELU and dropout. It is not the paper's mixture, and no published configuration runs it.

- `variant=released`: its form. What comes out takes the embeddings' place, answers included, the
  gates are the softmax over the picked ones, and nothing balances them. At the start it replaces a
  trained model's inputs by noise.
- `variant=residual`: ours. It is added, starts as nothing (the last layer is zero), leaves the
  answer's own words alone, which generation embeds without it, and has the load-balancing term.

Tokens of an expert lie side by side and all experts run in one grouped matrix product
(`torch.nn.functional.grouped_mm`) where it can; else in a loop with the same result.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, near
from rsvlm.nn.moe_lora import Routed

VARIANTS = ("released", "residual")


def can_group(x: Tensor, *weights: Tensor) -> bool:
    """Whether torch's grouped matrix product takes these operands.

    Its strides are multiples of 16 bytes, and a CUDA device of compute capability 8.0 or more takes
    bfloat16.
    """
    if not hasattr(F, "grouped_mm") or not len(x):
        return False
    sizes = (x.shape[-1], *(side for w in weights for side in w.shape[-2:]))
    if any(side * x.element_size() % 16 for side in sizes):
        return False
    if x.device.type == "cpu":
        return x.dtype in (torch.float32, torch.bfloat16)
    fit = x.device.type == "cuda" and x.dtype == torch.bfloat16
    return fit and torch.cuda.get_device_capability(x.device) >= (8, 0)


def grouped_product(x: Tensor, weight: Tensor, counts: Tensor, *, grouped: bool) -> Tensor:
    """Rows times the matrix of their group.

    Args:
        x: [T, in], the rows of the first group first.
        weight: [G, in, out].
        counts: [G] long, rows of each group.
        grouped: in one product of torch; else in a loop.

    Returns:
        [T, out].
    """
    if grouped:
        return F.grouped_mm(x, weight, offs=counts.cumsum(0).to(torch.int32))
    parts = x.split(counts.tolist())
    return torch.cat([rows @ matrix for rows, matrix in zip(parts, weight, strict=True)])


class TokenMixture(nn.Module):
    """See the head of this file.

    Args:
        dim: width of the embeddings.
        experts: how many a router chooses from.
        shared: how many all tokens go through.
        top_k: how many of the former a token goes through.
        ratio: width within an expert over `dim`.
        dropout: behind the GELU.
        variant: `released` or `residual`.
        grouped: use torch's grouped product; None where it can be used.

    Raises:
        UserError: an unknown variant, or numbers that make no sense.
    """

    def __init__(
        self,
        dim: int,
        *,
        experts: int = 4,
        shared: int = 2,
        top_k: int = 2,
        ratio: int = 4,
        dropout: float = 0.1,
        variant: str = "residual",
        grouped: bool | None = None,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise UserError(
                f"model.token_mixture.variant={variant!r} is not known. {near(variant, VARIANTS)}"
            )
        if not 1 <= top_k <= experts or shared < 0:
            raise UserError(
                f"model.token_mixture: top_k={top_k} must lie between 1 and experts={experts}, and "
                f"shared={shared} must be 0 or more."
            )
        self.variant, self.top_k, self.grouped = variant, top_k, grouped
        self.routed, self.shared = experts, shared
        self.router = nn.Linear(dim, experts, bias=False)
        self.fc1 = nn.Parameter(torch.empty(experts + shared, dim, ratio * dim))
        self.bias1 = nn.Parameter(torch.empty(experts + shared, ratio * dim))
        self.fc2 = nn.Parameter(torch.empty(experts + shared, ratio * dim, dim))
        self.bias2 = nn.Parameter(torch.empty(experts + shared, dim))
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    @property
    def answers(self) -> bool:
        """Whether the answer's own words go through it too."""
        return self.variant == "released"

    def reset_parameters(self) -> None:
        """As torch's linear layers start; a residual one starts as nothing."""
        for weight, bias in ((self.fc1, self.bias1), (self.fc2, self.bias2)):
            bound = 1 / math.sqrt(weight.shape[1])
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        if self.variant == "residual":
            nn.init.zeros_(self.fc2)
            nn.init.zeros_(self.bias2)

    def forward(self, x: Tensor) -> tuple[Tensor, Routed]:
        """What takes the place of embeddings [B, L, dim], and how their tokens were sent."""
        mixed, routed = self.mixture(x)
        return (x + mixed.to(x.dtype) if self.variant == "residual" else mixed.to(x.dtype)), routed

    def mixture(self, x: Tensor) -> tuple[Tensor, Routed]:
        """The sum of shared experts and of the chosen ones by their gates, and how tokens went."""
        shares = self.router(x.to(self.router.weight.dtype)).float().softmax(-1)
        kept, places = shares.topk(self.top_k, dim=-1)
        kept = kept / kept.sum(-1, keepdim=True)
        flat = x.reshape(-1, x.shape[-1]).to(self.fc1.dtype)
        tokens = torch.arange(len(flat), device=x.device)
        every = [tokens] * (self.top_k + self.shared)
        always = [tokens.new_full(tokens.shape, self.routed + k) for k in range(self.shared)]
        expert = torch.cat([*places.reshape(-1, self.top_k).unbind(1), *always])
        gate = torch.cat([*kept.reshape(-1, self.top_k).unbind(1)])
        gate = torch.cat([gate, gate.new_ones(len(tokens) * self.shared)])
        order = expert.argsort(stable=True)
        source = torch.cat(every)[order]
        counts = expert.bincount(minlength=self.routed + self.shared)
        out = self._experts(flat[source], expert[order], counts)
        out = out.float() * gate[order, None]
        total = torch.zeros_like(flat, dtype=torch.float32).index_add_(0, source, out)
        chosen = torch.zeros_like(shares).scatter(-1, places, 1.0)
        return total.view(x.shape), Routed(shares, chosen)

    def _experts(self, rows: Tensor, expert: Tensor, counts: Tensor) -> Tensor:
        grouped = can_group(rows, self.fc1, self.fc2) if self.grouped is None else self.grouped
        inner = grouped_product(rows, self.fc1, counts, grouped=grouped) + self.bias1[expert]
        inner = self.dropout(F.gelu(inner))
        return grouped_product(inner, self.fc2, counts, grouped=grouped) + self.bias2[expert]
