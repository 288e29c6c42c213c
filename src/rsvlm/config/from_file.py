"""Configurations that come out of a file: a run's folder, or a checkpoint from somebody else.

What a file says is held against what rsvlm's own configuration can build, by object, before
anything of it is built: a file chooses among our classes, and calls nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rsvlm.config import config_dir
from rsvlm.config.renamed import current
from rsvlm.config.validate import locate, nodes
from rsvlm.errors import UserError

#: Larger ones are none of ours, and YAML can multiply.
LARGEST = 4 << 20
_TARGET = re.compile(r"_target_:\s*[\"']?([\w.]+)")


def read_config(path: Path, own: Path | None = None) -> dict[str, Any]:
    """The configuration of a run's folder, as plain values.

    Args:
        path: config.yaml.
        own: the user's own folder of configurations, whose classes may be named too.

    Raises:
        UserError: it cannot be read, is no configuration, or names what it may not build.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} has {path.stat().st_size:,} bytes: it is no configuration.")
        text = path.read_text(encoding="utf-8")
        if re.search(r"(^|[\s\[{,:-])[&*][\w-]+", re.sub(r"\"[^\"]*\"|'[^']*'", "", text)):
            raise UserError(
                f"{path} has YAML anchors or aliases, which rsvlm does not write: write the values "
                "out, or take the file from the run again."
            )
        held = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        said = str(error).splitlines()
        raise UserError(f"{path} is no YAML: {said[0] if said else 'too deep'}.") from error
    if not isinstance(held, Mapping) or not held:
        raise UserError(f"{path} is no configuration of a run: it holds {type(held).__name__}.")
    return trusted(held, str(path), own)


def trusted(config: Mapping[str, Any], where: str, own: Path | None = None) -> dict[str, Any]:
    """A configuration in today's names, all of whose targets may be built.

    Args:
        config: plain values.
        where: the file, for errors.
        own: the user's own folder of configurations, whose classes may be named too.

    Raises:
        UserError: a target that no configuration of ours, nor of the user's, names; or a value that
            would be computed.
    """
    held: dict[str, Any] = current(config, where)
    _no_interpolation(held, where)
    ours, theirs = named(config_dir()), named(own) if own is not None else set()
    for path, node in nodes(held):
        target = node["_target_"]
        if not isinstance(target, str):
            raise UserError(f"{where}: {path}._target_ is {target!r}, not the name of a class.")
        if target in ours or target in theirs:
            continue
        if target.startswith("rsvlm.") and _same_object(target, ours):
            continue
        raise UserError(
            f"{where}: {path} would build {target}, which is none of the classes that rsvlm's "
            "configuration names, so nothing was built. If it is your own, give the folder whose "
            "configuration names it: --config-dir <folder>. If the file is somebody else's, do not "
            "use it."
        )
    return held


def named(folder: Path) -> set[str]:
    """All targets that the configurations of a folder name."""
    found: set[str] = set()
    for path in folder.rglob("*.yaml"):
        found.update(_TARGET.findall(path.read_text(encoding="utf-8")))
    return found


def _same_object(target: str, ours: set[str]) -> bool:
    """Whether a name is another one of an allowed object; imports rsvlm's own modules alone."""
    module, _, word = target.rpartition(".")
    if not word.isidentifier() or not re.fullmatch(r"rsvlm(\.[a-z_0-9]+)*", module):
        return False
    try:
        wanted = locate(target)
    except UserError:
        return False
    return any(locate(name) is wanted for name in ours if name.endswith(f".{word}"))


def _no_interpolation(value: Any, where: str) -> None:
    if isinstance(value, Mapping):
        for inner in value.values():
            _no_interpolation(inner, where)
    elif isinstance(value, list):
        for inner in value:
            _no_interpolation(inner, where)
    elif isinstance(value, str) and "${" in value:
        raise UserError(
            f"{where} holds {value[:60]!r}, which would be computed. A run writes plain values: "
            "replace it by its value."
        )
