"""Names of files as annotations give them, and folders as disks hold them.

A name may leave its folder (`../../secret.txt`) or be spelt with other code points than the disk's
(macOS writes é as e and an accent), a folder may be a link, and what ends in .png may be a pipe.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rsvlm.errors import UserError

#: Endings of pictures' names.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2"})


def check_names(names: Iterable[str], folders: Sequence[str | Path], where: str = "") -> None:
    """Refuses names that lead out of the folders in which they are looked for.

    Args:
        names: as annotations give them.
        folders: their folders.
        where: what the names stand in, for the error.

    Raises:
        UserError: one does, by `..` or from the root of the disk; names the first.
    """
    tops: list[str] | None = None
    for name in names:
        if not leaves(name):
            continue
        if os.path.isabs(name) and ".." not in Path(name).parts:
            tops = tops or [os.path.join(os.path.abspath(folder), "") for folder in folders]
            if any(name.startswith(top) for top in tops):
                continue
        raise UserError(
            f"{where or 'the annotations'}: the name {name!r} leads out of "
            f"{' and '.join(map(str, folders))}. Files are read from the data set's folders alone: "
            "name the folder that holds them with images= (data.dataset.images=), and let names "
            "be relative to it."
        )


def leaves(name: str) -> bool:
    """Whether a name may lead out of the folder that it is joined to."""
    return name.startswith("/") or (".." in name and ".." in name.replace("\\", "/").split("/"))


def composed(name: str) -> str:
    """A name with its letters and accents composed, by which two spellings of it are equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Listing:
    """What folders hold, each listed once; a name is found in either spelling of its accents."""

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._composed: dict[str, dict[str, str]] = {}

    def names(self, folder: str) -> set[str]:
        """The names in a folder; none where there is no such folder."""
        if folder not in self._names:
            try:
                self._names[folder] = set(os.listdir(folder))
            except (FileNotFoundError, NotADirectoryError):
                other = existing(folder)
                self._names[folder] = set(os.listdir(other)) if os.path.isdir(other) else set()
        return self._names[folder]

    def held(self, folder: str, name: str) -> str:
        """The name as the folder has it; "" where it does not."""
        names = self.names(folder)
        if name in names or name.isascii():
            return name if name in names else ""
        if folder not in self._composed:
            self._composed[folder] = {composed(n): n for n in names if not n.isascii()}
        return self._composed[folder].get(composed(name), "")


def existing(path: str | Path) -> str:
    """A path as the disk spells it, where it is there under another spelling of its accents."""
    path = str(path)
    if path.isascii() or os.path.lexists(path):
        return path
    folder, name = os.path.split(path)
    if not name or folder == path:
        return path
    folder = existing(folder) if folder else folder
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return path
    return os.path.join(folder, next((n for n in names if composed(n) == composed(name)), name))


def walk(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The folders below one, itself first, with the names of their files, both sorted.

    Links to folders are followed, as torchvision does; a link back to a folder that is being walked
    through ends there.
    """
    yield from _walk(str(folder), frozenset())


def _walk(folder: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, list[str]]]:
    state = os.stat(folder)
    here = (state.st_dev, state.st_ino)
    if here in above:
        return
    parts: list[str] = []
    files: list[str] = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        (parts if entry.is_dir() else files).append(entry.name)
    yield folder, files
    for part in parts:
        yield from _walk(os.path.join(folder, part), above | {here})


def printable(name: str) -> str:
    """A name on one line: line ends, bytes that are no text and other marks are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def is_picture(name: str) -> bool:
    """Whether a file's name is that of a picture; hidden files are none."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS
