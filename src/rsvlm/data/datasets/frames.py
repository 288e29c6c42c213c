"""Videos as folders of frames: which frames a sample takes."""

from __future__ import annotations

import os
from pathlib import Path

from rsvlm.data.folders import EXTENSIONS
from rsvlm.errors import UserError

#: How a video becomes such a folder; `{video}` and `{folder}` are filled in.
COMMAND = "mkdir -p {folder} && ffmpeg -i {video} -vf fps=4 {folder}/%03d.jpg"


def chosen(folder: Path, count: int) -> list[str]:
    """Frames of a video, spread evenly over its length; all where there are no more.

    Args:
        folder: the video's folder; frames are ordered by name.
        count: how many.

    Returns:
        Their paths; none where there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        return []
    names = sorted(n for n in os.listdir(folder) if os.path.splitext(n)[1].lower() in EXTENSIONS)
    if len(names) > count:
        # The middle of each of `count` equal stretches.
        names = [names[(2 * k + 1) * len(names) // (2 * count)] for k in range(count)]
    return [str(folder / name) for name in names]


def check_count(count: int) -> None:
    """Holds a number of frames against what is possible.

    Raises:
        UserError: it is below 1.
    """
    if count < 1:
        raise UserError(f"frames={count}: a sample takes at least 1 frame.")
