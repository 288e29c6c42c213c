"""Where the images of annotations lie: by name in several folders, else by name without ending."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rsvlm.data.folders import EXTENSIONS, Listing, check_names, composed

#: Of two files that differ in their ending alone, the one that comes first is taken.
_ORDER = (".tif", ".tiff", ".png", ".jpg", ".jpeg")


def stem(name: str) -> str:
    """A name without the ending of a picture; `St. Paul` has none, `a.b.png` is `a.b`."""
    base, ending = os.path.splitext(name)
    return base if ending.lower() in EXTENSIONS else name


def locate(folders: Sequence[Path], names: Iterable[str]) -> list[str]:
    """Finds images in folders, each of which is listed once.

    An exact name in any folder comes before one of another ending: annotations are often published
    without the ending, or with that of another release (.tif for .png).

    Args:
        folders: where to look, in this order.
        names: the images as the annotations name them, relative to a folder.

    Returns:
        The path of each, empty where there is none.
    """
    names = list(names)
    check_names(names, folders)
    listing = Listing()
    stems = _Stems(listing)
    below: dict[str, list[str]] = {}
    out = []
    for name in names:
        parent, base = os.path.split(name)
        if parent not in below:
            places = [os.path.join(folder, parent) if parent else str(folder) for folder in folders]
            below[parent] = [place for place in places if listing.names(place)]
        found = ""
        for place in below[parent]:
            held = listing.held(place, base)
            if held:
                found = os.path.join(place, held)
                break
        else:
            for place in below[parent]:
                other = stems.of(place).get(composed(stem(base)))
                if other:
                    found = os.path.join(place, other)
                    break
        out.append(found)
    return out


class _Stems:
    """From the names of pictures without their ending to those with it, a folder at a time."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._stems: dict[str, dict[str, str]] = {}

    def of(self, folder: str) -> dict[str, str]:
        """Those of a folder, in composed letters."""
        if folder not in self._stems:
            known = self._stems[folder] = {}
            for name in sorted(self._listing.names(folder), key=_rank):
                if os.path.splitext(name)[1].lower() in EXTENSIONS:
                    known.setdefault(composed(stem(name)), name)
        return self._stems[folder]


def _rank(name: str) -> tuple[int, str]:
    ending = os.path.splitext(name)[1].lower()
    return (_ORDER.index(ending) if ending in _ORDER else len(_ORDER), name)
