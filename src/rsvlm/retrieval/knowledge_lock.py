"""One process at a time writes a knowledge base; readers need no lock."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsvlm.errors import UserError
from rsvlm.files import Busy, held


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
        with held(root):
            yield
    except Busy as error:
        raise UserError(
            f"{root} is being written by another process ({error.pid or 'unknown'}): wait until it "
            "has ended, and ask again. It can be searched meanwhile."
        ) from error


def alive(pid: int) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
