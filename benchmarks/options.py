"""Model options of conf/ as benchmarks build them, with other sizes where a machine is small.

Without Hydra, which a GPU machine may lack: of a model's file this reads `defaults`, values below
them, `_target_`, `_partial_` and `${..name}`, which is what conf/model uses.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

CONF = Path(__file__).parents[1] / "conf" / "model"


def build(option: str, words: Sequence[str] = (), device: str = "cpu") -> Any:
    """A model with random weights.

    Args:
        option: as behind `model=`.
        words: overrides within the model's node, as `lm.dtype=bfloat16` or `+vocab_size=100`.
        device: where it is built.
    """
    node = read(CONF / f"{option}.yaml")
    for word in words:
        key, _, value = word.removeprefix("+").partition("=")
        *parents, last = key.split(".")
        at = node
        for parent in parents:
            at = at[parent]
        at[last] = yaml.safe_load(value)
    with torch.device(device):
        return made(node, ())


def read(file: Path) -> dict[str, Any]:
    """An option's values, those of its `defaults` below its own."""
    own = yaml.safe_load(file.read_text(encoding="utf-8"))
    node: dict[str, Any] = {}
    for entry in own.pop("defaults", ["_self_"]):
        if entry == "_self_":
            merge(node, own)
        elif isinstance(entry, str):
            merge(node, read(file.parent / f"{entry}.yaml"))
        else:
            for group, name in entry.items():
                place = group.removeprefix("override ")
                node[place] = read(file.parent / place / f"{name}.yaml") if name else None
    return node


def merge(node: dict[str, Any], new: dict[str, Any]) -> None:
    """Writes values over others, key by key."""
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(node.get(key), dict):
            merge(node[key], value)
        else:
            node[key] = value


def made(node: Any, above: tuple[dict[str, Any], ...]) -> Any:
    """What a node describes, its parts first.

    Args:
        node: a value of the configuration.
        above: the nodes that hold it, outermost first.
    """
    if isinstance(node, list):
        return [made(value, above) for value in node]
    if isinstance(node, str) and (name := re.fullmatch(r"\$\{\.\.(\w+)\}", node)):
        return made(above[-2][name[1]], above[:-1])
    if not isinstance(node, dict):
        return node
    values = {key: made(value, (*above, node)) for key, value in node.items()}
    target, unfinished = values.pop("_target_", None), values.pop("_partial_", False)
    if target is None:
        return values
    module, _, name = target.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    return partial(kind, **values) if unfinished else kind(**values)
