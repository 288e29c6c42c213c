"""CSRM, the cross-semantic relation measuring of DeltaVLM: gate what changed between two dates.

Deng et al., "DeltaVLM: Interactive Remote Sensing Image Change Analysis with Instruction-guided
Difference Perception" (arXiv 2507.22346; Remote Sensing 2026, 18(4), 541), and the code at
hanlinwu/DeltaVLM (6c9bd60), which differ:

- `paper`: C_t = tanh(W_c [D; F_t] + b_c), G_t = sigmoid(W_g [D; F_t] + b_g) with weights of each
  date's own; the output is F'_t = G_t * C_t.
- `released`: one set of weights for both dates, dropout of 0.5 on C_t and G_t, and a further
  fusion, W_3 [F_t; D; F'_t] + b_3. The published `generate` runs this, the published training
  leaves it out.
- `bypass`: F_t as it is, without parameters; what the published training runs.

D is always after minus before. There is no attention between positions.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from rsvlm.errors import UserError, near

Variant = Literal["paper", "released", "bypass"]


class Gate(nn.Module):
    """G * C of one date, the paper's form: both from the difference and the date's features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.context = nn.Linear(2 * dim, dim)
        self.gate = nn.Linear(2 * dim, dim)

    def forward(self, difference: Tensor, features: Tensor) -> Tensor:
        """Both [B, T, dim]."""
        joined = torch.cat([difference, features], dim=-1)
        return torch.sigmoid(self.gate(joined)) * torch.tanh(self.context(joined))


class SharedGate(nn.Module):
    """The released form: shared weights, dropout, fusion."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.context_difference = nn.Linear(dim, dim, bias=False)
        self.context_features = nn.Linear(dim, dim)
        self.gate_difference = nn.Linear(dim, dim, bias=False)
        self.gate_features = nn.Linear(dim, dim)
        self.fuse = nn.Linear(3 * dim, dim)
        self.drop = nn.Dropout(dropout)

    def forward(self, difference: Tensor, features: Tensor) -> Tensor:
        """Both [B, T, dim]."""
        context = self.context_difference(difference) + self.context_features(features)
        gate = self.gate_difference(difference) + self.gate_features(features)
        kept = self.drop(torch.sigmoid(gate)) * self.drop(torch.tanh(context))
        return self.fuse(torch.cat([features, difference, kept], dim=-1))


class CSRM(nn.Module):
    """Features of two dates to change tokens, before's first.

    Args:
        dim: width.
        variant: see above.
        dropout: of `released`.
        legacy_mismatch: train without the module and generate through it, as the published code
            does; only to repeat what was published. With `released` alone.

    Raises:
        UserError: an unknown variant, or a mismatch that was never published.
    """

    def __init__(
        self,
        dim: int,
        *,
        variant: str = "released",
        dropout: float = 0.5,
        legacy_mismatch: bool = False,
    ) -> None:
        super().__init__()
        if variant not in get_args(Variant):
            raise UserError(f"CSRM: variant={variant!r}. {near(variant, get_args(Variant))}")
        if legacy_mismatch and variant != "released":
            raise UserError(
                f"CSRM: legacy_mismatch goes with variant=released, not {variant}: it trains "
                "without the module and generates through it, as the published code does."
            )
        self.variant, self.legacy_mismatch = variant, legacy_mismatch
        self.both = SharedGate(dim, dropout) if variant == "released" else None
        self.before = Gate(dim) if variant == "paper" else None
        self.after = Gate(dim) if variant == "paper" else None

    def forward(self, features: Tensor) -> Tensor:
        """Change tokens [B, 2 * T, dim].

        Args:
            features: [B, 2, T, dim], before and after.

        Raises:
            UserError: not two dates.
        """
        if features.ndim != 4 or features.shape[1] != 2:
            raise UserError(
                f"CSRM compares two images of a place, got features {list(features.shape)}: give "
                "before and after."
            )
        before, after = features.unbind(1)
        difference = after - before
        if self.both is not None and not (self.legacy_mismatch and self.training):
            pair = (self.both(difference, before), self.both(difference, after))
        elif self.before is not None and self.after is not None:
            pair = (self.before(difference, before), self.after(difference, after))
        else:
            pair = (before, after)
        return torch.cat(pair, dim=1)

    @property
    def idle(self) -> list[str]:
        """Names of parameters that training does not reach: all of them in the mismatch."""
        return [name for name, _ in self.named_parameters()] if self.legacy_mismatch else []

    @torch.no_grad()
    def looks_untrained(self) -> bool:
        """Whether the weights still are what PyTorch draws for a new linear layer.

        A new layer is uniform within 1 / sqrt(fan-in). Training with a learning rate of 1e-5 over
        some ten thousand steps moves the extremes beyond that bound, and the shape off uniform.
        A matrix passes for new if its largest weight lies within 0.1 % of the bound and its
        standard deviation within 1 % of the uniform one, bound / sqrt(3); only matrices of 10,000
        weights or more are looked at, whose deviation is that sure by chance.
        """
        layers = [m for m in self.modules() if isinstance(m, nn.Linear)]
        large = [layer for layer in layers if layer.weight.numel() >= 10_000]
        return bool(large) and all(_is_new(layer.weight) for layer in large)


def _is_new(weight: Tensor) -> bool:
    if weight.is_meta:
        return False
    bound = 1 / math.sqrt(weight.shape[1])
    largest = weight.abs().max().item()
    spread = weight.float().std().item() * math.sqrt(3)
    return abs(largest - bound) <= 1e-3 * bound and abs(spread - bound) <= 1e-2 * bound
