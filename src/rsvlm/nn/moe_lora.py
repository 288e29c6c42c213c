"""Linear layers tuned by a mixture of low-rank experts, and the term that balances them.

Each token goes through the layer as it was and through the `top_k` of its low-rank updates that a
linear router finds most likely (Shazeer et al., 2017, arXiv 1701.06538; as a way of tuning: Chen et
al., 2024, "LLaVA-MoLE", arXiv 2401.16160). RS-GPT4V (arXiv 2406.12479) tunes LLaVA so and gives no
settings; the numbers in `MOE` are ours: four experts whose ranks add up to LLaVA's LoRA of 128, two
of them for each token, alpha / r = 2 as in LLaVA, on the same layers.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError, near

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MOE: dict[str, Any] = {
    "experts": 4,
    "top_k": 2,
    "r": 32,
    "alpha": 64,
    "dropout": 0.05,
    "targets": LINEAR,
}


class Routed(NamedTuple):
    """How one layer sent its tokens.

    Attributes:
        shares: [..., experts], the router's softmax over all experts.
        chosen: [..., experts], 1 at the experts that a token goes through.
    """

    shares: Tensor
    chosen: Tensor


class Experts(nn.Module):
    """Low-rank updates of one linear layer and their router.

    Args:
        dim_in: width of the input.
        dim_out: width of the output.
        experts: how many.
        top_k: how many of them a token goes through.
        r: rank of each.
        alpha: an update is scaled by alpha / r.
        dropout: on the updates' input.

    Attributes:
        sink: takes what `collected` asks for; None outside of it.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        experts: int,
        top_k: int,
        r: int,
        alpha: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.experts, self.top_k, self.scale = experts, top_k, alpha / r
        self.router = nn.Linear(dim_in, experts, bias=False)
        self.down = nn.Parameter(torch.empty(experts, r, dim_in))
        self.up = nn.Parameter(torch.empty(experts, dim_out, r))
        self.dropout = nn.Dropout(dropout)
        self.sink: list[Routed] | None = None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As LoRA starts: the updates are zero."""
        nn.init.normal_(self.router.weight, std=0.02)
        for matrix in self.down:
            nn.init.kaiming_uniform_(matrix, a=math.sqrt(5))
        nn.init.zeros_(self.up)

    def forward(self, x: Tensor) -> Tensor:
        """The update [..., dim_out] of x [..., dim_in]."""
        x = x.to(self.down.dtype)
        shares = self.router(x).float().softmax(-1)
        kept, places = shares.topk(self.top_k, dim=-1)
        kept = kept / kept.sum(-1, keepdim=True)
        gates = torch.zeros_like(shares).scatter(-1, places, kept)
        if self.sink is not None:
            self.sink.append(Routed(shares, torch.zeros_like(shares).scatter(-1, places, 1.0)))
        # All experts in two products: their ranks together are those of one LoRA.
        low = F.linear(self.dropout(x), self.down.flatten(0, 1)).unflatten(-1, (self.experts, -1))
        low = low * (self.scale * gates).to(low.dtype)[..., None]
        return F.linear(low.flatten(-2), self.up.transpose(0, 1).flatten(1))


class MoELoRALinear(nn.Module):
    """A frozen linear layer and its experts.

    Args:
        base: the layer.
        **settings: of `Experts`.
    """

    def __init__(self, base: Any, **settings: Any) -> None:
        super().__init__()
        self.base_layer = base
        with torch.device(base.weight.device):
            self.moe = Experts(base.in_features, base.out_features, **settings)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        y = self.base_layer(x)
        return y + self.moe(x).to(y.dtype)


def add_experts(model: nn.Module, settings: Mapping[str, Any] | None = None) -> None:
    """Put experts beside linear layers of a model, in place.

    Args:
        model: any.
        settings: `experts`, `top_k`, `r`, `alpha`, `dropout`, `targets` (last parts of names) where
            they differ from `MOE`.

    Raises:
        UserError: an unknown setting, a number that makes no sense, or targets that are not there.
    """
    for word in settings or {}:
        if word not in MOE:
            raise UserError(f"moe: {word!r} is not known. {near(word, MOE)}")
    chosen = {**MOE, **(settings or {})}
    targets: Collection[str] = tuple(chosen.pop("targets"))
    if not 1 <= chosen["top_k"] <= chosen["experts"] or chosen["r"] < 1:
        raise UserError(
            f"moe: top_k={chosen['top_k']} must lie between 1 and experts={chosen['experts']}, "
            f"r={chosen['r']} must be 1 or more."
        )
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in targets
    ]
    lost = set(targets) - {name.rpartition(".")[2] for name, _ in found}
    if lost:
        raise UserError(f"moe: targets={sorted(lost)}: the model has no linear layers so called.")
    for name, module in found:
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, MoELoRALinear(module, **chosen))


@contextmanager
def collected(model: nn.Module) -> Iterator[list[Routed]]:
    """How all layers of a model send the tokens of the passes within; nothing stays on them."""
    layers = [module for module in model.modules() if isinstance(module, Experts)]
    sent: list[Routed] = []
    for layer in layers:
        layer.sink = sent
    try:
        yield sent
    finally:
        for layer in layers:
            layer.sink = None


def balance(sent: Sequence[Routed], mask: Tensor) -> Tensor:
    """The load-balancing term of Fedus et al., 2021, "Switch Transformers" (arXiv 2101.03961).

    The number of experts times the sum over them of the share of choices that they got and the mean
    share that the router gave them; the mean over layers. 1 where all are used alike, up to the
    number of experts where one gets all tokens.

    With several processes both shares are those of all of them: each process gives its own tokens'
    part, so that the mean over processes is the term of the global batch.

    Args:
        sent: of `collected`, [B, L, experts] each.
        mask: [B, L], how often a token counts: 0 on padding.

    Returns:
        A scalar.
    """
    weights = mask.float()[..., None]
    chosen = torch.stack([(routed.chosen * weights).sum((0, 1)) for routed in sent])
    asked = torch.stack([(routed.shares * weights).sum((0, 1)) for routed in sent])
    total, ranks = weights.sum(), 1
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(chosen)
        dist.all_reduce(total)
        ranks = dist.get_world_size()
    given = chosen / chosen.sum(-1, keepdim=True)
    return (asked.shape[-1] * ranks * (given * asked / total).sum(-1)).mean()
