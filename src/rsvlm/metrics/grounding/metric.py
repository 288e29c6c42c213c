"""Boxes of referring expressions against the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric
from rsvlm.metrics.grounding.overlap import areas, flat
from rsvlm.metrics.intervals import Floats, Statistics, share
from rsvlm.metrics.names import PROTOCOLS

THRESHOLDS = (50, 60, 70, 80, 90)


class Grounding(RecordMetric):
    """Accuracy at IoU 0.5 to 0.9, mean IoU and cumulative IoU of one box per expression.

    Formula: IoU = I / U of the two boxes; acc50 to acc90, the share of expressions with IoU >= 0.5
    to 0.9 (minigpt: > and sides one pixel longer, x1 - x0 + 1); box_miou, the mean of the IoUs;
    box_ciou, the sum of I by the sum of U; of turned boxes I and U are those of the polygons.
    Range: 0 to 100 per cent. Higher is better (box_unparsable: lower). Protocols: rsvg, minigpt,
    oriented. Used in: Pr@0.5 to 0.9, meanIoU and cumIoU of DIOR-RSVG's tables and acc@0.5 of
    GeoChat's (rsvg, oriented); SkyEyeGPT's RSVG and DIOR-RSVG table (minigpt).

    An answer without a box (None), with numbers that are not finite or with a box without an area
    is wrong: IoU 0, its U the true area; box_unparsable counts it. True boxes of that kind are
    errors, and so are another number of coordinates and a metric of no expressions.

    Args:
        protocol: see `names.PROTOCOLS["grounding"]`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, protocol: str = "rsvg", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = PROTOCOLS["grounding"]
        if protocol not in known:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol
        self._ious: dict[Id, float] | None = None
        self._rows: list[tuple[Id, float, float, bool]] = []

    def update(
        self, boxes: Sequence[Any], truths: Sequence[Any], ids: Sequence[Id] | None = None
    ) -> None:
        """Adds a batch.

        Args:
            boxes: b predictions: (x0, y0, x1, y1) in pixels, or None. Under `oriented` also
                (box, angle), the angle in degrees, counter-clockwise as one sees it, about the
                box's centre; or four corners [(x, y), ...].
            truths: b true boxes, likewise.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, another number of coordinates, a truth without area.
        """
        if len(boxes) != len(truths):
            raise UserError(f"{len(boxes)} boxes and {len(truths)} truths: give one of each.")
        rows = []
        for id, box, truth in zip(
            self.name_items(len(boxes), ids, "expression"), boxes, truths, strict=True
        ):
            target = flat(truth, f"expression {id!r}, true box", self.protocol)
            if target is None:
                raise UserError(f"expression {id!r}: the true box {truth!r} has no area.")
            rows.append([id, flat(box, f"expression {id!r}", self.protocol), target])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Afterwards `ious` is there.

        Raises:
            UserError: no expressions, or one of them with two boxes.
        """
        rows = self.items()
        both = torch.tensor([areas(box, truth, self.protocol) for _, box, truth in rows])
        shared, union = both.double().unbind(1)
        iou = shared / union
        unread = sum(box is None for _, box, _ in rows)
        self._rows = [
            (row[0], float(i), float(u), row[1] is None)
            for row, i, u in zip(rows, shared, union, strict=True)
        ]
        self._ious = {row[0]: float(value) for row, value in zip(rows, iou, strict=True)}
        self.note([row[2] for row in rows], empty=unread)
        found = {}
        for percent in THRESHOLDS:
            level = percent / 100
            hit = iou > level if self.protocol == "minigpt" else iou >= level
            found[f"acc{percent}"] = hit.double().mean()
        found["box_miou"] = iou.mean()
        found["box_ciou"] = shared.sum() / union.sum()
        found["box_unparsable"] = torch.tensor(unread / len(rows), dtype=torch.float64)
        return {word: 100 * value for word, value in found.items()}

    def statistics(self) -> Statistics:
        """IoUs and areas of each expression, of the last `compute`."""
        ids, shared, union, unread = zip(*self._rows, strict=True)
        both = np.array([shared, union], np.float64).T
        iou = both[:, :1] / both[:, 1:]
        levels = np.array(THRESHOLDS) / 100
        hits = iou > levels if self.protocol == "minigpt" else iou >= levels
        rows = np.concatenate([hits, iou, both, np.array([unread]).T, np.ones_like(iou)], 1)
        words = [*(f"acc{percent}" for percent in THRESHOLDS), "box_miou"]

        def value(sums: Floats) -> dict[str, Floats]:
            found = {word: 100 * share(sums[..., n], sums[..., -1]) for n, word in enumerate(words)}
            found["box_ciou"] = 100 * share(sums[..., -4], sums[..., -3])
            return found | {"box_unparsable": 100 * share(sums[..., -2], sums[..., -1])}

        return Statistics([image_of(id) for id in ids], rows, value)

    def accurate(self, iou: float, percent: int = 50) -> bool:
        """Whether an IoU counts as right at a threshold under the protocol."""
        return iou > percent / 100 if self.protocol == "minigpt" else iou >= percent / 100

    @property
    def ious(self) -> dict[Id, float]:
        """Id -> IoU (0 to 1) of the last `compute`.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._ious is None:
            raise RuntimeError("ious are there after compute; call that first.")
        return dict(self._ious)
