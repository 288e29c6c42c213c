"""Outlines of masks along the edges of pixels, as GeoJSON orders rings.

Coordinates are continuous pixels, (0, 0) the upper left corner of the image. An outer ring runs
counter-clockwise in the plane of its numbers (x to the right, y up, as RFC 7946 counts), holes run
clockwise, and each ring ends where it begins. What turns pixels into another system that mirrors y
has to turn the rings round. Pixels that touch at a corner alone are apart.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

Ring = list[tuple[float, float]]


def polygons_of(mask: np.ndarray) -> list[list[Ring]]:
    """The parts of a mask, each its outer ring and its holes; exact: filled, they are the mask.

    Args:
        mask: [H, W] bool.
    """
    rings = [_ring(loop) for loop in _loops(mask)]
    outer = [ring for ring in rings if _area(ring) > 0]
    found = [[ring] for ring in outer]
    sizes = [_area(ring) for ring in outer]
    for hole in (ring for ring in rings if _area(ring) < 0):
        point = _beside(hole)
        inside = [i for i, ring in enumerate(outer) if _holds(ring, point)]
        found[min(inside, key=sizes.__getitem__)].append(hole)
    return found


def _loops(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """Closed walks along pixels' edges, the mask on the left in a plane where y points up."""
    padded = np.pad(np.asarray(mask, bool), 1)
    inside = padded[1:-1, 1:-1]
    # Each side of a pixel that borders on the outside, as a step from corner to corner.
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for shift, start, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above it
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right of it
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # below it
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left of it
    ):
        for row, column in np.argwhere(inside & ~shift).tolist():
            first = (column + start[0], row + start[1])
            steps.setdefault(first, []).append((column + end[0], row + end[1]))
    loops = []
    while steps:
        at, before = next(iter(steps)), None
        walk, places = [at], {at: 0}
        while walk:
            ways = steps[at]
            chosen = ways[0] if before is None or len(ways) == 1 else _turn(before, at, ways)
            ways.remove(chosen)
            if not ways:
                del steps[at]
            before, at = at, chosen
            if at not in places:
                places[at] = len(walk)
                walk.append(at)
                continue
            # A ring may touch others at a corner, and never itself: what closes here is one.
            begun = places[at]
            loops.append(walk[begun:])
            for corner in walk[begun:]:
                del places[corner]
            del walk[begun:]
            if walk or at in steps:
                places[at] = len(walk)
                walk.append(at)
            if at not in steps:
                break
    return loops


def _turn(
    before: tuple[int, int], at: tuple[int, int], ways: list[tuple[int, int]]
) -> tuple[int, int]:
    """Where two pixels touch at a corner, the step that stays with its own pixel."""
    dx, dy = at[0] - before[0], at[1] - before[1]
    # Steps run clockwise on screen, so that the own pixel lies to the right.
    right = (at[0] - dy, at[1] + dx)
    return right if right in ways else ways[0]


def _ring(loop: list[tuple[int, int]]) -> Ring:
    """A walk without its straight corners, closed, from its first corner."""
    count = len(loop)
    kept = [
        loop[i]
        for i in range(count)
        if not (
            loop[i - 1][0] == loop[i][0] == loop[(i + 1) % count][0]
            or loop[i - 1][1] == loop[i][1] == loop[(i + 1) % count][1]
        )
    ]
    ring = [(float(x), float(y)) for x, y in kept]
    return [*ring, ring[0]]


def _area(ring: Ring) -> float:
    points = np.asarray(ring)
    x, y = points[:, 0], points[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def _beside(ring: Ring) -> tuple[float, float]:
    """A point within a hole, close to the middle of its first side."""
    (x0, y0), (x1, y1) = ring[:2]
    length = max(abs(x1 - x0), abs(y1 - y0))
    dx, dy = (x1 - x0) / length, (y1 - y0) / length
    # A hole is walked with its outside on the right.
    return (x0 + x1) / 2 + dy * 0.25, (y0 + y1) / 2 - dx * 0.25


def _holds(ring: Ring, point: tuple[float, float]) -> bool:
    """Whether a ray from the point crosses the ring an odd number of times."""
    x, y = point
    inside = False
    for (x0, y0), (x1, y1) in pairwise(ring):
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside
