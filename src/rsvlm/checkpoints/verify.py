"""Whether a file is whole, and no larger inside than outside, before anything of it is unpacked."""

from __future__ import annotations

import shutil
import struct
import zipfile
import zlib
from pathlib import Path

from rsvlm.errors import UserError

#: Names in a run's folder: the last checkpoint, and the one that it took the place of.
LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
#: How much larger than its zip a checkpoint may be, from `_SMALL` bytes on.
_RATIO, _SMALL = 20, 16 << 20
#: Files that were held against their sums.
_VERIFIED: set[tuple[str, int, int, int]] = set()


def judge(path: Path, name: str, size: int, folder: Path | None) -> None:
    """Refuses to unpack what is no checkpoint by its size, or does not fit the disk.

    Args:
        path: of the zip.
        name: of what is in it.
        size: of that, unpacked.
        folder: where it would lie; None for memory.
    """
    if size > _RATIO * path.stat().st_size and size > _SMALL:
        raise UserError(
            f"{path}!{name} would unpack to {size:,} bytes, {size // path.stat().st_size} times "
            "the file: weights do not shrink so far, and nothing was unpacked. Fetch it again, or "
            "unpack it yourself if you trust it."
        )
    if folder is None:
        return
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{path}!{name} would unpack to {size:,} bytes, and {folder.parent} has {free:,} left: "
            "unpack it where there is room, and give the path of the file itself."
        )


def verify(path: Path) -> None:
    """Holds a torch file's parts against the sums that it stores of them.

    A file that this process has held already is not read again.

    Raises:
        UserError: cut short, damaged, or larger inside than outside.
    """
    facts = path.stat()
    key = (str(path.resolve()), facts.st_mtime_ns, facts.st_size, facts.st_ino)
    if key in _VERIFIED:
        return
    try:
        with zipfile.ZipFile(path) as file:
            parts = [info for info in file.infolist() if info.file_size]
            inside = sum(info.file_size for info in parts)
            if inside > 2 * facts.st_size + _SMALL:
                raise UserError(
                    f"{path} has {facts.st_size:,} bytes and would unpack to {inside:,}: "
                    "torch.save does not compress, so it is no checkpoint of its. Fetch it again."
                )
            # torch writes zeros where its user switched the sums off.
            if any(info.CRC for info in parts):
                for info in parts:
                    with file.open(info) as part:
                        while part.read(1 << 22):
                            pass
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,  # what zipfile does not know is one
        struct.error,
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is damaged or cut short ({error}). {instead(path)}") from error
    _VERIFIED.add(key)


def instead(path: Path) -> str:
    """What to take in the place of a file that is damaged."""
    before = path.with_name(PREVIOUS)
    if path.name == LAST and before.is_file():
        return f"The one before it is {before}; resume={path.parent} goes on from there by itself."
    return "Fetch it again."
