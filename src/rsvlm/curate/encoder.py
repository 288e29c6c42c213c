"""A CLIP that is loaded once in each worker, however many stages ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


class Encoder(Protocol):
    """One space of features for pictures and texts."""

    def load(self) -> None:
        """Loads the weights, once in each process."""

    def images(self, images: Sequence[Any]) -> Floats:
        """[N, D] of unit length, of encoded pictures (`bytes`) or PIL's."""

    def texts(self, texts: Sequence[str]) -> Floats:
        """[N, D] of unit length."""


@dataclass(frozen=True)
class Clip:
    """A CLIP of the zoo, or of a run; see `rsvlm.load`.

    Args:
        model: a model option, or a row of the zoo (`georsclip_vitb32.rs5m`); None takes a
            run's own.
        ckpt: its checkpoint.
        words: overrides, as behind `rsvlm predict`.
        batch_size: encoded at a time.
    """

    model: str | None = None
    ckpt: str | None = None
    words: Sequence[str] = ()
    batch_size: int = 64

    def load(self) -> None:
        """See `Encoder`."""
        _loaded(self.model, self.ckpt, tuple(self.words), self.batch_size)

    def images(self, images: Sequence[Any]) -> Floats:
        """See `Encoder`."""
        from rsvlm.data.images import read_image

        encoder = _loaded(self.model, self.ckpt, tuple(self.words), self.batch_size)
        read = [read_image(i, convert=True) if isinstance(i, bytes) else i for i in images]
        return unit(encoder.encode_images(read))

    def texts(self, texts: Sequence[str]) -> Floats:
        """See `Encoder`."""
        encoder = _loaded(self.model, self.ckpt, tuple(self.words), self.batch_size)
        return unit(encoder.encode_texts(list(texts)))


@cache
def _loaded(model: str | None, ckpt: str | None, words: tuple[str, ...], batch: int) -> Any:
    from rsvlm.inference.knowledge import encoder_of

    return encoder_of(model, ckpt, words, batch=batch)


def unit(vectors: Any) -> Floats:
    """[N, D] of unit length."""
    held = np.asarray(vectors, np.float32)
    made: Floats = held / np.maximum(np.linalg.norm(held, axis=-1, keepdims=True), 1e-12)
    return made
