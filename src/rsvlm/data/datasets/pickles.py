"""Pickles of plain values, read without running a line of their code.

Some data sets ship annotations as pickles (SkyScript's tags, RRSIS-D's references). A pickle may
name any function of the machine it is opened on, and call it. This reader knows containers,
texts, numbers and NumPy's numbers, and refuses everything else by name.
"""

from __future__ import annotations

import datetime
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.errors import UserError

_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)
#: NumPy's types that may be: numbers and truth values, of a stated width.
_KINDS = "biuf"


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not plain."""


class _Frozen(type):
    """A metaclass whose classes a pickle cannot alter (BUILD can set attributes on classes)."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise _Refused(f"a change to {cls.__name__}.{name}")


class _Safe(metaclass=_Frozen):
    """One of this reader's own functions, as an object that a pickle cannot alter."""

    __slots__ = ("_run",)
    _run: Callable[..., Any]

    def __init__(self, run: Callable[..., Any]) -> None:
        object.__setattr__(self, "_run", run)

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused(f"a change to {self._run.__name__}")

    def __setstate__(self, state: Any) -> None:
        raise _Refused(f"a change to {self._run.__name__}")


class _Dtype(metaclass=_Frozen):
    """Stands in for `numpy.dtype` while a number is put together."""

    __slots__ = ("code", "order")

    def __init__(self, code: str, *_: Any) -> None:
        self.code = str(code)
        self.order: Any = "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">") else "="


def _scalar(kind: _Dtype, data: bytes) -> int | float | bool:
    """A NumPy number as Python's."""
    found = np.dtype(kind.code).newbyteorder(kind.order)
    if found.kind not in _KINDS:
        raise _Refused(f"a NumPy value of type {kind.code}")
    # Protocols below 3 hand bytes over as text.
    return np.frombuffer(data if isinstance(data, bytes) else data.encode("latin1"), found)[
        0
    ].item()


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes: as text that it encodes again."""
    return text.encode("latin1")


_PLAIN: dict[str, Any] = {
    "builtins.set": _Safe(set),
    "builtins.frozenset": _Safe(frozenset),
    "builtins.complex": _Safe(complex),
    "collections.OrderedDict": OrderedDict,
    "datetime.date": _Safe(datetime.date),
    "datetime.datetime": _Safe(datetime.datetime),
    "datetime.timedelta": _Safe(datetime.timedelta),
    "_codecs.encode": _Safe(_encode),
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _Safe(_scalar),
    "numpy._core.multiarray.scalar": _Safe(_scalar),
}


class _Unpickler(pickle._Unpickler):
    # Python's own, not C's: that one makes room for any number that a file puts into its memo
    # (nine bytes take 4 GB). Here the memo is a dictionary, which grows with the file.
    def find_class(self, module: str, name: str) -> Any:
        # Protocol 2 names Python 2's modules.
        origin = f"{'builtins' if module == '__builtin__' else module}.{name}"
        if origin not in _PLAIN:
            raise _Refused(origin)
        return _PLAIN[origin]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"a persistent object ({pid!r})")


def read_pickle(path: Path) -> Any:
    """Reads a pickle of lists, dictionaries, tuples, sets, texts and numbers.

    Raises:
        UserError: it names a function or a class (says which), or is damaged.
    """
    try:
        # From memory: a stated length that the file does not have takes no room there.
        return _Unpickler(io.BytesIO(path.read_bytes()), encoding="utf-8").load()
    except _Refused as error:
        raise UserError(
            f"{path} was refused: it wants to use {error}. Opening it in the usual way could run "
            "any code; only lists, dictionaries, texts and numbers are read."
        ) from error
    except _BROKEN as error:
        raise UserError(
            f"{path} is not a whole pickle ({error}); was its download cut short?"
        ) from error
