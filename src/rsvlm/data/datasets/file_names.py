r"""Names of files as tables of one's own give them: from Windows, or from another machine.

`images\a.png` is read as `images/a.png`, which is told. `C:\Users\me\data\a.png` is a place of one
machine: what is in front is taken off by `strip=`, and the error says what to give.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rsvlm.errors import UserError

_DRIVE = re.compile(r"^[A-Za-z]:/")


class FileNames:
    """Turns names of a table into names below the data set's folder.

    Args:
        root: the folder.
        strip: what is taken off in front, in slashes or backslashes; None for nothing.

    Attributes:
        backslashes: how many names were written with backslashes.
    """

    def __init__(self, root: Path, strip: str | None = None) -> None:
        self.root = root
        self.strip = _slashed(strip).rstrip("/") + "/" if strip else ""
        self.backslashes = 0

    def __call__(self, name: str, where: str) -> str:
        """The name below the folder.

        Args:
            name: as the table has it.
            where: table and line, for the error.

        Raises:
            UserError: it is a whole path of a machine, outside the folder.
        """
        plain = name.strip()
        if "\\" in plain:
            self.backslashes += 1
            plain = _slashed(plain)
        if self.strip and plain.lower().startswith(self.strip.lower()):
            plain = plain[len(self.strip) :]
        if _DRIVE.match(plain) or (plain.startswith("/") and not self._below(plain)):
            raise UserError(
                f"{where}: {name!r} is a place on one machine's disk. Say what to take off in "
                f"front, and the rest is looked for in {self.root}: "
                f"data.dataset.strip={self._front(plain)}"
            )
        return plain.removeprefix("./")

    def told(self) -> list[str]:
        """A sentence on backslashes, where there were any."""
        if not self.backslashes:
            return []
        return [f"{self.backslashes} name(s) of files have backslashes, and were read with /."]

    def _below(self, name: str) -> bool:
        return name.startswith(f"{self.root.absolute()}/")

    def _front(self, name: str) -> str:
        """The part of a path without which the rest is in the folder; else all but its name."""
        parts = PurePosixPath(name).parts
        for start in range(1, len(parts)):
            rest = "/".join(parts[start:])
            if any((self.root / folder / rest).is_file() for folder in ("", "images")):
                return _quoted(name[: len(name) - len(rest)])
        return _quoted(name[: len(name) - len(parts[-1])])


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def _quoted(text: str) -> str:
    """For a shell and for Hydra, where the text has a space or the like."""
    return text if re.fullmatch(r"[\w/:.+-]+", text) else f"\"'{text}'\""


def names_of(values: Sequence[str], root: Path, where: str, strip: str | None) -> list[str]:
    """Several names by one rule, without a note of backslashes."""
    rule = FileNames(root, strip)
    return [rule(value, where) for value in values]
