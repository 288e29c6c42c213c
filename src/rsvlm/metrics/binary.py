"""Is a class there or not: the best F1 over thresholds on the cosine (SkyScript's binary mode)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric

from rsvlm.metrics.intervals import Floats, Statistics, share

#: Thresholds on the cosine, from -1 to 1.
THRESHOLDS = 101
_TINY = 1e-9
#: Largest table of images, thresholds and classes for an interval.
_MOST = 50_000_000


class Binary(Metric):
    """F1, precision and recall, in per cent, of each class against all else; the mean over classes.

    Formula: `2 P R / (P + R)` at the threshold where it is largest. Range: 0 to 100 per cent.
    Higher is better. Protocol: binary. Used in: SkyScript's binary attributes.

    An image is called positive where its cosine with the class's prompt reaches a threshold; each
    class takes the threshold of its best F1, the lowest of equally good ones, as
    `test_zero_shot_classification.py` of wangzhecheng/SkyScript (c6d1891) does for its one class.
    The threshold is chosen on the images that are scored, as published. Classes of which no image
    was given do not count.

    Args:
        classes: class names, in the order of the labels; one is enough.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    predicted: Tensor
    right: Tensor
    positives: Tensor
    seen: Tensor

    def __init__(self, classes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not classes or len(set(classes)) != len(classes):
            raise ValueError(
                f"{len(classes)} class names, {len(set(classes))} of them distinct: give at least "
                "one, all different."
            )
        self.classes = list(classes)
        count = len(self.classes)
        for name in ("predicted", "right"):
            self.add_state(name, torch.zeros(THRESHOLDS, count, dtype=torch.long), "sum")
        self.add_state("positives", torch.zeros(count, dtype=torch.long), "sum")
        self.add_state("seen", torch.zeros((), dtype=torch.long), "sum")

    def update(self, cosines: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            cosines: [b, classes] of images and class prompts.
            labels: [b] long, positions in `classes`; -1 for an image of none of them.

        Raises:
            ValueError: other shapes, a label outside, or cosines that are not finite.
        """
        count = len(self.classes)
        if cosines.shape != (len(labels), count):
            raise ValueError(f"cosines {tuple(cosines.shape)} must be [{len(labels)}, {count}].")
        outside = labels[(labels < -1) | (labels >= count)]
        if len(outside):
            raise ValueError(f"label {int(outside[0])} is outside the {count} classes.")
        if not bool(cosines.isfinite().all()):
            raise ValueError("cosines are not finite.")
        true = F.one_hot(labels + 1, count + 1)[:, 1:].bool()
        thresholds = torch.linspace(-1, 1, THRESHOLDS, dtype=torch.float64, device=cosines.device)
        predicted = cosines.double()[:, None] >= thresholds[:, None]
        self.predicted += predicted.sum(0)
        self.right += (predicted & true[:, None]).sum(0)
        self.positives += true.sum(0)
        self.seen += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """`f1`, and `precision` and `recall` at its threshold.

        Raises:
            ValueError: no image of any of the classes was given.
        """
        there = self.positives > 0
        if not bool(there.any()):
            raise ValueError("no image of any of the classes was given: F1 is not defined.")
        right, predicted = self.right[:, there].double(), self.predicted[:, there].double()
        positives = self.positives[there].double()
        precision = (right + _TINY) / (predicted + _TINY)
        recall = (right + _TINY) / (positives + _TINY)
        f1 = 2 * precision * recall / (precision + recall + _TINY)
        best = f1.argmax(0, keepdim=True)
        values = {"f1": f1, "precision": precision, "recall": recall}
        # Taken here, where the ranks have met.
        share = positives / self.seen
        self._share, self._yes = share, 2 * share / (1 + share)
        return {name: 100 * value.gather(0, best).mean() for name, value in values.items()}

    def chance(self) -> dict[str, float]:
        """What "yes" to every image scores, after `compute`: a threshold of -1 does that."""
        return {
            "f1": 100 * float(self._yes.mean()),
            "precision": 100 * float(self._share.mean()),
            "recall": 100.0,
        }


def binary_statistics(images: Sequence[Any], cosines: Tensor, labels: Tensor) -> list[Statistics]:
    """What each image brings to F1, precision and recall; the threshold is chosen in each sample.

    Args:
        images: [N].
        cosines: [N, classes].
        labels: [N], -1 for an image of none of them.

    Returns:
        Nothing where the table of images, thresholds and classes would not fit memory.
    """
    count = cosines.shape[1]
    if len(cosines) * count * 2 * THRESHOLDS > _MOST:
        return []
    true = F.one_hot(labels + 1, count + 1)[:, 1:].numpy().astype(np.float64)
    thresholds = np.linspace(-1, 1, THRESHOLDS)
    predicted = (cosines.double().numpy()[:, None] >= thresholds[:, None]).astype(np.float64)
    size = THRESHOLDS * count
    rows = np.concatenate(
        [predicted.reshape(-1, size), (predicted * true[:, None]).reshape(-1, size), true], axis=1
    )

    def value(sums: Floats) -> dict[str, Floats]:
        shape = (*sums.shape[:-1], THRESHOLDS, count)
        positives = sums[..., 2 * size :]
        said, right = sums[..., :size].reshape(shape), sums[..., size : 2 * size].reshape(shape)
        precision = (right + _TINY) / (said + _TINY)
        recall = (right + _TINY) / (positives[..., None, :] + _TINY)
        f1 = 2 * precision * recall / (precision + recall + _TINY)
        best = f1.argmax(-2, keepdims=True)
        there = positives > 0
        out = {}
        for word, one in (("f1", f1), ("precision", precision), ("recall", recall)):
            chosen = np.take_along_axis(one, best, -2)[..., 0, :]
            out[word] = 100 * share(np.where(there, chosen, 0).sum(-1), there.sum(-1))
        return out

    return [Statistics(images, rows, value)]
