"""Metrics of small, medium and large objects, as COCO parts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsvlm.data.prediction_records import Id, image_of
from rsvlm.metrics.intervals import Statistics, means

#: Name -> square pixels of the image as stored below which an object is of that size.
SIZES: dict[str, float] = {"small": 32.0**2, "medium": 96.0**2, "large": float("inf")}


def size_of(area: float) -> str:
    """`small` below 32 x 32 px, `medium` below 96 x 96 px, else `large`."""
    return next(name for name, limit in SIZES.items() if area < limit or limit == float("inf"))


def means_by_size(
    word: str, ids: Sequence[Id], areas: Sequence[float], values: Sequence[float]
) -> tuple[dict[str, float], Statistics, dict[str, int]]:
    """Means of the items of each size, in per cent.

    Args:
        word: what is measured; the size's name is put behind it.
        ids: of the N items.
        areas: square pixels of each item's true object.
        values: of each item, 0 to 1.

    Returns:
        `<word>_small`, ... of the sizes that have items; their statistics; their counts.
    """
    sizes = np.array([size_of(area) for area in areas])
    held = np.array(values, np.float64)
    there = [name for name in SIZES if (sizes == name).any()]
    columns = {f"{word}_{name}": np.where(sizes == name, held, np.nan) for name in there}
    found = {key: float(100 * np.nanmean(column)) for key, column in columns.items()}
    counts = {f"{word}_{name}": int((sizes == name).sum()) for name in there}
    return found, means([image_of(id) for id in ids], dict(columns)), counts
