"""Masks as COCO stores them: run lengths, compressed or not, and polygons.

A run-length mask is `{"size": [H, W], "counts": ...}`. Pixels are walked column by column; `counts`
are the lengths of the runs of 0 and 1 in turn, the first of them 0s. Compressed, they are a string:
from the third on, a count is the difference to the one two places before, and each number is cut
into groups of five bits, the lowest first, 32 marking that another group follows, 48 added to make
it a letter (pycocotools, common/maskApi.c).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsvlm.errors import UserError


class MaskError(UserError):
    """A stored mask that cannot be read; the text says what is wrong with it."""

    code = "bad_mask"


def encode(mask: np.ndarray, *, compressed: bool = True) -> dict[str, Any]:
    """Run lengths of a mask.

    Args:
        mask: [H, W] bool.
        compressed: give `counts` as a string, as COCO's tools do, instead of a list.
    """
    flat = np.asarray(mask, bool).T.reshape(-1)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    ends = np.concatenate([[0], edges, [flat.size]]) if flat.size else np.zeros(1, np.int64)
    counts = np.diff(ends)
    if flat.size and flat[0]:  # the first run is of 0s, if need be an empty one
        counts = np.concatenate([[0], counts])
    size = [int(mask.shape[0]), int(mask.shape[1])]
    return {"size": size, "counts": _pack(counts) if compressed else counts.tolist()}


def decode(rle: Mapping[str, Any]) -> np.ndarray:
    """The mask that run lengths describe.

    Args:
        rle: `size` [H, W] and `counts`: a compressed string (or its bytes), or a list.

    Returns:
        [H, W] bool.

    Raises:
        MaskError: it is not that, or the runs do not fill the picture exactly.
    """
    counts, height, width = _runs(rle)
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def area(rle: Mapping[str, Any]) -> int:
    """How many pixels a mask has, without drawing it.

    Raises:
        MaskError: see `decode`.
    """
    return int(_runs(rle)[0][1::2].sum())


def _runs(rle: Mapping[str, Any]) -> tuple[np.ndarray, int, int]:
    if not isinstance(rle, Mapping) or "counts" not in rle or "size" not in rle:
        raise MaskError("a run-length mask has `size` and `counts`.")
    size, counts = rle["size"], rle["counts"]
    try:
        height, width = (int(side) for side in size)
    except (TypeError, ValueError, OverflowError) as error:
        raise MaskError(f"size {size!r} is not [H, W].") from error
    if height < 1 or width < 1:
        raise MaskError(f"size {size!r} is not [H, W].")
    if isinstance(counts, str | bytes):
        runs = _unpack(counts)
    else:
        try:
            runs = np.asarray(counts)
        except ValueError as error:  # lists of different lengths
            raise MaskError("counts are neither a string nor a list of whole numbers.") from error
        if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iu"):
            raise MaskError("counts are neither a string nor a list of whole numbers.")
    if runs.size and runs.min() < 0:
        raise MaskError("a run has a negative length.")
    if int(runs.sum()) != height * width:
        raise MaskError(f"its runs cover {int(runs.sum())} pixels; {height} x {width} has others.")
    return runs.astype(np.int64), height, width


def _pack(counts: np.ndarray) -> str:
    rest = counts.astype(np.int64).copy()
    rest[3:] -= counts[1:-2]
    letters = np.zeros((len(rest), 8), np.uint8)
    used = np.zeros(len(rest), np.int64)
    open_ = np.ones(len(rest), bool)
    for column in range(letters.shape[1]):
        low = rest & 31
        rest >>= 5
        # The sign is the highest bit of the last group.
        more = np.where(low & 16, rest != -1, rest != 0)
        letters[open_, column] = (low + 32 * more + 48)[open_]
        used[open_] += 1
        open_ &= more
    return letters[np.arange(letters.shape[1]) < used[:, None]].tobytes().decode("ascii")


def _unpack(counts: str | bytes) -> np.ndarray:
    try:
        raw = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError as error:
        raise MaskError("its counts hold letters that no mask has.") from error
    groups = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    if groups.size and (groups.min() < 0 or groups.max() > 63):
        raise MaskError("its counts hold letters that no mask has.")
    last = groups & 32 == 0
    if not groups.size or not last[-1]:
        raise MaskError("its counts are empty or cut short.")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 7:
        raise MaskError("a count is longer than 40 bits.")
    numbers = np.add.reduceat((groups & 31) << (5 * place), starts)
    numbers -= np.where(groups[ends] & 16, 1 << (5 * (place[ends] + 1)), 0)
    # The differences are to two places before, from the fourth number on.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def polygons(outlines: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """The union of filled polygons, pixel by pixel as COCO's tools draw them.

    Each outline is walked on a grid five times finer; where it crosses from one column of pixels
    to the next, a run begins or ends (pycocotools, common/maskApi.c, `rleFrPoly`). What lies
    outside of the picture is moved to its edge.

    Args:
        outlines: polygons, [x0, y0, x1, y1, ...].
        height: of the picture, pixels.
        width: of the picture, pixels.

    Returns:
        [H, W] bool.

    Raises:
        MaskError: a polygon has fewer than three corners or is not made of finite numbers.
    """
    mask = np.zeros((height, width), bool)
    for outline in outlines:
        mask |= _polygon(outline, height, width)
    return mask


_FINE = 5.0
#: Pixels; the way round a polygon is walked step by step.
_FAR = 1e6


def corners(outline: Sequence[float]) -> np.ndarray:
    """The corners of a polygon as COCO stores it.

    Args:
        outline: [x0, y0, x1, y1, ...].

    Returns:
        [n, 2] of (x, y).

    Raises:
        MaskError: it has fewer than three corners or is not made of finite numbers.
    """
    try:
        points = np.asarray(outline, np.float64)
    except (TypeError, ValueError) as error:
        raise MaskError("a polygon is not a list of numbers.") from error
    if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
        raise MaskError("a polygon is not [x0, y0, x1, y1, ...] with three corners or more.")
    if np.abs(points).max() > _FAR:
        raise MaskError("a polygon has a corner that no picture reaches to.")
    return points.reshape(-1, 2)


def _polygon(outline: Sequence[float], height: int, width: int) -> np.ndarray:
    fine = np.trunc(_FINE * corners(outline) + 0.5).astype(np.int64)
    xs, ys = [], []
    for (x0, y0), (x1, y1) in zip(fine, np.roll(fine, -1, 0), strict=True):
        dx, dy = abs(x1 - x0), abs(y1 - y0)
        flip = (dx >= dy and x0 > x1) or (dx < dy and y0 > y1)
        if flip:
            x0, y0, x1, y1 = x1, y1, x0, y0
        step = np.arange(max(dx, dy) + 1)
        if flip:
            step = step[::-1]
        if dx >= dy:
            slope = (y1 - y0) / dx if dx else 0.0
            xs.append(x0 + step)
            ys.append(np.trunc(y0 + slope * step + 0.5).astype(np.int64))
        else:
            slope = (x1 - x0) / dy
            xs.append(np.trunc(x0 + slope * step + 0.5).astype(np.int64))
            ys.append(y0 + step)
    x, y = np.concatenate(xs), np.concatenate(ys)
    # Where the outline moves to another fine column, that column's centre may lie on a pixel's.
    moved = np.flatnonzero(x[1:] != x[:-1]) + 1
    column = (np.where(x[moved] < x[moved - 1], x[moved], x[moved] - 1) + 0.5) / _FINE - 0.5
    keep = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = (np.where(y[moved] < y[moved - 1], y[moved], y[moved - 1]) + 0.5) / _FINE - 0.5
    row = np.ceil(np.clip(row, 0, height))
    mask = np.zeros((height, width), bool)
    if keep.any():
        left, right = int(column[keep].min()), int(column[keep].max()) + 1
        starts = ((column[keep] - left) * height + row[keep]).astype(np.int64)
        # Each crossing turns the rest of the walk over; two at one place undo each other.
        turns = np.bincount(starts, minlength=(right - left) * height + 1)[:-1]
        mask[:, left:right] = (np.cumsum(turns) % 2 == 1).reshape(right - left, height).T
    return mask
