"""Vectors of short texts: by a CLIP's text tower, or by hashed letters where there is none."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rsvlm.curate.encoder import Encoder


class TextEmbedding(Protocol):
    """What gives vectors of texts."""

    def setup(self) -> None:
        """Loads what it needs, once in each worker."""

    def embed(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Vectors of (key, value), [N, D] float32, of length 1."""


@dataclass
class HashedWords:
    """Words and three to five letters in a row, hashed; needs no weights and knows no meaning.

    Key and value are hashed apart, since "surface" as a key and as a value are different things.

    Args:
        width: D.
    """

    width: int = 1024

    def setup(self) -> None:
        """Nothing is loaded."""

    def embed(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """[N, D] float32, of length 1."""
        out = np.zeros((len(pairs), self.width), np.float32)
        for row, (key, value) in zip(out, pairs, strict=True):
            for lead, text, weight in (("k", key, 1.0), ("v", value, 0.7)):
                for part in _parts(text):
                    number = zlib.crc32(f"{lead}{part}".encode())
                    # The last bit is the sign, so that what collides does not only add up.
                    row[(number >> 1) % self.width] += weight * (1 - 2 * (number & 1))
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def _parts(text: str) -> list[str]:
    words = re.findall(r"[^\W\d_]+|\d", text.lower())
    letters = [
        f" {word} "[i : i + n]
        for word in words
        for n in (3, 4, 5)
        for i in range(max(0, len(word) + 3 - n))
    ]
    return [f"={text.lower()}", *(f"_{word}" for word in words), *letters]


@dataclass
class EncodedTags:
    """A CLIP's text tower, as in the paper: the text is key and value in words.

    Args:
        encoder: `curate.encoder.Clip` of a model.
    """

    encoder: Encoder

    def setup(self) -> None:
        """Loads the model."""
        self.encoder.load()

    def embed(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """[N, D] float32, of length 1."""
        texts = [f"{key} {value}".replace("_", " ").replace(":", " ") for key, value in pairs]
        return self.encoder.texts(texts)
