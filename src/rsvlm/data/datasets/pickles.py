"""Pickles of plain values, read without running a line of their code.

Some data sets ship annotations as pickles (SkyScript's tags, RRSIS-D's references). A pickle may
name any function of the machine it is opened on, and call it. This reader knows containers,
texts, numbers and NumPy's numbers, and refuses everything else by name.
"""

from __future__ import annotations

import datetime
import pickle
from collections import OrderedDict
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
    OverflowError,
    TypeError,
    ValueError,
)
#: NumPy's types that may be: numbers and truth values, of a stated width.
_KINDS = "biuf"


class _Refused(pickle.UnpicklingError):
    """The pickle names something that is not plain."""


class _Dtype:
    """Stands in for `numpy.dtype` while a number is put together."""

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
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.complex": complex,
    "collections.OrderedDict": OrderedDict,
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.timedelta": datetime.timedelta,
    "_codecs.encode": _encode,
    "numpy.dtype": _Dtype,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
}


class _Unpickler(pickle.Unpickler):
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
        with open(path, "rb") as file:
            return _Unpickler(file, encoding="utf-8").load()
    except _Refused as error:
        raise UserError(
            f"{path} was refused: it wants to use {error}. Opening it in the usual way could run "
            "any code; only lists, dictionaries, texts and numbers are read."
        ) from error
    except _BROKEN as error:
        raise UserError(
            f"{path} is not a whole pickle ({error}); was its download cut short?"
        ) from error
