"""What a checkpoint says of the frozen towers that it leaves out: sources and fingerprints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from rsvlm.checkpoints.match import within
from rsvlm.errors import UserError

_SAMPLES = 8


def left_out(meta: Mapping[str, Any]) -> set[str]:
    """Names of the frozen tensors that a checkpoint leaves to its towers' sources."""
    return {name for kept in meta["towers"].values() for name in kept["shapes"]}


def check_towers(model: nn.Module, meta: Mapping[str, Any], where: str) -> None:
    """Compare the frozen towers of a model with those that a checkpoint was trained with.

    Raises:
        UserError: a tower's weights are others.
    """
    state = model.state_dict()
    for part, kept in meta["towers"].items():
        lost = [name for name in kept["shapes"] if name not in state]
        now = fingerprint(model, [name for name in kept["shapes"] if name in state])
        difference = f"{lost[0]} is not there" if lost else _difference(kept, now)
        if difference:
            bits = f" (and model.{part}.quantize as then)" if "then [" in difference else ""
            raise UserError(
                f"{where} was trained with the weights {kept['source']} in {part}, and the model "
                f"has others there ({difference}). Give model.{part}.weights={kept['source']}"
                f"{bits}."
            )


def fingerprint(model: nn.Module, names: Iterable[str]) -> dict[str, Any]:
    """A few numbers that tell weights from others.

    Sums are taken of the values rounded to bfloat16, so that a tower kept in half precision equals
    the same one in float32.

    Returns:
        `shapes`: name to shape; `sums`: for a few of the names, sum and sum of magnitudes (none
        for what lies on `meta`).
    """
    state = model.state_dict()
    names = sorted(names)
    sums: dict[str, list[float]] = {}
    for name in names[:: max(1, len(names) // _SAMPLES)]:
        if not state[name].is_meta:
            values = state[name].to(torch.bfloat16).double()
            sums[name] = [float(values.sum()), float(values.abs().sum())]
    return {"shapes": {name: list(state[name].shape) for name in names}, "sums": sums}


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How two fingerprints differ; empty if they do not, as far as both have sums."""
    for name, shape in then["shapes"].items():
        if shape != now["shapes"][name]:
            return f"{name} is {now['shapes'][name]}, then {shape}"
    for name in then["sums"].keys() & now["sums"].keys():
        (was, size), (is_now, _) = then["sums"][name], now["sums"][name]
        # Only the order of summation may differ, in float64: far below this.
        if abs(was - is_now) > 1e-9 * size:
            return f"{name} sums to {is_now:.6g}, then {was:.6g}"
    return ""


def frozen_names(model: nn.Module, part: str) -> list[str]:
    """Names of the frozen parameters of a part."""
    return [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad and within(name, [part])
    ]
