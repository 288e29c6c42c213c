"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write to, moved there when the block ends well and removed if not.

    A killed process leaves the former file, and so does a full disk. Ranks that were started side
    by side write the same file, each from a part of its own.

        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in one step."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")
