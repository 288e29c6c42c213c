"""One process at a time writes a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rsvlm.errors import UserError
from rsvlm.files import Busy, held


@contextmanager
def locked(folder: Path, first: bool = True) -> Iterator[None]:
    """Holds a run's folder for this process until the block ends.

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
        with held(folder):
            yield
    except Busy as error:
        raise UserError(
            f"{folder} is being written by another process ({error.pid or 'unknown'} on "
            f"{error.host or 'another machine'}). Two would mix their checkpoints: wait until it "
            f"has ended, or end it (kill {error.pid or '<process>'}), and ask again."
        ) from error
