"""Surface grain: periodic height fields, made once per process and lit by each scene's sun."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

SIDE = 256
"""Period of every field, pixels."""

# name: (shortest and longest wavelength in pixels, stretch along x, share of plain height,
# share of sunlit slope)
_BANDS: dict[str, tuple[float, float, float, float, float]] = {
    "fine": (2.0, 24.0, 1.0, 0.9, 0.3),
    "clumps": (3.0, 48.0, 1.0, 0.9, 0.4),
    "leaf": (3.0, 9.0, 1.0, 0.5, 0.8),
    "dune": (9.0, 64.0, 2.2, 0.2, 1.0),
    "stain": (5.0, 80.0, 1.0, 1.0, 0.0),
    "ripple": (2.5, 12.0, 2.4, 0.6, 0.7),
}
_CROWNS: dict[str, float] = {"canopy4": 4.0, "canopy7": 7.0, "canopy11": 11.0}
NAMES: tuple[str, ...] = (*_BANDS, *_CROWNS)


class Bank(NamedTuple):
    """All fields, flat: `height[k * SIDE * SIDE + row * SIDE + column]` of field k.

    `east` and `south` are the brightness of slopes under a sun in the east or in the south.
    `slow` [2·SIDE, 2·SIDE] is the drift over tens of metres and `noise` [2·SIDE, 2·SIDE] the
    sensor's; both are taken as windows.
    """

    height: np.ndarray
    east: np.ndarray
    south: np.ndarray
    slow: np.ndarray
    noise: np.ndarray


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    # Box-Muller over the raw uniform stream: numpy may change its own normal sampler
    u, v = rng.random(shape), rng.random(shape)
    drawn: np.ndarray = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
    return drawn


def _field(
    rng: np.random.Generator, low: float, high: float, stretch: float, side: int = SIDE
) -> np.ndarray:
    """Return band-limited noise of unit variance, periodic."""
    fy = np.fft.fftfreq(side)[:, None]
    fx = np.fft.rfftfreq(side)[None, :] * stretch
    f = np.hypot(fx, fy)
    keep = (f > 1 / high) & (f < 1 / low)
    spectrum = np.fft.rfft2(_normal(rng, (side, side))) * keep / np.maximum(f, 1 / side) ** 0.9
    field = np.fft.irfft2(spectrum, (side, side))
    unit: np.ndarray = field / field.std()
    return unit


def _crowns(rng: np.random.Generator, size: float) -> np.ndarray:
    """Return a carpet of domes about `size` pixels wide, periodic."""
    count = int((SIDE / size) ** 2 * 1.25)
    height = np.zeros((SIDE, SIDE))
    reach = math.ceil(size)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    for x, y, r, top in rng.random((count, 4)):
        cx, cy = x * SIDE, y * SIDE
        radius = size * (0.42 + 0.38 * r)
        rows, columns = int(cy) + dy, int(cx) + dx
        dome = 1 - ((rows - cy) ** 2 + (columns - cx) ** 2) / radius**2
        dome = np.sqrt(np.maximum(dome, 0)) * (0.6 + 0.5 * top)
        at = (rows % SIDE, columns % SIDE)
        height[at] = np.maximum(height[at], dome)
    unit: np.ndarray = (height - height.mean()) / height.std()
    return unit


@lru_cache(maxsize=1)
def bank() -> Bank:
    """Return the fields of this process (0.2 s the first time, 7 MB)."""
    rng = np.random.default_rng(20250729)
    heights, east, south = [], [], []
    fields = [(_field(rng, *spec[:3]), spec[3], spec[4]) for spec in _BANDS.values()]
    fields += [(_crowns(rng, size), 0.75, 0.6) for size in _CROWNS.values()]
    for field, plain, lit in fields:
        gx = np.roll(field, 1, 1) - np.roll(field, -1, 1)
        gy = np.roll(field, 1, 0) - np.roll(field, -1, 0)
        spread = math.sqrt((gx.var() + gy.var()) / 2)
        heights.append(plain * field)
        east.append(lit * gx / spread)
        south.append(lit * gy / spread)
    slow = np.tile(_field(rng, 40.0, 257.0, 1.0), (2, 2))
    noise = _normal(rng, (2 * SIDE, 2 * SIDE))
    height, right, down = (
        np.concatenate([f.ravel() for f in group]).astype(np.float32)
        for group in (heights, east, south)
    )
    return Bank(height, right, down, slow.astype(np.float32), noise.astype(np.float32))


def canopy(metres_per_pixel: float) -> str:
    """Return the canopy field whose crowns are nearest to seven metres."""
    pixels = 7.0 / metres_per_pixel
    return min(_CROWNS, key=lambda name: abs(math.log(_CROWNS[name] / pixels)))
