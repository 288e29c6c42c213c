"""Our own checkpoints: what was trained, and how to recognise what was not.

A frozen tower with a source is not saved; its source and a fingerprint are, and loading compares
them. Everything in the file is a tensor or plain, so that `weights_only=True` loads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from rsvlm.checkpoints.check import check, within
from rsvlm.encoders.clip import CLIP
from rsvlm.encoders.towers import VisionTransformer
from rsvlm.errors import UserError

FORMAT = 1
_SAMPLES = 8


def pack(
    model: nn.Module,
    config: Mapping[str, Any] | None = None,
    towers: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """What a checkpoint of `model` holds.

    Args:
        model: the model.
        config: the composed configuration as plain dicts, lists, numbers and strings.
        towers: frozen parts (as `visual`, `lm`) and where their weights come from; a part whose
            source is None is saved whole.

    Returns:
        `state_dict`: trainable tensors, all buffers, and frozen tensors without a source;
        `rsvlm`: the format, the configuration, facts of the model, and for each tower with a
        source that source and a fingerprint.

    Raises:
        UserError: the configuration holds something that is not plain, or a tower is unknown.
    """
    _check_plain(config or {}, "config")
    sources = {part: source for part, source in (towers or {}).items() if source is not None}
    state = model.state_dict()
    for part in sources:
        if not any(within(name, [part]) for name in state):
            raise UserError(f"towers: the model has no part {part!r}.")
    left = {part: _frozen(model, part) for part in sources}
    out = {name for names in left.values() for name in names}
    return {
        "state_dict": {name: value for name, value in state.items() if name not in out},
        "rsvlm": {
            "format": FORMAT,
            "config": dict(config or {}),
            "model": facts(model),
            "towers": {
                part: {"source": source, **fingerprint(model, left[part])}
                for part, source in sources.items()
            },
        },
    }


def check_packed(
    model: nn.Module, packed: Mapping[str, Any], where: str = "the checkpoint"
) -> None:
    """Hold what `pack` gave against the model that is to take it; nothing is loaded.

    Args:
        model: the model, its towers' own weights loaded.
        packed: `state_dict` and `rsvlm` of a checkpoint.
        where: the file, for errors.

    Raises:
        UserError: another model's, tensors missing or unknown, or a tower that differs from the
            one it was trained with.
    """
    meta = packed["rsvlm"]
    then, now = meta["model"], facts(model)
    for word in ("class", "arch", "image_size", "activation", "peft", "variant"):
        if then.get(word) is not None and now.get(word) not in (None, then[word]):
            raise UserError(
                f"{where} is of another model: its {word} is {then[word]}, here it is {now[word]}."
            )
    if "words" in then and now.get("words", then["words"]) != then["words"]:
        raise UserError(
            f"{where} writes with {len(then['words'])} words of its own, and the model has another "
            f"vocabulary of {len(now['words'])}: leave model.words.path as the run had it."
        )
    check(model.state_dict(), packed["state_dict"], where=where, elsewhere=left_out(meta))
    check_towers(model, meta, where)


def unpack(model: nn.Module, packed: Mapping[str, Any], where: str = "the checkpoint") -> None:
    """Load what `pack` gave; see `check_packed` for the errors."""
    from rsvlm.checkpoints.load import assign

    check_packed(model, packed, where)
    assign(model, packed["state_dict"])


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


def facts(model: nn.Module) -> dict[str, Any]:
    """What a checkpoint must say of its model beside the weights."""
    if isinstance(model, CLIP):
        return {
            "class": "CLIP",
            "arch": model.arch,
            "activation": model.activation,
            "image_size": model.image_size,
            "mean": list(model.mean),
            "std": list(model.std),
            "peft": model.peft,
            "peft_options": model.peft_options,
            "stem": _stem(model),
        }
    found: dict[str, Any] = {"class": type(model).__name__}
    for word in ("variant", "image_size"):
        if isinstance(value := getattr(model, word, None), str | int):
            found[word] = value
    words = getattr(model, "words", None)
    return found if words is None else found | {"words": dict(words.ids)}


def _stem(model: CLIP) -> str | None:
    if not isinstance(model.visual, VisionTransformer):
        return None
    return "patch" if model.visual.stem is None else "conv"


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


def _frozen(model: nn.Module, part: str) -> list[str]:
    """Names of the frozen parameters of a part."""
    return [
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad and within(name, [part])
    ]


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int):
                raise UserError(f"{where} has a key {key!r}; keys are strings or integers.")
            _check_plain(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{where}[{index}]")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise UserError(
            f"{where} is a {type(value).__name__}; a checkpoint's configuration is plain: pass "
            "OmegaConf.to_container(cfg, resolve=True)."
        )
