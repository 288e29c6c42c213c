"""Holds a composed configuration against the signatures of what it builds, before building it.

Hydra accepts a key that an experiment sets for one option and another option does not know, and a
misspelt key of a partial node surfaces only when the partial is called. Here both are one error,
before any model is built.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rsvlm.config.values import check_values
from rsvlm.errors import UserError, near

SPECIAL = {"_target_", "_partial_", "_convert_", "_recursive_", "_args_"}


def locate(target: str) -> Callable[..., Any]:
    """The object a `_target_` names.

    Raises:
        UserError: there is no such module or attribute; says which part failed and why.
    """
    module, _, attribute = target.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
        return found
    except (ImportError, AttributeError) as error:
        raise UserError(f"_target_ {target!r} cannot be found: {error}.") from error


def nodes(tree: Any, path: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every mapping with a `_target_`, outermost first, with its dotted path."""
    if isinstance(tree, Mapping):
        if "_target_" in tree:
            yield path, tree
        for key, value in tree.items():
            yield from nodes(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from nodes(value, f"{path}[{i}]")


def check(
    cfg: DictConfig, choices: Mapping[str, Any] | None = None, conf: Sequence[Path] = ()
) -> int:
    """Binds every `_target_` node, partials too, to the signature of its target.

    Args:
        cfg: the composed configuration.
        choices: group → chosen option, for the error's words.
        conf: folders of configurations, to find out whether a recipe set a key.

    Returns:
        The number of nodes that were bound.

    Raises:
        UserError: a key that the target does not take, or one that it needs and is not there.
    """
    count = 0
    for path, node in nodes(OmegaConf.to_container(cfg, resolve=False)):
        _bind(path, node, choices or {}, conf)
        count += 1
    return count


def _bind(
    path: str, node: Mapping[str, Any], choices: Mapping[str, Any], conf: Sequence[Path]
) -> None:
    target = locate(node["_target_"])
    keys = [str(key) for key in node if key not in SPECIAL]
    parameters = signature(target)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in keys:
            if key not in parameters:
                raise UserError(_unknown(path, key, node, list(parameters), choices, conf))
    check_values(path, {key: node[key] for key in keys}, target)
    if node.get("_partial_"):
        return
    needed = [
        name
        for name, p in parameters.items()
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    given = len(node.get("_args_", ()))
    missing = [name for name in needed[given:] if name not in keys]
    if missing:
        raise UserError(
            f"{path}: {node['_target_']} needs {', '.join(missing)}, which the configuration does "
            f"not give. Add it with +{path}.{missing[0]}=<value>."
        )


def signature(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Parameters of a function, or of a class with those that it hands up to its bases.

    A class that takes `**options` takes what its next base takes, so that a misspelt key is found
    there too; what it gives the base itself need not be given.
    """
    found = dict(inspect.signature(target).parameters)
    for base in getattr(target, "__mro__", ())[1:-1]:
        rest = next((n for n, p in found.items() if p.kind is p.VAR_KEYWORD), None)
        if rest is None:
            break
        if "__init__" in vars(base):
            del found[rest]
            own = inspect.signature(vars(base)["__init__"]).parameters
            for name, parameter in own.items():
                if name != "self" and name not in found:
                    optional = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
                    found[name] = parameter if optional else parameter.replace(default=None)
    return found


def _unknown(
    path: str,
    key: str,
    node: Mapping[str, Any],
    known: list[str],
    choices: Mapping[str, Any],
    conf: Sequence[Path],
) -> str:
    group = path.split(".")[0]
    option = choices.get(group)
    text = f"{path}.{key} is no argument of {node['_target_']}"
    text += f" ({group}={option}). " if option else ". "
    recipe = choices.get("experiment")
    files = [folder / "experiment" / f"{recipe}.yaml" for folder in conf]
    source = next((path for path in files if path.is_file()), None)
    if source is not None:
        raw: Any = OmegaConf.load(source)
        if OmegaConf.select(raw, f"{path}.{key}") is not None:
            meant = [
                entry[f"override /{group}"]
                for entry in raw.get("defaults", [])
                if isinstance(entry, DictConfig) and f"override /{group}" in entry
            ]
            text += f"It is set by experiment={recipe}"
            text += f", which is written for {group}={meant[0]}. " if meant else ". "
            text += f"Remove it with ~{path}.{key} or use that option. "
    return text + near(key, [name for name in known if name != "self"])
