"""Plain values that training scripts put beside weights: `argparse.Namespace` and numpy's scalars.

`torch.load(weights_only=True)` refuses them, though they run nothing. Here a stand-in of our own is
given for each: a Namespace becomes an object that nobody reads, a scalar a number of Python's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

#: Kinds of numpy's types that are numbers.
_NUMBERS = "biuf"


class Namespace:
    """Stands in for `argparse.Namespace`."""

    def __init__(self, **values: Any) -> None:
        del values

    def __setstate__(self, state: Any) -> None:
        """Drops what it held."""


class DType:
    """Stands in for `numpy.dtype`."""

    def __init__(self, word: Any = "f8", *more: Any) -> None:
        del more
        self.word = word if isinstance(word, str) else "f8"
        self.order: Any = "="

    def __setstate__(self, state: Any) -> None:
        """Takes the byte order alone."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


def scalar(dtype: Any, data: Any = b"") -> float | int | bool:
    """Stands in for numpy's function that makes a scalar of bytes.

    Raises:
        TypeError: it comes without its type.
        ValueError: it is no number of a known size.
    """
    if not isinstance(dtype, DType):
        raise TypeError("a numpy scalar without its type")
    kind = np.dtype(dtype.word)
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if kind.kind not in _NUMBERS or len(raw) != kind.itemsize:
        raise ValueError(f"a numpy scalar of type {dtype.word!r} is no number")
    value: float | int | bool = np.frombuffer(raw, kind.newbyteorder(dtype.order))[0].item()
    return value


#: Global of the pickle -> what is put in its place.
STAND_INS: dict[str, Any] = {
    "argparse.Namespace": Namespace,
    "numpy.dtype": DType,
    "numpy.core.multiarray.scalar": scalar,
    "numpy._core.multiarray.scalar": scalar,
}


def load(path: Any, **options: Any) -> Any:
    """`torch.load(weights_only=True)` with the stand-ins."""
    known: list[Any] = [(made, name) for name, made in STAND_INS.items()]
    with torch.serialization.safe_globals(known):
        return torch.load(path, weights_only=True, **options)
