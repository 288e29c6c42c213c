"""Boxes drawn over a picture: the true ones and those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from rsvlm.data.geometry import turned

TRUE, TOLD = "#35d07f", "#ff7a1a"


def boxed(
    image: Image.Image,
    true: Sequence[Any] = (),
    told: Sequence[Any] = (),
    *,
    side: int | None = None,
) -> Image.Image:
    """A copy of a picture with boxes: true ones green, a model's orange and over them.

    Args:
        image: the picture as stored, RGB.
        true: boxes in its pixels: (x0, y0, x1, y1), ((x0, y0, x1, y1), angle) or four corners;
            one without an area is a point.
        told: likewise.
        side: scale the picture to this longer side first, so that lines stay visible; None leaves
            its size.
    """
    scale = 1.0 if side is None else side / max(image.size)
    wide, high = (max(1, round(s * scale)) for s in image.size)
    out = image.resize((wide, high), Image.Resampling.BICUBIC) if side else image.copy()
    pen = ImageDraw.Draw(out)
    width = max(2, round(max(out.size) / 130))
    for boxes, colour, halo in ((true, TRUE, 2), (told, TOLD, 2)):
        for box in boxes:
            points = [tuple(p) for p in corners(box) * scale]
            if points[0] == points[2]:  # a point
                for ink, more in (("#101418", halo), (colour, 0)):
                    pen.circle(points[0], width * 2 + more, fill=ink)
                continue
            # A dark seam keeps the line apart from bright ground.
            pen.line([*points, points[0]], fill="#101418", width=width + halo, joint="curve")
            pen.line([*points, points[0]], fill=colour, width=width, joint="curve")
    return out


def corners(box: Any) -> np.ndarray:
    """Corners [4, 2] of a box in any of the forms above."""
    if len(box) == 2 and np.shape(box[0]) == (4,):
        return turned(tuple(box[0]), float(box[1]))
    numbers = np.array(box, dtype=np.float64)
    if numbers.size == 8:
        return numbers.reshape(4, 2)
    x0, y0, x1, y1 = numbers.tolist()
    return turned((x0, y0, x1, y1), 0.0)
