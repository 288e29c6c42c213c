"""Maps of classes as pictures: exact colours to class ids and back.

Inside rsvlm a semantic map holds ids. The first six are SECOND's classes, as in the generated
world (`synthetic.world.SEMANTIC`), which goes on with its own; a class for what did not change,
where a format has it, comes after them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.data.images import BrokenImage, read_image, read_values

RGB = tuple[int, int, int]

#: SECOND's classes by id (Yang et al., IEEE TGRS 2022), and their colours. White stands for pixels
#: whose class is the same on both dates, and which therefore are not labelled.
SECOND: dict[str, RGB] = {
    "ground": (128, 128, 128),
    "low vegetation": (0, 128, 0),
    "tree": (0, 255, 0),
    "water": (0, 0, 255),
    "building": (128, 0, 0),
    "playground": (255, 0, 0),
    "no change": (255, 255, 255),
}
NO_CHANGE = 6
_COLOURS = (
    "A mask holds a number a class, 0 for none: save it as grey values or with a palette. Of "
    "data=mask_folder a line of classes.txt may name the colour of its class: building 255 0 0."
)

#: The generated world's classes; the first six as SECOND colours them.
SCENES: dict[str, RGB] = {
    "ground": (128, 128, 128),
    "low vegetation": (0, 128, 0),
    "tree": (0, 255, 0),
    "water": (0, 0, 255),
    "building": (128, 0, 0),
    "playground": (255, 0, 0),
    "road": (70, 70, 70),
    "railway": (150, 90, 150),
    "vehicle": (255, 220, 0),
    "ship": (255, 255, 255),
    "plane": (0, 255, 255),
    "tank": (255, 140, 0),
    "solar panel": (90, 0, 160),
}


def read_palette(path: str | Path, palette: dict[str, RGB]) -> np.ndarray:
    """Reads a picture of exact colours.

    Args:
        path: the picture; PNG or another lossless format.
        palette: class → colour, in the order of the ids.

    Returns:
        [H, W] uint8 ids.

    Raises:
        BrokenImage: it cannot be read, or has colours off the palette (names the commonest, the
            file and the number of pixels).
    """
    # A pixel as one number, its bands' bytes side by side: seven comparisons cost little then.
    packed = np.asarray(read_image(path).convert("RGBA")).view("<u4")[..., 0]
    ids, known = np.zeros(packed.shape, np.uint8), np.zeros(packed.shape, np.uint8)
    for number, (red, green, blue) in enumerate(palette.values()):
        hit = (packed == np.uint32(255 << 24 | blue << 16 | green << 8 | red)).view(np.uint8)
        ids += hit * np.uint8(number)
        known += hit
    off = packed[known == 0]
    if len(off):
        colours, counts = np.unique(off, return_counts=True)
        worst = int(colours[counts.argmax()])
        name = f"({worst & 255}, {worst >> 8 & 255}, {worst >> 16 & 255})"
        raise BrokenImage(
            str(path),
            f"{len(off)} of {ids.size} pixels are off the palette, in {len(colours)} colours; the "
            f"commonest is {name}, {counts.max()} times. Was it resized with interpolation, or "
            "saved as JPEG? Classes are read by exact colour.",
        )
    return ids


def paint(ids: np.ndarray, palette: dict[str, RGB]) -> Image.Image:
    """A map of ids as a picture in the palette's colours."""
    return Image.fromarray(np.array(list(palette.values()), np.uint8)[ids])


def check_size(path: str | Path, labels: np.ndarray, image: Any) -> None:
    """Holds a map against the image that it belongs to.

    Args:
        path: the map's file.
        labels: [H, W] map.
        image: PIL image.

    Raises:
        BrokenImage: they differ in size.
    """
    height, width = labels.shape
    if (width, height) != image.size:
        raise BrokenImage(
            str(path), f"is {width} x {height}, its image is {image.width} x {image.height}."
        )


def read_grey(path: str | Path) -> np.ndarray:
    """[H, W] uint8: the numbers of a label picture.

    Of a palette they are its indices, or its greys where it has no colour; of several bands the
    first, which the others repeat; of 16 and more bits the values, where they are 0 to 255.

    Raises:
        BrokenImage: it cannot be read, is in colours, or holds other numbers.
    """
    values = read_values(path)
    if values.ndim == 3:
        colours = values[..., :3].astype(int)
        # JPEG leaves bands of one grey apart by a few values.
        if colours.shape[-1] == 3 and np.ptp(colours, axis=-1).max(initial=0) > 8:
            raise BrokenImage(str(path), f"is in colours ({_commonest(colours)}). {_COLOURS}")
        values = values[..., 0]
    low, high = float(values.min(initial=0)), float(values.max(initial=0))
    grey = values.astype(np.uint8) if low >= 0 and high <= 255 else None
    if grey is None or not np.array_equal(grey, values):
        raise BrokenImage(
            str(path),
            f"holds values from {low:g} to {high:g}; numbers of classes are whole, 0 to 255.",
        )
    return grey


def _commonest(colours: np.ndarray) -> str:
    """The commonest colours but black, for an error."""
    found, counts = np.unique(colours.reshape(-1, 3), axis=0, return_counts=True)
    order = [tuple(found[i].tolist()) for i in np.argsort(-counts) if found[i].any()]
    return ", ".join(map(str, order[:3])) + (", ..." if len(order) > 3 else "")


def read_greys(path: str | Path, known: Mapping[int, int]) -> np.ndarray:
    """Reads a label picture of known grey values.

    Args:
        path: the picture.
        known: grey value → class.

    Returns:
        [H, W] uint8 classes.

    Raises:
        BrokenImage: it cannot be read, or has other values (names the commonest, and how many).
    """
    grey = read_grey(path)
    table = np.zeros(256, np.uint8)
    for value, number in known.items():
        table[value] = number
    off = grey[~np.isin(grey, list(known))]
    if len(off):
        values, counts = np.unique(off, return_counts=True)
        raise BrokenImage(
            str(path),
            f"{len(off)} of {grey.size} pixels have another value than "
            f"{', '.join(map(str, known))}; the commonest is {values[counts.argmax()]}, "
            f"{counts.max()} times. Was it resized with interpolation, or saved as JPEG?",
        )
    return table[grey]
