"""Areas of polygons and of what two of them share, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

#: Of a polygon's bounding box; below it an area is rounding, not extent.
_FLAT = 1e-12


def signed_area(polygon: np.ndarray) -> float:
    """Shoelace area of [n, 2] points; its sign is the turning direction."""
    moved = polygon - polygon[0]
    x, y = moved[:, 0], moved[:, 1]
    return float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2)


def simple(polygon: np.ndarray) -> bool:
    """Whether [4, 2] corners go around an area without crossing themselves."""
    if not np.isfinite(polygon).all():
        return False
    extent = float(np.prod(np.ptp(polygon, axis=0)))
    if abs(signed_area(polygon)) <= _FLAT * extent or extent == 0:
        return False
    a, b, c, d = polygon
    return not (_cross(a, b, c, d) or _cross(b, c, d, a))


def shared_area(one: np.ndarray, other: np.ndarray) -> float:
    """Area that two simple polygons share; they need not be convex.

    Each is the sum of the triangles from its first corner, those that turn the other way counting
    negative (the fan behind the shoelace formula), so what they share is the sum over pairs of
    triangles, and two triangles are cut by half-planes (Sutherland and Hodgman, 1974).

    Args:
        one: [n, 2] corners, either way round.
        other: [m, 2].
    """
    origin = one[0]
    total = sum(
        sign * turn * abs(signed_area(cut))
        for first, sign in _fan(one - origin)
        for second, turn in _fan(other - origin)
        if len(cut := _clip(first, second)) > 2
    )
    return max(total, 0.0)


def _fan(polygon: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Triangles that turn counter-clockwise, and the sign with which each counts."""
    ordered = polygon if signed_area(polygon) > 0 else polygon[::-1]
    for second, third in pairwise(ordered[1:]):
        triangle = np.stack([ordered[0], second, third])
        area = signed_area(triangle)
        if area > 0:
            yield triangle, 1
        elif area < 0:
            yield triangle[::-1], -1


def _clip(polygon: np.ndarray, window: np.ndarray) -> np.ndarray:
    """What is left of a convex polygon inside a convex window, both counter-clockwise."""
    points = list(polygon)
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        edge = end - start
        sides = [float(edge[0] * (p[1] - start[1]) - edge[1] * (p[0] - start[0])) for p in points]
        kept = []
        for i, (point, side) in enumerate(zip(points, sides, strict=True)):
            before, was = points[i - 1], sides[i - 1]
            if (was < 0 < side) or (side < 0 < was):
                kept.append(before + (point - before) * (was / (was - side)))
            if side >= 0:
                kept.append(point)
        points = kept
        if not points:
            break
    return np.array(points).reshape(-1, 2)


def _cross(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> bool:
    """Whether the segments a-b and c-d cross or touch."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> float:
        return float(np.sign((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])))

    return side(a, b, c) * side(a, b, d) <= 0 and side(c, d, a) * side(c, d, b) <= 0
