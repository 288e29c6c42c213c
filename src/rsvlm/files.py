"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class WriteError(OSError):
    """A file that cannot be written for a reason that a user can mend; the text says how."""


#: What a user can mend, and how.
_TROUBLE = {
    errno.ENOSPC: "the disk is full: make room, or choose another folder",
    errno.EDQUOT: "your quota is used up: make room, or choose another folder",
    errno.EFBIG: "the disk is full for files of this size (ulimit -f, or the file system's limit)",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "the folder may not be written to: choose another one, or change its rights",
    errno.EPERM: "the folder may not be written to: choose another one, or change its rights",
}


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A file beside `path` to write to, moved there when the block ends well and removed if not.

    A killed process leaves the former file, and so does a full disk. Ranks that were started side
    by side write the same file, each from a part of its own.

        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")

    Raises:
        WriteError: the disk is full, or may not be written to.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError) as error:
        if text := trouble(error, part):
            raise WriteError(f"{path} cannot be written: {text}.{_before(path)}") from error
        raise
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def trouble(error: BaseException, path: Path | None = None) -> str:
    """What a user can mend of an error of the file system; empty for others.

    torch's writer raises a RuntimeError of its own after the first; so the errors behind it are
    looked at too.

    Args:
        error: what was raised.
        path: of this file alone; None takes any.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _TROUBLE:
            named = path is None or seen.filename is None or str(seen.filename) == str(path)
            return _TROUBLE[seen.errno] if named else ""
        seen = seen.__cause__ or seen.__context__
    return ""


def _before(path: Path) -> str:
    return f" The one from before is whole: {path}." if path.is_file() else ""


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in one step."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


class Busy(OSError):
    """Another process holds a folder.

    Attributes:
        pid: of that process; empty where it is not known.
        host: where it runs.
    """

    def __init__(self, folder: Path, pid: str, host: str) -> None:
        super().__init__(f"{folder} is held by process {pid} on {host}")
        self.pid, self.host = pid, host


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Holds a folder for this process until the block ends.

    The system lets go of the lock when its process ends, however it ends, so that none is left
    behind. It is a record lock, which workers that are forked do not inherit.

    Raises:
        Busy: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # elsewhere than on posix
        yield
        return
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                yield  # a file system without locks
                return
            file.seek(0)
            pid, _, host = file.read().strip().partition(" ")
            raise Busy(folder, pid, host) from error
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}")
        file.flush()
        yield


def numbered(folder: Path, number: int, suffix: str) -> Path:
    """Where a part of a long job lies: written whole, its presence says that it is done.

    A job that was stopped does the parts whose files are not there.
    """
    return folder / f"part-{number:06d}{suffix}"
