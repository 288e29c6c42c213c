"""Where a pixel goes: the one affine map behind an image, its maps, masks, points and boxes.

Coordinates are continuous: the centre of pixel (row 0, column 0) is (0.5, 0.5), x to the right, y
down. A transform (transforms.py) resamples its image as its recipe says and gives the `Geometry` of
what it did; everything drawn over the image then moves by that one object, and back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from rsvlm.data.sample import Instance, SampleError

Box = tuple[float, float, float, float]

#: A box of which less than this share of its area is left in view counts as lost.
VISIBLE = 0.25


@dataclass(frozen=True, slots=True)
class Geometry:
    """An invertible affine map from the pixels of one image to those of another.

    Attributes:
        source: height and width before.
        size: height and width after.
        matrix: (a, b, c, d, e, f): x' = a x + b y + c, y' = d x + e y + f.
    """

    source: tuple[int, int]
    size: tuple[int, int]
    matrix: tuple[float, float, float, float, float, float] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    # Making one: each adds a step behind those there are ------------------------------------

    def then(
        self, matrix: tuple[float, float, float, float, float, float], size: tuple[int, int]
    ) -> Geometry:
        """This map with another one behind it."""
        a, b, c, d, e, f = self.matrix
        p, q, r, s, t, u = matrix
        both = (
            p * a + q * d,
            p * b + q * e,
            p * c + q * f + r,
            s * a + t * d,
            s * b + t * e,
            s * c + t * f + u,
        )
        return replace(self, size=size, matrix=both)

    def crop(self, top: float, left: float, high: int, wide: int) -> Geometry:
        """Cuts a window out; one that reaches outside pads."""
        return self.then((1.0, 0.0, -float(left), 0.0, 1.0, -float(top)), (high, wide))

    def resize(self, high: int, wide: int) -> Geometry:
        """Scales both sides."""
        x, y = wide / self.size[1], high / self.size[0]
        return self.then((x, 0.0, 0.0, 0.0, y, 0.0), (high, wide))

    def hflip(self) -> Geometry:
        """Mirrors left and right."""
        return self.then((-1.0, 0.0, float(self.size[1]), 0.0, 1.0, 0.0), self.size)

    def vflip(self) -> Geometry:
        """Mirrors top and bottom."""
        return self.then((1.0, 0.0, 0.0, 0.0, -1.0, float(self.size[0])), self.size)

    def turn(self, quarters: int) -> Geometry:
        """Turns counter-clockwise by quarters, as `numpy.rot90` does."""
        out = self
        for _ in range(quarters % 4):
            high, wide = out.size
            out = out.then((0.0, 1.0, 0.0, -1.0, 0.0, float(wide)), (wide, high))
        return out

    def rotate(self, degrees: float) -> Geometry:
        """Turns counter-clockwise about the centre and keeps the size, as Pillow's `rotate`."""
        high, wide = self.size
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        x, y = wide / 2, high / 2
        return self.then(
            (cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y), self.size
        )

    def inverse(self) -> Geometry:
        """The way back.

        Raises:
            ValueError: a side was scaled to nothing.
        """
        a, b, c, d, e, f = self.matrix
        det = a * e - b * d
        if not det:
            raise ValueError(f"the map {self.matrix} flattens the image and has no inverse.")
        p, q, s, t = e / det, -b / det, -d / det, a / det
        return Geometry(self.size, self.source, (p, q, -p * c - q * f, s, t, -s * c - t * f))

    @property
    def upright(self) -> bool:
        """Whether left stays left and top stays top: nothing is mirrored or turned."""
        a, b, _, d, e, _ = self.matrix
        return a > 0 and e > 0 and not b and not d

    # Using it -------------------------------------------------------------------------------

    def points(self, xy: np.ndarray) -> np.ndarray:
        """Moves points [N, 2] of (x, y)."""
        a, b, c, d, e, f = self.matrix
        xy = np.asarray(xy, dtype=np.float64)
        x, y = xy[..., 0], xy[..., 1]
        return np.stack([a * x + b * y + c, d * x + e * y + f], axis=-1)

    def box(self, box: Box, *, clip: bool = True) -> Box | None:
        """The upright box around a moved box.

        Args:
            box: (x0, y0, x1, y1) in pixels of the source.
            clip: cut it at the edges.

        Returns:
            The box, or None where less than `VISIBLE` of it is left in view.
        """
        # In plain numbers: a scene may have hundreds of boxes, and numpy takes five times as long.
        a, b, c, d, e, f = self.matrix
        corners = [(x, y) for x in (box[0], box[2]) for y in (box[1], box[3])]
        across = [a * x + b * y + c for x, y in corners]
        down = [d * x + e * y + f for x, y in corners]
        left, right, top, bottom = min(across), max(across), min(down), max(down)
        if not clip:
            return float(left), float(top), float(right), float(bottom)
        area = (right - left) * (bottom - top)
        wide, high = float(self.size[1]), float(self.size[0])
        left, right = min(max(left, 0.0), wide), min(max(right, 0.0), wide)
        top, bottom = min(max(top, 0.0), high), min(max(bottom, 0.0), high)
        if right <= left or bottom <= top or (right - left) * (bottom - top) < VISIBLE * area:
            return None
        return float(left), float(top), float(right), float(bottom)

    def oriented(self, box: Box, angle: float) -> tuple[Box, float]:
        """A moved oriented box: unturned form and angle, as `Instance` has them.

        Exact where both sides are scaled alike; otherwise a rectangle becomes a parallelogram, and
        the smaller of the two rectangles that lie along one of its sides is given. Never clipped.
        """
        return around(self.points(turned(box, angle)))

    def map(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        """Resamples a map or mask [H, W], nearest pixel; what lies outside is `fill`.

        Raises:
            SampleError: the map has not the size of the image that this belongs to.
        """
        if array.shape != self.source:
            raise SampleError(
                f"a map or mask of {array.shape[0]} x {array.shape[1]} lies over an image of "
                f"{self.source[0]} x {self.source[1]} (height x width); the reader must bring both "
                "to one size, masks by the nearest pixel."
            )
        high, wide = self.size
        a, b, c, d, e, f = self.inverse().matrix
        x, y = np.arange(wide) + 0.5, np.arange(high) + 0.5
        # A centre that falls on a pixel's edge belongs to the pixel right or below of it; the small
        # number keeps rounding errors of exact maps (flips, quarter turns) on the right side.
        column = np.floor(a * x[None, :] + b * y[:, None] + c + 1e-9).astype(np.int64)
        row = np.floor(d * x[None, :] + e * y[:, None] + f + 1e-9).astype(np.int64)
        inside = (row >= 0) & (row < array.shape[0]) & (column >= 0) & (column < array.shape[1])
        out = array[row.clip(0, array.shape[0] - 1), column.clip(0, array.shape[1] - 1)]
        return np.where(inside, out, np.asarray(fill, dtype=array.dtype))

    def instance(self, instance: Instance) -> Instance | None:
        """A moved object, or None where too little of it is left in view (see `VISIBLE`)."""
        box, angle, mask = instance.box, instance.angle, instance.mask
        if mask is not None:
            mask = self.map(mask)
            if not mask.any():
                return None
        if box is not None:
            upright = box if angle is None else enclosing(turned(box, angle))
            seen = self.box(upright)
            if seen is None:
                return None
            if angle is None:
                box = seen
            else:
                box, angle = self.oriented(box, angle)
        return replace(instance, box=box, angle=angle, mask=mask)


def identity(high: int, wide: int) -> Geometry:
    """The map that changes nothing; the start of others."""
    return Geometry((high, wide), (high, wide))


def turned(box: Box, angle: float) -> np.ndarray:
    """Corners [4, 2] of an oriented box, from the unturned form's top left, clockwise on screen.

    Args:
        box: unturned form, (x0, y0, x1, y1).
        angle: degrees, counter-clockwise as one sees it.
    """
    x0, y0, x1, y1 = box
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    dx = np.array([x0, x1, x1, x0]) - x
    dy = np.array([y0, y0, y1, y1]) - y
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return np.stack([x + dx * cos + dy * sin, y - dx * sin + dy * cos], axis=-1)


def unturned(hull: Box, angle: float) -> Box:
    """The unturned form of an oriented box from the upright box around it and its angle.

    With w' = w |cos| + h |sin| and h' = w |sin| + h |cos|; near 45 degrees both say the same, and
    the square of equal hull is given. A hull that no box of this angle has gives the nearest one.
    """
    x0, y0, x1, y1 = hull
    x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
    cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
    det = cos * cos - sin * sin
    if abs(det) < 0.05:
        wide = high = (w + h) / 2 / (cos + sin)
    else:
        wide, high = (w * cos - h * sin) / det, (h * cos - w * sin) / det
        wide, high = max(wide, 0.0), max(high, 0.0)
    return x - wide / 2, y - high / 2, x + wide / 2, y + high / 2


def enclosing(corners: np.ndarray) -> Box:
    """The upright box around points [N, 2]."""
    (x0, y0), (x1, y1) = np.min(corners, axis=0), np.max(corners, axis=0)
    return float(x0), float(y0), float(x1), float(y1)


def around(corners: np.ndarray) -> tuple[Box, float]:
    """The oriented box around a parallelogram [4, 2], its angle in [-90, 90)."""
    found: list[tuple[float, Box, float]] = []
    for first in (0, 1):
        edge = corners[(first + 1) % 4] - corners[first]
        length = math.hypot(*edge)
        if not length:
            continue
        along = edge / length
        across = np.array([-along[1], along[0]])
        u, v = corners @ along, corners @ across
        middle = along * (u.min() + u.max()) / 2 + across * (v.min() + v.max()) / 2
        wide, high = float(u.max() - u.min()), float(v.max() - v.min())
        angle = -math.degrees(math.atan2(along[1], along[0]))
        if first:  # the second side is the height of the unturned form
            wide, high, angle = high, wide, angle + 90
        x, y = float(middle[0]), float(middle[1])
        box = (x - wide / 2, y - high / 2, x + wide / 2, y + high / 2)
        found.append((wide * high, box, (angle + 90) % 180 - 90))
    area, box, angle = found[0]
    # The first side wins unless the second one's rectangle is truly smaller.
    if len(found) > 1 and found[1][0] < area * (1 - 1e-9):
        _, box, angle = found[1]
    return box, angle
