"""One process at a time writes a knowledge base; readers need no lock."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsvlm.errors import UserError


@contextmanager
def one_writer(root: Path) -> Iterator[None]:
    """Holds a folder for this process until the block ends, however it ends.

    Args:
        root: the folder, made where it is not there.

    Raises:
        UserError: another process writes the base; says which.
    """
    root.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # elsewhere than on posix
        yield
        return
    with (root / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                yield  # a file system without locks
                return
            file.seek(0)
            who = file.read().strip() or "unknown"
            raise UserError(
                f"{root} is being written by another process ({who}): wait until it has "
                "ended, and ask again. It can be searched meanwhile."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
