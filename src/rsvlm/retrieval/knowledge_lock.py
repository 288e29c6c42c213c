"""One process at a time writes a knowledge base; readers need no lock."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsvlm.errors import UserError
from rsvlm.files import Busy, held

#: Folders that threads of this process hold: the system's lock is the whole process's.
_HERE: set[Path] = set()
_GUARD = threading.Lock()


@contextmanager
def one_writer(root: Path, name: object = None) -> Iterator[None]:
    """Holds a folder for this thread until the block ends, however it ends.

    Args:
        root: the folder, made where it is not there.
        name: what errors call it; None takes the folder.

    Raises:
        UserError: another process or thread writes the base; says which.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UserError(f"{root} is a file, and a base is a folder: name another.") from error
    place = root.resolve()
    with _GUARD:
        if place in _HERE:
            raise _busy(name or root, f"another thread of this process ({os.getpid()})")
        _HERE.add(place)
    try:
        with held(root):
            yield
    except Busy as error:
        raise _busy(name or root, f"another process ({error.pid or 'unknown'})") from error
    finally:
        with _GUARD:
            _HERE.discard(place)


def _busy(name: object, who: str) -> UserError:
    return UserError(
        f"{name} is being written by {who}: wait until it has ended, and ask again. It can be "
        "searched meanwhile."
    )


def alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
