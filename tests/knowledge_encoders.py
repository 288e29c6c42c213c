"""Encoders of tests, which import no torch: vectors that follow from what they encode."""

import functools
import zlib
from pathlib import Path

import numpy as np

from rsvlm.errors import UserError


class HashEncoder:
    """Texts are sums of their words' vectors, pictures those of their names' words."""

    def __init__(self, name="hash", dim=32, text_length=20, salt=""):
        self.name, self.dim, self.text_length, self.salt = name, dim, text_length, salt
        self.asked = []

    def count_tokens(self, text):
        return len(text.split())

    def encode_texts(self, texts):
        self.asked += list(texts)
        return np.stack([self._of(text.lower().split()) for text in texts])

    def encode_images(self, images):
        for path in images:
            if "broken" in Path(path).name:
                raise UserError(f"{path}: it is damaged.")
        return np.stack([self._of(Path(p).stem.split("_")) for p in images])

    def _of(self, words):
        seeds = [zlib.crc32(f"{self.salt}/{word.strip('.,:;?')}".encode()) for word in words]
        vectors = [_drawn(seed, self.dim) for seed in seeds]
        return np.sum([np.zeros(self.dim), *vectors], axis=0).astype(np.float32) + 1e-3


@functools.cache
def _drawn(seed, dim):
    # A generator a word is a quarter of the time of all tests of stores.
    return np.random.RandomState(seed).standard_normal(dim)
