"""Configurations that come out of a file: a run's folder, or a checkpoint from somebody else.

What a file says is held against what rsvlm's own configuration can build, by object, before
anything of it is built: a file chooses among our classes, and calls nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from rsvlm.config import config_dir
from rsvlm.config.renamed import current
from rsvlm.config.schema import GROUPS
from rsvlm.config.validate import locate, nodes
from rsvlm.errors import UserError

#: Bytes; larger ones are none of ours.
LARGEST = 256 << 10
#: Levels of nesting, and values in all; a recipe has seven levels and some hundred values.
DEEPEST, MOST = 32, 20_000
_TARGET = re.compile(r"_target_:\s*[\"']?([\w.]+)")
#: 1e-4 without a point, which YAML 1.1 takes for a string and OmegaConf for a number.
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9_]+(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Plain values alone: no anchors, which multiply, and no tags, which build."""

    # Dates stay strings, and floats are read as OmegaConf reads them.
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {
        first: [
            (tag, regexp) for tag, regexp in known if not tag.endswith((":timestamp", ":float"))
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()
        if getattr(event, "anchor", None) is not None:
            raise UserError(
                "has YAML anchors or aliases, which rsvlm does not write: write the values out, or "
                "take the file from the run again."
            )
        if getattr(event, "tag", None) is not None:
            raise UserError(f"has the YAML tag {event.tag}, which rsvlm does not write: remove it.")
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


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
        held = yaml.load(text, Loader=_Loader)
    except UserError as error:
        raise UserError(
            f"{path} {error}" if str(error).startswith("has ") else str(error)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        said = str(error).splitlines()
        raise UserError(f"{path} is no YAML: {said[0] if said else 'too deep'}.") from error
    if not isinstance(held, Mapping) or not held:
        found = "nothing" if held is None or held == {} else f"a {type(held).__name__}"
        raise UserError(
            f"{path} is no configuration of a run: it holds {found}. Take the file from the run "
            "again; its checkpoints hold the configuration too: init=<last.ckpt>."
        )
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
    held: dict[str, Any] = current(_plain(config, where, ""), where)
    check_groups(held, where)
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
    alike = [name for name in ours if name.endswith(f".{word}")]
    try:
        return bool(alike) and any(locate(name) is locate(target) for name in alike)
    except UserError:
        return False


def _plain(
    value: Any, where: str, path: str, *, level: int = 0, left: list[int] | None = None
) -> Any:
    """A copy in dicts, lists, numbers and strings.

    A checkpoint may hold other containers (a tuple, a set), which a search for targets would pass
    by and which OmegaConf would take.
    """
    left = [MOST] if left is None else left
    left[0] -= 1
    if level > DEEPEST or left[0] < 0:
        raise UserError(f"{where} is no configuration of a run: it is too deep or too large.")
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int, bool):
                raise UserError(f"{where}: {path or 'the top'} has the key {key!r:.60}, no name.")
        return {
            key: _plain(inner, where, f"{path}.{key}".lstrip("."), level=level + 1, left=left)
            for key, inner in value.items()
        }
    if type(value) in (list, tuple):
        return [
            _plain(inner, where, f"{path}[{i}]", level=level + 1, left=left)
            for i, inner in enumerate(value)
        ]
    if value is not None and type(value) not in (str, int, float, bool):
        raise UserError(f"{where}: {path} is a {type(value).__name__}; a run writes plain values.")
    if type(value) is str and "${" in value:
        raise UserError(
            f"{where} holds {value[:60]!r}, which would be computed. A run writes plain values: "
            "replace it by its value."
        )
    return value


def check_groups(config: Mapping[str, Any], where: str) -> None:
    """Holds the groups of a configuration to be nodes.

    A string in the place of a node would be parsed when it is made one, past every check.

    Raises:
        UserError: a group that is neither a node nor empty.
    """
    for group in GROUPS:
        node = config.get(group)
        if node is not None and not isinstance(node, Mapping):
            raise UserError(
                f"{where}: {group} is a {type(node).__name__} ({node!r:.60}), not a node."
            )
