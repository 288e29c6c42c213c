"""Images that annotations name and folders lack: found at once, and one of three answers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from rsvlm.data.datasets.base import listed, missing_files
from rsvlm.data.folders import check_names, is_picture
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
    where: str | Sequence[Path],
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
        where: what was searched; of folders it is also said which file may be meant.
        missing: the answer that was chosen.
        what: what they are called.
        left: what is said of `skip`.
        kept: what is said of `keep`.

    Raises:
        UserError: the answer is `error`.
    """
    if not names:
        return ""
    folders = () if isinstance(where, str) else where
    place = " or ".join(map(str, folders)) or where
    text = f"{len(names)} of {total} {what} are not in {place}: {listed(names)}."
    meant = _alike(names[0], folders)
    text += f" {meant!r} is there: a name has its ending, and large letters count." if meant else ""
    if missing == "error":
        asked = "" if meant else " Was the archive unpacked in full?"
        raise UserError(
            f"{text}{asked} missing=skip goes on without them (data.dataset.missing=skip)."
        )
    return f"{text} {left if missing == 'skip' else kept}"


def _alike(name: str, folders: Sequence[Path]) -> str:
    """A file that is called like a name but for its ending or large letters; "" without one."""
    parent, base = os.path.split(name)
    for folder in folders:
        place = folder / parent
        for held in sorted(os.listdir(place)) if place.is_dir() else ():
            if is_picture(held) and base.lower() in (held.lower(), Path(held).stem.lower()):
                return os.path.join(parent, held)
    return ""
