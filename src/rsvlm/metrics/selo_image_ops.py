"""Operations on 8-bit maps that semantic localisation needs, equal to OpenCV's and SciPy's.

They are written in NumPy, so that the metric needs neither library, and use what the maps are:
sums of rectangles before the median, long flat windows after it. Each docstring names the call
whose numbers it gives; `tests/metrics/test_selo.py` holds them against plain definitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

# OpenCV's weights of a cubic at distance t have 11 bits after the point.
_CUBIC_BITS = 11
# The outermost of four taps lies this far beyond the border at most.
_PAD = 2


def resize_cubic(image: np.ndarray, size: int) -> np.ndarray:
    """`cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)` without antialiasing.

    Equal for whole factors (the published windows are 256, 512 and 768 px); for others a grey level
    may differ by one.

    Args:
        image: [H, W, C] uint8.
        size: side of the result.

    Returns:
        [size, size, C] uint8.
    """
    if image.shape[:2] == (size, size):
        return image
    rows, row_weights = _cubic_taps(image.shape[0], size)
    columns, column_weights = _cubic_taps(image.shape[1], size)
    pad = ((_PAD, _PAD), (_PAD, _PAD), (0, 0))
    source = np.pad(image, pad, mode="edge").astype(np.float32)
    # Whole numbers below 2^24, exact in float32.
    wide = np.zeros((source.shape[0], size, source.shape[2]), np.float32)
    for at, weight in zip(columns, column_weights, strict=True):
        if weight.any():
            wide += source[:, _steps(at)] * weight[:, None]
    # OpenCV's vector code adds the second pass in float32 and rounds half to even.
    scale = np.float32(1 / (1 << 2 * _CUBIC_BITS))
    tall = np.zeros((size, size, source.shape[2]), np.float32)
    for at, weight in zip(rows, row_weights, strict=True):
        if weight.any():
            tall += wide[_steps(at)] * (weight * scale)[:, None, None]
    return np.clip(np.rint(tall, out=tall), 0, 255, out=tall).astype(np.uint8)


def _cubic_taps(length: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """[4, size] positions in the padded line and their weights times 2^11 (a = -0.75)."""
    at = ((np.arange(size) + 0.5) * (length / size) - 0.5).astype(np.float32)
    base = np.floor(at).astype(np.int64)
    t = at - base.astype(np.float32)
    a = np.float32(-0.75)
    one = np.float32(1)
    weights = np.empty((4, size), np.float32)
    weights[0] = ((a * (t + one) - 5 * a) * (t + one) + 8 * a) * (t + one) - 4 * a
    weights[1] = ((a + 2) * t - (a + 3)) * t * t + one
    weights[2] = ((a + 2) * (one - t) - (a + 3)) * (one - t) * (one - t) + one
    weights[3] = one - weights[0] - weights[1] - weights[2]
    places = base + np.arange(-1, 3)[:, None] + _PAD
    return places, np.rint(weights * np.float32(1 << _CUBIC_BITS))


def _steps(at: np.ndarray) -> np.ndarray | slice:
    """A slice where the positions are evenly spaced, which NumPy reads several times faster."""
    step = int(at[1] - at[0]) if len(at) > 1 else 0
    if step > 0 and (np.diff(at) == step).all():
        return slice(int(at[0]), int(at[-1]) + 1, step)
    return at


def median_of_cells(
    values: np.ndarray, row_cuts: np.ndarray, column_cuts: np.ndarray, kernel: int
) -> np.ndarray:
    """`cv2.medianBlur` of a map that is constant on the cells of a grid.

    A window of the filter overlaps few cells, so the count of its pixels at or below a value is a
    sum of products of a height and a width. No window is ever visited pixel by pixel.

    Args:
        values: [r, c] uint8, the cells.
        row_cuts: [r + 1] increasing, from 0 to the map's height.
        column_cuts: [c + 1] increasing, from 0 to the map's width.
        kernel: odd side of the window; pixels beyond the border repeat the border's.

    Returns:
        [row_cuts[-1], column_cuts[-1]] uint8.
    """
    if kernel % 2 == 0:
        raise ValueError(f"kernel={kernel} must be odd.")
    need = (kernel * kernel + 1) // 2
    out = np.empty((int(row_cuts[-1]), int(column_cuts[-1])), np.uint8)
    tall, rows = _overlaps(row_cuts, kernel)
    wide, columns = _overlaps(column_cuts, kernel)
    for y0, y1, i0, i1 in rows:
        heights = tall[y0:y1, i0:i1]
        for x0, x1, j0, j1 in columns:
            cells = values[i0:i1, j0:j1]
            levels = np.unique(cells)
            if len(levels) == 1:
                out[y0:y1, x0:x1] = levels[0]
                continue
            widths = wide[x0:x1, j0:j1].T
            at_most = (cells <= levels[:-1, None, None]).astype(np.float32)
            strips = (at_most @ widths).transpose(1, 0, 2).reshape(i1 - i0, -1)
            # Counts stay below 2^24, so that float32 is exact.
            counts = (heights @ strips).reshape(y1 - y0, len(levels) - 1, x1 - x0)
            out[y0:y1, x0:x1] = levels[(counts < need).sum(1, dtype=np.uint8)]
    return out


def _overlaps(cuts: np.ndarray, kernel: int) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Overlap of each position's window with each cell, and runs that touch the same cells.

    Returns:
        [length, cells] float32, and (start, end, first cell, end cell) tuples.
    """
    length, half = int(cuts[-1]), kernel // 2
    low, high = cuts[:-1].astype(np.int64), cuts[1:].astype(np.int64)
    low[0], high[-1] = -half, length + half
    at = np.arange(length)[:, None]
    overlap = np.minimum(at + half + 1, high) - np.maximum(at - half, low)
    overlap = np.maximum(overlap, 0).astype(np.float32)
    touched = overlap > 0
    first = touched.argmax(1)
    last = touched.shape[1] - touched[:, ::-1].argmax(1)
    change = np.flatnonzero(np.diff(first) | np.diff(last)) + 1
    edges = [0, *change.tolist(), length]
    runs = [(start, end, int(first[start]), int(last[start])) for start, end in pairwise(edges)]
    return overlap, runs


def box_blur(gray: np.ndarray, size: int) -> np.ndarray:
    """`cv2.boxFilter(gray, -1, (size, size))`: mean over a window, border reflected without edge.

    An even window reaches one pixel further to the left and up.

    Args:
        gray: [H, W] uint8.
        size: side of the window, at most 256.

    Returns:
        [H, W] uint8.
    """
    before, after = size // 2, (size - 1) // 2
    height, width = gray.shape
    rows = _reflect101(np.arange(-before, height + after), height)
    left = _reflect101(np.arange(-before, 0), width)
    right = _reflect101(np.arange(width, width + after), width)
    # OpenCV multiplies the integer sum by the float32 inverse and rounds half to even.
    inverse = np.float32(1 / (size * size))
    out = np.empty((height, width), np.uint8)
    # A strip of rows at a time stays in the processor's cache. Sums of a column fit 16 bits.
    running = gray[rows[:size]].sum(0, dtype=np.uint16)
    total = np.zeros((64, width + size), np.int32)
    for top in range(0, height, 64):
        strip = np.empty((min(64, height - top), width), np.uint16)
        for y in range(len(strip)):
            if top + y:
                running += gray[rows[top + y + size - 1]]
                running -= gray[rows[top + y - 1]]
            strip[y] = running
        wide = np.concatenate((strip[:, left], strip, strip[:, right]), axis=1)
        sums = total[: len(strip)]
        np.cumsum(wide, axis=1, dtype=np.int32, out=sums[:, 1:])
        means = (sums[:, size:] - sums[:, :-size]).astype(np.float32)
        means *= inverse
        out[top : top + 64] = np.rint(means, out=means)
    return out


def _reflect101(at: np.ndarray, length: int) -> np.ndarray:
    """Positions folded back into the line, its ends not repeated."""
    if length == 1:
        return np.zeros_like(at)
    at = np.abs(at) % (2 * length - 2)
    return np.minimum(at, 2 * length - 2 - at)


def maximum_filter(gray: np.ndarray, size: int) -> np.ndarray:
    """`scipy.ndimage.maximum_filter(gray, size=size)`: an even window reaches one further back.

    SciPy's reflected border never brings in a value from outside the clipped window, so this one
    clips.
    """
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (size // 2, (size - 1) // 2)
        # Zeros never win. reach[i] is the maximum over i .. i + span - 1, span a power of two.
        reach, span = np.moveaxis(np.pad(gray, pad), axis, 0), 1
        while span * 2 <= size:
            reach = np.maximum(reach[:-span], reach[span:])
            span *= 2
        length = gray.shape[axis]
        both = np.maximum(reach[:length], reach[size - span : size - span + length])
        gray = np.moveaxis(both, 0, axis)
    return gray


def component_centres(mask: np.ndarray) -> list[tuple[int, int]]:
    """(x, y) centroids, cut to integers, of the 8-connected components of a mask.

    In the order in which a row-wise scan meets them, as `skimage.measure.regionprops` lists them.
    """
    occupied = np.flatnonzero(mask.any(1))
    edges = np.diff(np.pad(mask[occupied].astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    rows = occupied[rows]
    ends = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1)).tolist()
    start, end = starts.tolist(), ends.tolist()
    for y in range(1, mask.shape[0]):
        above, here = first[y - 1], first[y]
        stop_above, stop_here = first[y], first[y + 1]
        while above < stop_above and here < stop_here:
            # Touching at a corner counts, hence no "- 1" on the ends.
            if start[above] <= end[here] and start[here] <= end[above]:
                a, b = root(above), root(here)
                parent[max(a, b)] = min(a, b)
            if end[above] < end[here]:
                above += 1
            else:
                here += 1
    sums: dict[int, list[int]] = {}
    for i, y in enumerate(rows.tolist()):
        count = end[i] - start[i]
        group = sums.setdefault(root(i), [0, 0, 0])
        group[0] += count
        group[1] += (start[i] + end[i] - 1) * count // 2
        group[2] += y * count
    return [(int(x / count), int(y / count)) for count, x, y in sums.values()]


def fill_polygons(shape: tuple[int, int], polygons: Sequence[np.ndarray]) -> np.ndarray:
    """`cv2.fillPoly` of all polygons in one call: outlines, and the inside by the even-odd rule.

    So a part that two polygons share is left out, apart from the outlines that cross it. That is
    what the published masks are. Parts of a polygon outside the map are cut off (there OpenCV's own
    outline moves by a pixel or more).

    Args:
        shape: (H, W).
        polygons: each [n, 2] (x, y); fractions are cut off.

    Returns:
        [H, W] bool.
    """
    height, width = shape
    mask = np.zeros(shape, bool)
    crossings: dict[int, list[int]] = {}
    for polygon in polygons:
        points = np.asarray(polygon, np.float64).astype(np.int64).tolist()
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
            _draw_line(mask, x0, y0, x1, y1)
            if y0 == y1:
                continue
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            # 16 bits after the point; the slope is cut towards zero as C does it.
            run, rise = (x1 - x0) << 16, y1 - y0
            slope = abs(run) // rise * (1 if run >= 0 else -1)
            for y in range(max(y0, 0), min(y1, height)):
                crossings.setdefault(y, []).append((x0 << 16) + (y - y0) * slope)
    for y, xs in crossings.items():
        xs.sort()
        for left, right in zip(xs[::2], xs[1::2], strict=True):
            start, stop = max((left + 0xFFFF) >> 16, 0), min((right >> 16) + 1, width)
            mask[y, start : max(start, stop)] = True
    return mask


def _draw_line(mask: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> None:
    """An 8-connected line from left to right, as `cv2.line` draws it; outside it is cut."""
    if x0 > x1:
        x0, y0, x1, y1 = x1, y1, x0, y0
    dx, dy = x1 - x0, abs(y1 - y0)
    step = 1 if y1 >= y0 else -1
    along = np.arange(max(dx, dy) + 1)
    if not len(along) or max(dx, dy) == 0:
        xs, ys = np.array([x0]), np.array([y0])
    elif dx >= dy:
        # Bresenham's decision, solved for all steps: the minor axis moves when the error is < 0.
        xs, ys = x0 + along, y0 + step * ((2 * dy * along + dx - 1) // (2 * dx))
    else:
        xs, ys = x0 + (2 * dx * along + dy - 1) // (2 * dy), y0 + step * along
    inside = (xs >= 0) & (xs < mask.shape[1]) & (ys >= 0) & (ys < mask.shape[0])
    mask[ys[inside], xs[inside]] = True
