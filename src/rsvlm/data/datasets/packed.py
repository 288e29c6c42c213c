"""Entries of millions of images in a few arrays.

A list of millions of Python objects costs gigabytes, and again in each forked worker, since
counting references writes to the pages that they share. Arrays are shared for good.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rsvlm.data.datasets.base import Entry


class Strings:
    """Texts in one run of bytes, to be appended to and read by position."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._bytes = bytearray()
        self._ends = array("q", [0])
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a text at the end."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        data = self._bytes[self._ends[index] : self._ends[index + 1]]
        return data.decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


class PackedEntries(Sequence[Entry]):
    """A sequence of entries that are put together when they are asked for.

    Args:
        ids: the images' names, relative to their folder.
        texts: all captions.
        owner: [captions] which image a caption belongs to.
        folders: folders of images.
        folder: [images] which of them an image lies in.
        chosen: [entries] the images to serve, in order.
        meta: from an image's name to what it says of the image.
    """

    def __init__(
        self,
        ids: Strings,
        texts: Strings,
        owner: np.ndarray,
        *,
        folders: Sequence[str],
        folder: np.ndarray,
        chosen: np.ndarray,
        meta: Callable[[str], dict[str, Any]] | None = None,
    ) -> None:
        self._ids, self._texts, self._meta = ids, texts, meta
        self._folders, self._folder, self._chosen = list(folders), folder, chosen
        self._order = np.argsort(owner, kind="stable")
        self._first = np.searchsorted(owner[self._order], np.arange(len(ids) + 1))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        """The entry at a position, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        image = int(self._chosen[index])
        rows = self._order[self._first[image] : self._first[image + 1]]
        id = self._ids[image]
        return Entry(
            id=id,
            path=os.path.join(self._folders[self._folder[image]], id),
            texts=tuple(self._texts[row] for row in rows),
            meta=self._meta(id) if self._meta else {},
        )
