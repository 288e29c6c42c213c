"""Boxes as a protocol takes them, and what two of them share."""

from __future__ import annotations

from typing import Any

import numpy as np

from rsvlm.data.geometry import turned
from rsvlm.errors import UserError
from rsvlm.metrics.grounding.polygons import shared_area, signed_area, simple


def flat(box: Any, what: str, protocol: str) -> list[float] | None:
    """Four numbers, or eight of a turned box; None where there is no area.

    Args:
        box: (x0, y0, x1, y1), or None; under `oriented` also (box, angle) or four corners.
        what: whose box, for the error.
        protocol: `rsvg`, `minigpt` or `oriented`.

    Raises:
        UserError: another number of coordinates.
    """
    if box is None:
        return None
    turn = 0.0
    values = box
    if protocol == "oriented" and len(box) == 2 and np.shape(box[0]) == (4,):
        values, turn = box[0], float(box[1])
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.empty(0)
    corners = protocol == "oriented" and numbers.size == 8
    if numbers.size != 4 and not corners:
        also = ", (box, angle) or four corners" if protocol == "oriented" else ""
        raise UserError(
            f"{what}: {box!r} is no box; give (x0, y0, x1, y1){also}, or None where the "
            "answer has none."
        )
    numbers = numbers.reshape(-1)
    if not np.isfinite(numbers).all() or not np.isfinite(turn):
        return None
    if corners:
        return numbers.tolist() if simple(numbers.reshape(4, 2)) else None
    x0, y0, x1, y1 = numbers.tolist()
    least = -1 if protocol == "minigpt" else 0
    if x1 - x0 <= least or y1 - y0 <= least:
        return None
    if protocol != "oriented":
        return [x0, y0, x1, y1]
    return turned((x0, y0, x1, y1), turn).reshape(-1).tolist()


def areas(box: list[float] | None, truth: list[float], protocol: str) -> tuple[float, float]:
    """I and U of a box and a true one, both as `flat` gives them; without a box, 0 and the truth's.

    Args:
        box: a model's.
        truth: the true one.
        protocol: `rsvg`, `minigpt` (sides one pixel longer) or `oriented`.
    """
    if protocol == "oriented":
        true = np.reshape(truth, (4, 2))
        if box is None:
            return 0.0, abs(signed_area(true))
        predicted = np.reshape(box, (4, 2))
        shared = shared_area(predicted, true)
        return shared, abs(signed_area(predicted)) + abs(signed_area(true)) - shared
    more = 1.0 if protocol == "minigpt" else 0.0

    def area(x0: float, y0: float, x1: float, y1: float) -> float:
        return max(x1 - x0 + more, 0.0) * max(y1 - y0 + more, 0.0)

    if box is None:
        return 0.0, area(*truth)
    common = (*map(max, box[:2], truth[:2]), *map(min, box[2:], truth[2:]))
    shared = area(*common)
    return shared, area(*box) + area(*truth) - shared
