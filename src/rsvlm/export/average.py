"""Weight averaging between two models of one kind.

After Wortsman et al., 2022, "Robust fine-tuning of zero-shot models" (WiSE-FT, arXiv 2109.01903),
and Ilharco et al., 2022, "Patching open-vocabulary models by interpolating weights" (PAINT, arXiv
2208.05592): on the line between a model and its tuned form lie models that keep most of both.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.hooks import facts
from rsvlm.checkpoints.match import collapse
from rsvlm.errors import UserError


@torch.no_grad()
def average(a: nn.Module, b: nn.Module, alpha: float = 0.5) -> dict[str, Tensor]:
    """The weights (1 - alpha) a + alpha b; the temperature is averaged as its logarithm.

    Args:
        a: the model that was tuned, as a zero-shot CLIP.
        b: what it was tuned to; LoRA folded into the weights (`nn.adapters.merge`).
        alpha: in [0, 1].

    Returns:
        A state dict for either model, in a's dtypes.

    Raises:
        UserError: other architectures, activations or preprocessing, other tensors, or LoRA whose
            factors cannot be averaged.
    """
    if not 0 <= alpha <= 1:
        raise UserError(
            f"alpha={alpha}: it must lie in [0, 1]; 0 is the first model, 1 the second."
        )
    of_a, of_b = facts(a), facts(b)
    for word in of_a | of_b:
        if of_a.get(word) != of_b.get(word):
            raise UserError(
                f"the two models cannot be averaged: {word} is {of_a.get(word)} in the first and "
                f"{of_b.get(word)} in the second."
            )
    if "activation" in of_a and of_a["activation"] is None:
        raise UserError(
            "neither model's activation is set, so nothing says that they have the same: build "
            "them with activation=quick_gelu or activation=gelu, or load a zoo row."
        )
    left, right = a.state_dict(), b.state_dict()
    others = sorted(left.keys() ^ right.keys())
    others += [n for n in left if n in right and left[n].shape != right[n].shape]
    if others:
        raise UserError(
            f"the two models cannot be averaged: {len(others)} tensors are in one only or have "
            f"another shape, such as {', '.join(collapse(others)[:3])}."
        )
    if any(".lora." in name for name in left):
        raise UserError(
            "the mean of two LoRAs' factors is not the mean of their updates: fold them into the "
            "weights first, with rsvlm.nn.adapters.merge(model)."
        )
    return {name: _mix(value, right[name], alpha) for name, value in left.items()}


def _mix(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    if not a.is_floating_point():
        return b.clone()  # batch norm's count of batches
    return torch.lerp(a.float(), b.float(), alpha).to(a.dtype)
