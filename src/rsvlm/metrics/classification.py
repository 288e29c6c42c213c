"""What each image brings to accuracies, for intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rsvlm.metrics.intervals import Floats, Statistics, means, share

#: Largest table of images by classes; beyond it the mean over classes has no interval.
_MOST = 20_000_000


def classification_statistics(
    images: Sequence[Any], scores: Floats, labels: Floats
) -> list[Statistics]:
    """Statistics of `top1`, `top5` and `mean_per_class`.

    Args:
        images: [N].
        scores: [N, classes].
        labels: [N], places among the classes.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    first = order[:, 0] == labels
    five = (order[:, :5] == labels[:, None]).any(1)
    found = [means(images, {"top1": first, "top5": five})]
    classes = scores.shape[1]
    if len(images) * classes <= _MOST:
        there = np.eye(classes)[labels]

        def value(sums: Floats) -> dict[str, Floats]:
            each = 100 * share(sums[..., :classes], sums[..., classes:])
            held = ~np.isnan(each)
            return {"mean_per_class": share(np.where(held, each, 0).sum(-1), held.sum(-1))}

        rows = np.concatenate([there * first[:, None], there], 1)
        found.append(Statistics(images, rows, value))
    return found
