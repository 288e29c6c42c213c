"""Step 2: from a path to named tensors.

Reads what `torch.save` writes (`weights_only=True`, so a pickle never runs code), safetensors,
arrays of numpy's `.npz`, a zip with one checkpoint in it, folders of numbered parts, and our own
checkpoints. What a file is
is decided by its first bytes, not by its suffix.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.checkpoints.harmless import STAND_INS
from rsvlm.checkpoints.harmless import load as load_harmless
from rsvlm.checkpoints.hub import CONFIGS, choose, is_weights
from rsvlm.checkpoints.parts import files_within, is_parts, read_parts
from rsvlm.checkpoints.pickled import read_pickled
from rsvlm.checkpoints.stored import check_stored
from rsvlm.checkpoints.verify import instead, judge, verify
from rsvlm.errors import UserError

#: Keys under which training scripts put the state dict.
_OUTER = ("state_dict", "model_state_dict", "model", "module")
#: What wrappers (DDP, torch.compile) put in front of every name.
_WRAPPERS = ("module.", "_orig_mod.")


@dataclass
class Contents:
    """What a checkpoint holds.

    Attributes:
        path: the file it came from, or the folder.
        tensors: by name, wrappers' prefixes taken off.
        packed: the `rsvlm` entry of our own checkpoints, else None.
        configs: the known JSON files beside it, by name.
        recipe: the configuration that a training script put beside the weights, or nothing.
    """

    path: Path
    tensors: dict[str, Tensor]
    packed: dict[str, Any] | None = None
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)


def read(path: Path, *, pickled: bool = False) -> Contents:
    """Read a file, or a folder that holds one model.

    Args:
        path: the file or folder.
        pickled: the file may hold whole modules; take their tensors without running their code.

    Raises:
        UserError: not a checkpoint, damaged, incomplete, or a pickle that wants to run code.
    """
    folder = path if path.is_dir() else path.parent
    configs = {n: _json(folder / n) for n in CONFIGS if (folder / n).is_file()}
    if path.is_dir() and is_parts(inside := files_within(path)):
        tensors = read_parts(path, inside, lambda sub: read(sub).tensors, _loose)
        return Contents(path, tensors, configs=configs)
    if path.is_dir():
        names = choose([p.name for p in path.iterdir() if p.is_file()], str(path))
    else:
        part = re.fullmatch(r"(.*)\d{5}(-of-.*)", path.name)
        beside = sorted(path.parent.glob(f"{part[1]}*{part[2]}")) if part else [path]
        names = [p.name for p in beside]
    if names[0].endswith(".index.json"):
        objects = _indexed(folder / names[0])
    elif len(names) > 1 or "-of-" in names[0]:
        objects = _parts(folder, names)
    else:
        file = folder / names[0]
        objects = _file(file, pickled=pickled)
    contents = unwrap(objects, path)
    contents.configs = configs
    return contents


def _json(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(held, dict):
        raise UserError(f"{path} holds a {type(held).__name__}, not one object of words.")
    return held


def _indexed(index: Path) -> dict[str, Any]:
    """All parts of a model whose index says which tensor lies where."""
    where = _json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index}: there is no `weight_map`, so it is no index of parts.")
    if not all(isinstance(name, str) for name in where.values()):
        raise UserError(
            f"{index}: its `weight_map` does not name a file for each tensor, so it is no index of "
            "parts. Fetch it again."
        )
    names = sorted(set(where.values()))
    missing = [n for n in names if PurePosixPath(n).name != n or not (index.parent / n).is_file()]
    if missing:
        raise UserError(
            f"{index.parent} lacks {len(missing)} of the {len(names)} parts that {index.name} "
            f"names: {', '.join(missing)}. Fetch them into that folder."
        )
    tensors = _joined(index.parent, names)
    lost = [key for key in where if key not in tensors]
    if lost:
        raise UserError(
            f"{index.name} names {len(lost)} tensors that no part holds, such as {lost[0]}: the "
            "index and the parts belong to different models."
        )
    return tensors


def _parts(folder: Path, names: list[str]) -> dict[str, Any]:
    """All numbered parts, `model-00001-of-00003.safetensors`, of a folder without an index."""
    match = re.search(r"-of-(\d+)", names[0])
    total = int(match[1]) if match else len(names)
    if len(names) != total:
        raise UserError(
            f"{folder} holds {len(names)} of {total} parts ({', '.join(names)}). Fetch the others "
            "and give the folder."
        )
    return _joined(folder, names)


def _loose(path: Path) -> Any:
    """What a file beside a folder of parts holds: named tensors, or a list of them."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        return _file(path)  # another format, or an error that says what is wrong
    return content if isinstance(content, list) else _file(path)


def _joined(folder: Path, names: list[str]) -> dict[str, Any]:
    tensors: dict[str, Any] = {}
    for name in names:
        tensors.update(_file(folder / name))
    return tensors


def _file(path: Path, *, pickled: bool = False) -> dict[str, Any]:
    """The dict that one file holds."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        raise UserError(f"{path} is empty. {instead(path)}")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is a Git LFS pointer, a few lines of text in the place of the weights. Run "
            f"git lfs pull in {path.parent}, or download the file itself."
        )
    if head.lstrip()[:1] == b"<":
        raise UserError(
            f"{path} is a web page, not a checkpoint: the download went to a page about the file "
            "(a login, an error, /blob/ in place of /resolve/). Fetch it again."
        )
    if head.startswith(b"PK"):
        return _zip(path, pickled=pickled)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return _safetensors(path)
    if head[:1] == b"\x80":
        return _torch(path, mmap=False, pickled=pickled)
    raise UserError(
        f"{path} is no checkpoint that can be read: neither torch's format, nor safetensors, nor a "
        f"zip (it starts with {head[:8]!r})."
    )


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or cut short ({error}). Fetch it again.") from error


def _zip(path: Path, *, pickled: bool) -> dict[str, Any]:
    """A torch file (a zip itself), or a zip with one checkpoint in it."""
    try:
        with zipfile.ZipFile(path) as file:
            sizes = {i.filename: i.file_size for i in file.infolist() if not i.is_dir()}
    except (zipfile.BadZipFile, RuntimeError, ValueError) as error:
        raise UserError(f"{path} is cut short or damaged ({error}). {instead(path)}") from error
    names = list(sizes)
    if names and all(name.endswith(".npy") for name in names):
        return _npz(path, sizes)
    inside = {PurePosixPath(name).name for name in names}
    if "constants.pkl" in inside:
        raise UserError(_jit(path))
    if "data.pkl" in inside:
        verify(path)
        return _torch(path, mmap=True, pickled=pickled)
    weights = [n for n in names if is_weights(n) and not n.startswith(("__MACOSX", "."))]
    if len(weights) != 1:
        found = ", ".join(weights) or "none"
        raise UserError(
            f"{path} is a zip with {len(weights)} checkpoints in it ({found}); one is needed. "
            "Unpack it and give the path of the one you mean."
        )
    with tempfile.TemporaryDirectory(prefix="rsvlm-") as folder, zipfile.ZipFile(path) as file:
        judge(path, weights[0], file.getinfo(weights[0]).file_size, Path(folder))
        try:
            return _file(Path(file.extract(weights[0], folder)), pickled=pickled)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise UserError(f"{path}!{weights[0]} is damaged ({error}). Fetch it again.") from error
        except UserError as error:
            raise UserError(str(error).replace(f"{folder}{os.sep}", f"{path}!")) from error


def _npz(path: Path, sizes: Mapping[str, int]) -> dict[str, Any]:
    """What `numpy.savez` wrote: arrays by name; what holds no numbers is left out."""
    for name, size in sizes.items():
        judge(path, name, size, None)
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        if "allow_pickle" in str(error):
            raise UserError(
                f"{path} holds pickled objects among its arrays, and nothing of it was run. Save "
                "its numbers alone: numpy.savez(path, **{name: array})."
            ) from error
        raise UserError(f"{path} is damaged or cut short ({error}). {instead(path)}") from error
    return {
        name: torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
        for name, array in arrays.items()
        if array.dtype.kind in "biufc"
    }


def _jit(path: Path) -> str:
    return (
        f"{path} is a TorchScript archive, a program with weights, as OpenAI's original CLIP files "
        "are; it is not run. The same weights as plain tensors are rows of the zoo, such as "
        "zoo:clip_vitb32.openai. Or write a state dict once, where you trust the file: "
        'torch.save(torch.jit.load("in.pt").state_dict(), "out.pt")'
    )


def _torch(path: Path, *, mmap: bool, pickled: bool) -> dict[str, Any]:
    """What `torch.save` wrote. Mapped into memory, so optimiser states are never read."""
    # Elsewhere than on posix a mapped file cannot be deleted, which `_zip` does.
    mmap = mmap and os.name == "posix"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        unsafe = _unsafe(path, str(error))
        if unsafe and set(unsafe) <= STAND_INS.keys():
            return _plain(path, mmap)
        if not unsafe:
            raise UserError(f"{path} is damaged or cut short. {instead(path)}") from error
        if pickled:
            return dict(read_pickled(path))
        raise UserError(
            f"{path} holds pickled code, and nothing of it was run: {', '.join(unsafe)}. If it is "
            "a whole pickled module, checkpoints.load(..., pickled=True) takes its tensors "
            "without its code; otherwise save its state dict alone with the code it came with."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged or cut short ({reason}). {instead(path)}") from error
    return _named(path, content)


def _plain(path: Path, mmap: bool) -> dict[str, Any]:
    """A file with a Namespace or numbers of numpy beside its tensors."""
    try:
        return _named(path, load_harmless(path, map_location="cpu", mmap=mmap))
    except UserError:
        raise
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged or cut short ({reason}). {instead(path)}") from error


def _named(path: Path, content: Any) -> dict[str, Any]:
    if isinstance(content, Tensor):
        raise UserError(f"{path} holds one tensor without a name, not a model.")
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not named tensors.")
    return dict(content)


def _unsafe(path: Path, message: str) -> list[str]:
    """The names that a pickle wants to import and must not."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except (ValueError, RuntimeError, pickle.UnpicklingError):
        return sorted(set(re.findall(r"GLOBAL (\S+)", message)))


def unwrap(content: Mapping[str, Any], path: Path) -> Contents:
    """The state dict inside of what a training script saved."""
    packed = content.get("rsvlm")
    if isinstance(packed, dict):
        check_stored(content, path)
        state = dict(content.get("state_dict") or {})
        if "pytorch-lightning_version" in content:
            # Beside the model there are states of losses and metrics, which are the task's.
            state = {k.removeprefix("model."): v for k, v in state.items() if k[:6] == "model."}
        return Contents(path, strip(state), packed)
    node: Mapping[str, Any] = content
    while True:
        inner = [
            node[key]
            for key in _OUTER
            if isinstance(node.get(key), Mapping) and _has_tensors(node[key])
        ]
        if not inner:
            break
        node = inner[0]
    tensors = {str(name): value for name, value in node.items() if isinstance(value, Tensor)}
    if not tensors:  # a state dict for each part of the model, as Chg2Cap's {"decoder_dict": ...}
        tensors = {
            f"{part}.{name}": value
            for part, state in node.items()
            if isinstance(state, Mapping) and all(isinstance(v, Tensor) for v in state.values())
            for name, value in state.items()
        }
    if not tensors:
        names = ", ".join(map(str, list(content)[:8]))
        raise UserError(f"{path} holds no tensors where a state dict would be; its keys: {names}.")
    recipe = content.get("config")
    return Contents(
        path, strip(tensors), recipe=dict(recipe) if isinstance(recipe, Mapping) else {}
    )


def _has_tensors(node: Mapping[str, Any]) -> bool:
    return any(
        isinstance(value, Tensor) or (isinstance(value, Mapping) and _has_tensors(value))
        for value in node.values()
    )


def strip(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what wrappers put in front of every name; never anything inside of a name."""
    while True:
        prefix = next(
            (p for p in _WRAPPERS if tensors and all(k.startswith(p) for k in tensors)), ""
        )
        if not prefix:
            return tensors
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
