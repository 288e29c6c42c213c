"""Holds the values of a node against the annotations of what it builds, before building it."""

from __future__ import annotations

import inspect
import math
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union

from rsvlm.errors import UserError, near

#: Least value of a number, by the last word of its key; -1 stands for "no end" where it may.
LEAST: dict[str, float] = {
    "batch_size": 1,
    "eval_batch_size": 1,
    "block": 1,
    "workers": 0,
    "lr": 0,
    "weight_decay": 0,
    "eps": 0,
    "warmup_steps": 0,
    "max_epochs": -1,
    "max_steps": -1,
    "save_every": 1,
    "accumulate_grad_batches": 1,
    "log_every_n_steps": 1,
    "gradient_clip_val": 0,
    "num_nodes": 1,
}
#: What other programs call the same.
_OTHERS = {"fp16": "16-mixed", "float16": "16-mixed", "amp": "16-mixed", "half": "16-mixed"}
_OTHERS |= {"bfloat16": "bf16-mixed", "fp32": "32-true", "float32": "32-true"}


def hints(target: Callable[..., Any]) -> dict[str, Any]:
    """Annotations of a function, or of a class with those of its bases; those that can be read."""
    found: dict[str, Any] = {}
    makers = [vars(c).get("__init__") for c in reversed(getattr(target, "__mro__", ()))] or [target]
    for maker in makers:
        if not callable(maker):
            continue
        try:
            found |= typing.get_type_hints(maker)
        except (NameError, TypeError, AttributeError):  # names for type checkers alone
            continue
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.annotation is not parameter.empty and not isinstance(
            parameter.annotation, str
        ):
            found[name] = parameter.annotation
    return found


def check_values(path: str, node: Mapping[str, Any], target: Callable[..., Any]) -> None:
    """Holds the numbers, words and switches of a node to the types of its target.

    Raises:
        UserError: a value of another type, an unknown word, or a number below its least.
    """
    known = hints(target)
    for key, value in node.items():
        if isinstance(value, str) and ("${" in value or value == "???"):
            continue
        hint = known.get(str(key))
        if hint is not None and not _fits(value, hint):
            raise UserError(f"{path}.{key}={value}: {_wanted(value, hint)}")
        least = LEAST.get(str(key))
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if least is not None and number and (value < least or math.isnan(value)):
            text = f"{least:g} or more" + (", or -1 for no end" if least == -1 else "")
            text = "1 or more, or -1 for no end" if least == -1 else text
            raise UserError(f"{path}.{key}={value}: give {text}.")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a type; containers and classes are left to their target."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return value in args
    if hint is None or hint is type(None):
        return value is None
    plain = value is None or isinstance(value, str | int | float | bool)
    if not plain:
        return hint not in (int, float, bool, str)
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str or hint is Path:
        return isinstance(value, str)
    return True


def _wanted(value: Any, hint: Any) -> str:
    words = _words(hint)
    if words:
        text = str(value)
        if _OTHERS.get(text) in words:
            known = ", ".join(dict.fromkeys(map(str, words)))
            return f"Did you mean {_OTHERS[text]}? Known: {known}."
        return near(text, words) if isinstance(value, str) else f"Known: {', '.join(words)}."
    kinds = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    args = typing.get_args(hint) or (hint,)
    named = [kinds[arg] for arg in args if arg in kinds]
    if type(None) in args:
        named.append("null")
    return f"give {' or '.join(named) or getattr(hint, '__name__', hint)}."


def _words(hint: Any) -> list[str]:
    if typing.get_origin(hint) is Literal:
        return [str(arg) for arg in typing.get_args(hint)]
    return [word for arg in typing.get_args(hint) for word in _words(arg)]
