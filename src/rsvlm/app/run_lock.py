"""One process at a time writes a run's folder."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsvlm.errors import UserError

NAME = ".lock"


@contextmanager
def locked(folder: Path, first: bool = True) -> Iterator[None]:
    """Holds a run's folder for this process until the block ends.

    The system lets go of the lock when its process ends, however it ends, so that none is left
    behind. It is a record lock, which workers that are forked do not inherit.

    Args:
        folder: of the run.
        first: whether this is the rank that writes; the others take no lock.

    Raises:
        UserError: another process holds it; says which.
    """
    if not first:
        yield
        return
    try:
        import fcntl
    except ImportError:  # elsewhere than on posix
        yield
        return
    with (folder / NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                yield  # a file system without locks
                return
            file.seek(0)
            pid, _, host = file.read().strip().partition(" ")
            raise UserError(
                f"{folder} is being written by another process ({pid or 'unknown'} on "
                f"{host or 'another machine'}). Two would mix their checkpoints: wait until it has "
                f"ended, or end it (kill {pid or '<process>'}), and ask again."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()} {socket.gethostname()}")
        file.flush()
        yield
