"""Images that annotations name and folders lack: found at once, and one of three answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from rsvlm.data.datasets.base import listed, missing_files
from rsvlm.data.folders import check_names
from rsvlm.errors import UserError, near

#: `error` refuses a data set that lacks images, `skip` leaves them out, `keep` lists them with
#: their captions and fails where their pixels are read. The latter two tell how many they are.
Missing = Literal["error", "skip", "keep"]


def check_missing(missing: str) -> None:
    """Holds `missing` against the known words.

    Raises:
        UserError: it is none of them.
    """
    if missing not in get_args(Missing):
        raise UserError(f"missing={missing!r} is not known. {near(missing, get_args(Missing))}")


def find_folders(folders: Sequence[Path], names: Sequence[str]) -> np.ndarray:
    """[names] position of the first folder that holds a file, -1 where none does.

    Raises:
        UserError: a name leads out of the folders.
    """
    check_names(names, folders)
    place = np.full(len(names), -1, np.int16)
    for number, folder in enumerate(folders):
        left = np.flatnonzero(place < 0).tolist()
        wanted = [names[i] for i in left]
        lacking = set(missing_files(folder, wanted))
        for i, name in zip(left, wanted, strict=True):
            if name not in lacking:
                place[i] = number
    return place


def report_missing(
    names: Sequence[str],
    total: int,
    where: str,
    missing: Missing,
    *,
    what: str = "images",
    left: str = "They were left out.",
    kept: str = "Their captions were kept.",
) -> str:
    """One sentence on images that are not there; empty where `names` is.

    Args:
        names: the images that are not there.
        total: how many the annotations name.
        where: the folder, or what was searched.
        missing: the answer that was chosen.
        what: what they are called.
        left: what is said of `skip`.
        kept: what is said of `keep`.

    Raises:
        UserError: the answer is `error`.
    """
    if not names:
        return ""
    text = f"{len(names)} of {total} {what} are not in {where}: {listed(names)}."
    if missing == "error":
        raise UserError(
            f"{text} Was the archive unpacked in full? missing=skip goes on without them "
            "(data.dataset.missing=skip)."
        )
    return f"{text} {left if missing == 'skip' else kept}"
