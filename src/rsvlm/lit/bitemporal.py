"""The bi-temporal family: MModalCC, RSICCformer, Chg2Cap and DeltaVLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rsvlm.errors import UserError, near
from rsvlm.lit.generative import Generative


class Bitemporal(Generative):
    """Wires a model of two dates to its loss.

    Args:
        clip_value: part of the model -> largest magnitude of a gradient's element there, as the
            change captioners are published (5 for decoder and towers, not for the encoder between
            them). Replaces the trainer's clipping by norm.
        **shared: see `LitBase`.
    """

    def __init__(self, *, clip_value: Mapping[str, float] | None = None, **shared: Any) -> None:
        super().__init__(**shared)
        self.clip_value = dict(clip_value or {})
        parts = [name for name, _ in self.model.named_children()]
        for part in self.clip_value:
            if part not in parts:
                raise UserError(
                    f"task.clip_value: the model has no part {part!r}. {near(part, parts)}"
                )

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by value where the recipe does, by norm otherwise."""
        if not self.clip_value:
            super().configure_gradient_clipping(
                optimizer, gradient_clip_val, gradient_clip_algorithm
            )
            return
        for part, limit in self.clip_value.items():
            torch.nn.utils.clip_grad_value_(self.model.get_submodule(part).parameters(), limit)
