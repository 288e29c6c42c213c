"""A model's tensors with LoRA folded into the weights that it tunes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.errors import UserError


@torch.no_grad()
def merged(model: nn.Module) -> dict[str, Tensor]:
    """The state dict that the same model without LoRA has; the model stays as it is.

    Sums are taken in float32 and kept in the weights' dtype.

    Raises:
        UserError: what tunes the model depends on its input, or its weights are of few bits.
    """
    layers: dict[str, Any] = {
        name: layer for name, layer in model.named_modules() if hasattr(layer, "base_layer")
    }
    out: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        owner = next((part for part in _parents(name) if part in layers), None)
        if owner is None:
            out[name] = value
            continue
        layer, inner = layers[owner], name.removeprefix(f"{owner}.")
        if not hasattr(layer, "get_delta_weight"):
            raise UserError(
                f"experts (model.tuning=moe_lora) choose by what they read, so {owner} cannot be "
                "folded into one weight, and no other library's layout holds them."
            )
        if not inner.startswith("base_layer."):
            continue
        if not value.is_floating_point():
            raise UserError(
                f"{owner} is held in few bits: load the run with model.lm.quantize=null, then "
                "export it."
            )
        if inner == "base_layer.weight":
            update = sum(layer.get_delta_weight(word).float() for word in layer.active_adapters)
            value = (value.float() + update).to(value.dtype)
        out[f"{owner}.{inner.removeprefix('base_layer.')}"] = value
    return out


def _parents(name: str) -> list[str]:
    """`a.b.c` gives `a`, `a.b`."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]
