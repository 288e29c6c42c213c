"""A metric that keeps what it was given and puts it together over all ranks at the end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class GatherMetric(Metric):
    """States are lists of tensors with a common first dimension.

    torchmetrics gathers list states tensor by tensor and invents a shape for a rank without any,
    so that ranks with different numbers of batches, or with none, wait for each other for good.
    Here each rank brings one tensor per state.

    Args:
        states: name -> whether it holds features ([n, D] float32) or integers ([n] int64).
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, states: dict[str, bool], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._features = dict(states)
        for name in states:
            self.add_state(name, default=[], dist_reduce_fx=_join)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers over ranks; see the class."""
        for name, features in self._features.items():
            held = getattr(self, name)
            if isinstance(held, list):
                empty = (
                    torch.empty((0, 0), dtype=torch.float32, device=self.device)
                    if features
                    else torch.empty((0,), dtype=torch.int64, device=self.device)
                )
                setattr(self, name, [_join(held or [empty])])
        super().sync(*args, **kwargs)

    def held(self, name: str) -> Tensor | None:
        """A state as one tensor; None where nothing was given."""
        state = getattr(self, name)
        if isinstance(state, list):
            if not state:
                return None
            state = _join(state)
        return state if state.numel() else None


def _join(parts: list[Tensor] | Tensor) -> Tensor:
    """Concatenation that passes over empty parts, whose width is not known."""
    if isinstance(parts, Tensor):
        return parts
    full = [part for part in parts if part.numel()]
    return torch.cat(full) if full else parts[0]
