"""Chance and plane geometry for the generated world.

All shapes are lists of (x, y) in metres, x to the right and y down, as pictures have it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

Point = tuple[float, float]
Polygon = list[Point]
T = TypeVar("T")


class Dice(random.Random):
    """A stream of chance that depends on its key alone.

    Everything is derived from `random()`, whose sequence Python guarantees across versions; the
    scalar draws also cost a tenth of numpy's, and a scene makes hundreds of them.
    """

    def between(self, low: float, high: float) -> float:
        """Return a real number of [low, high)."""
        return low + (high - low) * self.random()

    def whole(self, low: int, high: int) -> int:
        """Return an integer of [low, high], both included."""
        return low + int(self.random() * (high - low + 1))

    def chance(self, p: float) -> bool:
        """Return True with probability p."""
        return self.random() < p

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options, all equally likely."""
        return options[int(self.random() * len(options))]

    def lean(self, options: Sequence[T], power: float = 1.5) -> T:
        """Return one of the options, the first most often: weights 1, 1/2^power, 1/3^power, ..."""
        weights = [(k + 1) ** -power for k in range(len(options))]
        left = self.random() * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            left -= weight
            if left < 0:
                return option
        return options[-1]

    def some(self, options: Iterable[T], count: int) -> list[T]:
        """Return up to `count` different options in random order."""
        pool = list(options)
        return [pool.pop(int(self.random() * len(pool))) for _ in range(min(count, len(pool)))]


def stream(seed: int, number: int, purpose: int) -> Dice:
    """Return the chance of one scene for one purpose; streams do not touch each other."""
    return Dice((((seed << 64) | number) << 8) | purpose)


def rectangle(x: float, y: float, length: float, width: float, turn: float) -> Polygon:
    """Return the corners of a rectangle whose long side points along `turn` (radians)."""
    c, s = math.cos(turn), math.sin(turn)
    lx, ly, wx, wy = c * length / 2, s * length / 2, -s * width / 2, c * width / 2
    return [
        (x - lx - wx, y - ly - wy),
        (x + lx - wx, y + ly - wy),
        (x + lx + wx, y + ly + wy),
        (x - lx + wx, y - ly + wy),
    ]


_CIRCLES = {
    n: [(math.cos(2 * math.pi * k / n), math.sin(2 * math.pi * k / n)) for k in range(n)]
    for n in (8, 12, 20, 32)
}


def disc(x: float, y: float, radius: float, corners: int = 20) -> Polygon:
    """Return a circle as a polygon of 8, 12, 20 or 32 corners."""
    return [(x + radius * c, y + radius * s) for c, s in _CIRCLES[corners]]


def oval(
    x: float, y: float, length: float, width: float, turn: float, corners: int = 32
) -> Polygon:
    """Return an ellipse with the given full axes."""
    c, s = math.cos(turn), math.sin(turn)
    return [
        (x + c * a * length / 2 - s * b * width / 2, y + s * a * length / 2 + c * b * width / 2)
        for a, b in _CIRCLES[corners]
    ]


def racetrack(x: float, y: float, length: float, width: float, turn: float) -> Polygon:
    """Return a rectangle with half circles at its short sides; `length` includes them."""
    c, s = math.cos(turn), math.sin(turn)
    radius, straight = width / 2, (length - width) / 2
    points = []
    for k in range(20):
        angle = -math.pi / 2 + math.pi * (k if k < 10 else k - 1) / 9
        u = radius * math.cos(angle) + (straight if k < 10 else -straight)
        v = radius * math.sin(angle)
        points.append((x + c * u - s * v, y + s * u + c * v))
    return points


def blob(dice: Dice, x: float, y: float, radius: float, *, rough: float = 0.25) -> Polygon:
    """Return an irregular closed outline: a circle with a few random harmonics."""
    waves = [
        (k, rough * dice.between(0.2, 1.0) / k**0.7, dice.between(0, 2 * math.pi))
        for k in (2, 3, 5, 7)
    ]
    points = []
    for c, s in _CIRCLES[32]:
        angle = math.atan2(s, c)
        r = radius * (1 + sum(a * math.cos(k * angle + p) for k, a, p in waves))
        points.append((x + r * c, y + r * s))
    return points


def curve(points: Sequence[Point], steps: int = 8) -> list[Point]:
    """Return a smooth line through the points (Catmull-Rom)."""
    if len(points) < 3:
        return list(points)
    first, last = points[0], points[-1]
    padded = [
        (2 * first[0] - points[1][0], 2 * first[1] - points[1][1]),
        *points,
        (2 * last[0] - points[-2][0], 2 * last[1] - points[-2][1]),
    ]
    out = []
    for a, b, c, d in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for k in range(steps):
            t = k / steps
            t2, t3 = t * t, t * t * t
            wa, wb = -t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2
            wc, wd = -3 * t3 + 4 * t2 + t, t3 - t2
            out.append(
                (
                    0.5 * (wa * a[0] + wb * b[0] + wc * c[0] + wd * d[0]),
                    0.5 * (wa * a[1] + wb * b[1] + wc * c[1] + wd * d[1]),
                )
            )
    out.append(last)
    return out


def arc(x: float, y: float, radius: float, start: float, end: float, steps: int = 14) -> Polygon:
    """Return points on a circle from angle `start` to `end` (radians)."""
    span = (end - start) / steps
    return [
        (x + radius * math.cos(start + k * span), y + radius * math.sin(start + k * span))
        for k in range(steps + 1)
    ]


def offset(points: Sequence[Point], distance: float) -> list[Point]:
    """Return the line moved sideways by `distance` (to the right of its direction)."""
    out = []
    last = len(points) - 1
    for k, (x, y) in enumerate(points):
        ax, ay = points[max(k - 1, 0)]
        bx, by = points[min(k + 1, last)]
        dx, dy = bx - ax, by - ay
        length = math.hypot(dx, dy) or 1.0
        out.append((x - dy / length * distance, y + dx / length * distance))
    return out


def band(points: Sequence[Point], width: float) -> Polygon:
    """Return the outline of a line of the given width."""
    return offset(points, width / 2) + offset(points, -width / 2)[::-1]


def inset(corners: Sequence[Point], share: float) -> Polygon:
    """Return the shape shrunk towards its centre by `share` (0 none, 1 all)."""
    cx, cy = centre(corners)
    return [(x + (cx - x) * share, y + (cy - y) * share) for x, y in corners]


def centre(corners: Sequence[Point]) -> Point:
    """Return the mean of the corners."""
    n = len(corners)
    return sum(x for x, _ in corners) / n, sum(y for _, y in corners) / n


def mix(a: Point, b: Point, t: float) -> Point:
    """Return the point that lies the share `t` of the way from a to b."""
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


def along(points: Sequence[Point], step: float, start: float = 0.0) -> list[tuple[Point, float]]:
    """Return (point, direction) every `step` metres of a line, from `start` on."""
    out = []
    left = start
    for (ax, ay), (bx, by) in pairwise(points):
        length = math.hypot(bx - ax, by - ay)
        if length == 0:
            continue
        turn = math.atan2(by - ay, bx - ax)
        while left <= length:
            t = left / length
            out.append(((ax + (bx - ax) * t, ay + (by - ay) * t), turn))
            left += step
        left -= length
    return out
