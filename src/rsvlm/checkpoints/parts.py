"""A folder of parts: several folders with weights and a `config.json` each, and loose files.

GeoPix is published so. Names of tensors get the folder's or the file's name in front; a file that
holds a list of tensors, as unregistered parameters are saved, gets their numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from rsvlm.checkpoints.hub import PREFERRED, is_weights


def is_parts(names: Sequence[str]) -> bool:
    """Whether a folder with these files, as paths within it, is one of parts."""
    paths = [PurePosixPath(name) for name in names]
    if any(path.name in PREFERRED for path in paths if len(path.parts) == 1):
        return False
    own = {path.parts[0] for path in paths if len(path.parts) == 2 and is_weights(path.name)}
    described = {path.parts[0] for path in paths if path.parts[1:] == ("config.json",)}
    return len(own & described) > 1


def files_within(folder: Path) -> list[str]:
    """Files of a folder and of its folders, as paths within it."""
    found = [path.name for path in folder.iterdir() if path.is_file()]
    for sub in folder.iterdir():
        if sub.is_dir():
            found += [f"{sub.name}/{path.name}" for path in sub.iterdir() if path.is_file()]
    return sorted(found)


def read_parts(
    folder: Path,
    names: Sequence[str],
    read_folder: Callable[[Path], dict[str, Tensor]],
    read_file: Callable[[Path], Any],
) -> dict[str, Tensor]:
    """All tensors of a folder of parts.

    Args:
        folder: the folder.
        names: of `files_within`.
        read_folder: the tensors of one folder.
        read_file: what one file holds: named tensors, or a list of them.
    """
    found: dict[str, Tensor] = {}
    subs = sorted({name.split("/")[0] for name in names if "/" in name and is_weights(name)})
    for sub in subs:
        tensors = read_folder(folder / sub)
        found |= {f"{sub}.{name}": tensor for name, tensor in tensors.items()}
    for name in names:
        if "/" in name or not is_weights(name):
            continue
        content = read_file(folder / name)
        rows = content.items() if isinstance(content, dict) else enumerate(content)
        stem = PurePosixPath(name).stem
        found |= {f"{stem}.{key}": value for key, value in rows if isinstance(value, Tensor)}
    return found
