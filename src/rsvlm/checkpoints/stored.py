"""What a checkpoint of ours says of itself, held to its types before anything reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rsvlm.errors import UserError


def _words(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(word, str) and type(number) is int for word, number in value.items()
    )


def _numbers(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(v) in (int, float) for v in value)


def _shape(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(type(v) is int and v >= 0 for v in value)


#: Facts of a model -> what they must be, and in words; None is "not known" everywhere.
_FACTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "class": (lambda v: isinstance(v, str), "a name"),
    "arch": (lambda v: isinstance(v, str), "a name"),
    "activation": (lambda v: isinstance(v, str), "a name"),
    "peft": (lambda v: isinstance(v, str), "a name"),
    "stem": (lambda v: isinstance(v, str), "a name"),
    "variant": (lambda v: isinstance(v, str | int), "a name"),
    "image_size": (lambda v: type(v) is int and v > 0, "a number of pixels"),
    "mean": (_numbers, "a list of numbers"),
    "std": (_numbers, "a list of numbers"),
    "words": (_words, "words with their numbers"),
    "peft_options": (lambda v: isinstance(v, Mapping), "a node"),
}


def check_stored(content: Mapping[str, Any], path: Path) -> None:
    """Holds the `rsvlm` entry of a checkpoint, and its state dict, to their types.

    Raises:
        UserError: a fact of another type; names it.
    """
    state, meta = content.get("state_dict"), content["rsvlm"]
    if not isinstance(state, Mapping):
        raise _wrong(path, "state_dict", state, "tensors by name")
    for name, tensor in state.items():
        # Beside the model's own there may be plain states of losses and metrics.
        ours = str(name).startswith("model.") or "pytorch-lightning_version" not in content
        if ours and not (isinstance(name, str) and isinstance(tensor, Tensor)):
            raise _wrong(path, f"state_dict.{name!s:.60}", tensor, "a tensor")
    for key in ("config", "model", "towers"):
        if not isinstance(meta.get(key, {}), Mapping):
            raise _wrong(path, f"rsvlm.{key}", meta[key], "a node")
    if "model" not in meta or "towers" not in meta:
        raise UserError(f"{path} says nothing of its model: it is damaged. Take another copy.")
    for word, value in meta["model"].items():
        fits, text = _FACTS.get(word, (lambda _: True, ""))
        if value is not None and not fits(value):
            raise _wrong(path, f"rsvlm.model.{word}", value, text)
    for part, kept in meta["towers"].items():
        where = f"rsvlm.towers.{part!s:.60}"
        if not isinstance(part, str) or not isinstance(kept, Mapping):
            raise _wrong(path, where, kept, "a node")
        if not isinstance(kept.get("source"), str):
            raise _wrong(path, f"{where}.source", kept.get("source"), "the name of a checkpoint")
        shapes, sums = kept.get("shapes"), kept.get("sums", {})
        if not isinstance(shapes, Mapping) or not all(map(_shape, shapes.values())):
            raise _wrong(path, f"{where}.shapes", shapes, "the shapes of tensors")
        if not isinstance(sums, Mapping) or not all(
            _numbers(v) and len(v) == 2 for v in sums.values()
        ):
            raise _wrong(path, f"{where}.sums", sums, "two sums of each tensor")


def _wrong(path: Path, name: str, value: Any, wanted: str) -> UserError:
    return UserError(
        f"{path} is damaged, or another program wrote it: {name} is {value!r:.60}, not {wanted}. "
        "Take another copy."
    )
