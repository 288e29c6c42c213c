"""Tensors out of whole pickled modules, without running a line of the pickle's code.

Some published checkpoints (MModalCC, RSICCformer) hold modules, not state dicts. Unpickling them
would import and run whatever the file names. This reader gives the unpickler an inert stand-in for
every class and function except a few that rebuild tensors and containers, and those are its own.
What comes out are the tensors that the modules' `state_dict()` would have given.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from rsvlm.errors import UserError

_DTYPES: dict[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
#: What an unpickler raises on bytes that are not what they should be.
_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
)
_WRAPPERS = ("DataParallel", "DistributedDataParallel")


class _Frozen(type):
    """A metaclass whose classes a pickle cannot alter (BUILD can set attributes on classes)."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"the pickle tries to change {cls.__name__}.{name}")


class _Inert(metaclass=_Frozen):
    """Stands in for any class or function of the pickle: takes everything, does nothing."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = object.__new__(cls)
        self.__dict__["state"] = {}
        self.__dict__["items"] = []
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"the pickle tries to set {name}")

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__["state"].update(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["items"].append((key, value))

    def append(self, value: Any) -> None:
        """Takes the items of list subclasses."""
        self.__dict__["items"].append((len(self.__dict__["items"]), value))

    def extend(self, values: Any) -> None:
        """Takes the items of list subclasses."""
        for value in values:
            self.append(value)

    def add(self, value: Any) -> None:
        """Takes the items of set subclasses."""
        self.append(value)


class _Dict(dict[Any, Any], metaclass=_Frozen):
    """Stands in for OrderedDict and defaultdict; attributes (`_metadata`) are dropped."""

    def __init__(self, *args: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        pass


class _Safe(metaclass=_Frozen):
    """One of this reader's own functions, as an object that a pickle cannot alter."""

    __slots__ = ("_run",)
    _run: Callable[..., Any]

    def __init__(self, run: Callable[..., Any]) -> None:
        object.__setattr__(self, "_run", run)

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"the pickle tries to set {name}")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("the pickle tries to change a function")


def _rebuild(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    # as_strided refuses what lies outside of the storage.
    return storage.as_strided(size, stride, offset)


def _rebuild_typed(
    storage: Tensor,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    grad: Any,
    hooks: Any,
    dtype: torch.dtype,
    *_: Any,
) -> Tensor:
    return storage.view(dtype).as_strided(size, stride, offset)


def _rebuild_subclass(function: Any, kind: Any, args: tuple[Any, ...], state: Any) -> Any:
    if not isinstance(function, _Safe):
        raise pickle.UnpicklingError("a tensor subclass is rebuilt by an unknown function")
    return function(*args)


_SAFE: dict[str, Any] = {
    "torch._utils._rebuild_tensor": _Safe(_rebuild),
    "torch._utils._rebuild_tensor_v2": _Safe(_rebuild),
    "torch._utils._rebuild_tensor_v3": _Safe(_rebuild_typed),
    "torch._utils._rebuild_parameter": _Safe(lambda data, *_: data),
    "torch._utils._rebuild_parameter_with_state": _Safe(lambda data, *_: data),
    "torch._tensor._rebuild_from_type_v2": _Safe(_rebuild_subclass),
    "torch.Size": _Safe(lambda size: tuple(size)),
    "collections.OrderedDict": _Dict,
    "collections.defaultdict": _Dict,
    "builtins.set": _Safe(lambda items=(): set(items)),
    "builtins.frozenset": _Safe(lambda items=(): frozenset(items)),
    **{f"torch.{str(dtype).removeprefix('torch.')}": dtype for dtype in _DTYPES.values()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, storage: Callable[[str, torch.dtype], Tensor]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2, which torch writes, names Python 2's modules.
        origin = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if origin in _SAFE:
            return _SAFE[origin]
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        return _Frozen(name, (_Inert,), {"origin": origin})

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown kind of storage {kind!r}")
        return self._storage(str(key), dtype)


def read_pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a file saved by `torch.save(module)` or `torch.save({name: module, ...})`.

    Args:
        path: a torch file in the zip format (torch 1.6 and later).

    Returns:
        Names as in the modules' state dicts, with the key of the outer dict in front. Optimisers
        are left out; `DataParallel` wrappers leave no trace in the names.

    Raises:
        UserError: not such a file, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            content = _unpickle(file)
        tensors = dict(_walk(content, ""))
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{path}: not a whole torch file in the zip format ({error}). If torch older than 1.6 "
            "wrote it, load and save it once with the code it came with."
        ) from error
    except _BROKEN as error:
        raise UserError(f"{path}: its pickle cannot be read safely: {error}") from error
    if not tensors:
        raise UserError(f"{path}: there are no modules and no tensors in it.")
    return tensors


def _unpickle(file: zipfile.ZipFile) -> Any:
    names = file.namelist()
    root = next((name for name in names if name.endswith("data.pkl")), None)
    if root is None:
        raise pickle.UnpicklingError("there is no data.pkl, so torch.save did not write it")
    root = root.removesuffix("data.pkl")
    if f"{root}byteorder" in names and file.read(f"{root}byteorder") != b"little":
        raise pickle.UnpicklingError("it was saved on a big-endian machine")
    cache: dict[str, Tensor] = {}

    def storage(key: str, dtype: torch.dtype) -> Tensor:
        if key not in cache:
            data = bytearray(file.read(f"{root}data/{key}"))
            cache[key] = (
                torch.frombuffer(data, dtype=torch.uint8) if data else torch.empty(0).byte()
            )
        return cache[key].view(dtype)

    return _Unpickler(io.BytesIO(file.read(f"{root}data.pkl")), storage).load()


def _walk(node: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of whatever lies in an outer dict or list."""
    if isinstance(node, Tensor):
        yield prefix.rstrip("."), node
    elif isinstance(node, _Inert):
        state = node.__dict__["state"]
        if "_parameters" in state:
            yield from _module(node, prefix)
    elif isinstance(node, Mapping):
        if "param_groups" not in node:
            for key, value in node.items():
                yield from _walk(value, f"{prefix}{key}.")
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _walk(value, f"{prefix}{index}.")


def _module(node: _Inert, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """What `state_dict` of the module that `node` stands for would hold."""
    state = node.__dict__["state"]
    hidden = state.get("_non_persistent_buffers_set") or ()
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (state.get(kind) or {}).items():
            if isinstance(tensor, Tensor) and not (kind == "_buffers" and name in hidden):
                yield f"{prefix}{name}", tensor
    wrapper = type(node).origin.rpartition(".")[2] in _WRAPPERS
    for name, child in (state.get("_modules") or {}).items():
        if isinstance(child, _Inert):
            inner = prefix if wrapper and name == "module" else f"{prefix}{name}."
            yield from _module(child, inner)
