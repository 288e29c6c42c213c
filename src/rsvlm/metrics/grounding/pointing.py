"""Points of referring expressions against the true boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.geometry import turned
from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric
from rsvlm.metrics.grounding.overlap import flat
from rsvlm.metrics.intervals import Statistics, means
from rsvlm.metrics.names import PROTOCOLS


class Pointing(RecordMetric):
    """The share of expressions whose point lies in the true box, for models that point.

    Formula: point_acc, the share of expressions whose point (x, y) has x0 <= x <= x1 and
    y0 <= y <= y1; of a turned box the point is turned back about its centre. A box that is told
    counts with its centre. Range: 0 to 100 per cent. Higher is better (point_unparsable: lower).
    Protocols: inside. Used in: no table of remote sensing; the pointing game of Zhang et al. 2018,
    Center_ACC of lmms-eval's RefCOCO.

    An answer without a point (None), or with numbers that are not finite, is wrong, and
    point_unparsable counts it. True boxes without an area are errors, and so are another number of
    coordinates and a metric of no expressions.

    Args:
        protocol: see `names.PROTOCOLS["pointing"]`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, protocol: str = "inside", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = PROTOCOLS["pointing"]
        if protocol not in known:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol
        self._rows: list[tuple[Id, bool, bool]] = []

    def update(
        self, points: Sequence[Any], truths: Sequence[Any], ids: Sequence[Id] | None = None
    ) -> None:
        """Adds a batch.

        Args:
            points: b predictions: (x, y) or a box (x0, y0, x1, y1) in pixels, or None.
            truths: b true boxes, or (box, angle), the angle in degrees, counter-clockwise as one
                sees it, about the box's centre.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, another number of coordinates, a truth without area.
        """
        if len(points) != len(truths):
            raise UserError(f"{len(points)} points and {len(truths)} truths: give one of each.")
        rows = []
        names = self.name_items(len(points), ids, "expression")
        for id, told, truth in zip(names, points, truths, strict=True):
            box, angle = (truth[0], float(truth[1])) if len(truth) == 2 else (truth, 0.0)
            target = flat(box, f"expression {id!r}, true box", "rsvg")
            if target is None:
                raise UserError(f"expression {id!r}: the true box {truth!r} has no area.")
            rows.append([id, _point(told, f"expression {id!r}"), [*target, angle]])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Raises:
            UserError: no expressions, or one of them with two points.
        """
        rows = self.items()
        self._rows = [(id, _inside(told, truth), told is None) for id, told, truth in rows]
        self.note([row[2] for row in rows], empty=sum(row[2] for row in self._rows))
        hits = torch.tensor([row[1:] for row in self._rows], dtype=torch.float64).mean(0)
        return {"point_acc": 100 * hits[0], "point_unparsable": 100 * hits[1]}

    def statistics(self) -> Statistics:
        """Hits of each expression, of the last `compute`."""
        ids, hits, unread = zip(*self._rows, strict=True)
        images = [image_of(id) for id in ids]
        return means(images, {"point_acc": hits, "point_unparsable": unread})

    @property
    def hits(self) -> dict[Id, bool]:
        """Id -> whether its point lies in the box, of the last `compute`."""
        return {id: hit for id, hit, _ in self._rows}


def _point(told: Any, what: str) -> list[float] | None:
    """(x, y) of a point or of a box's centre; None where there is none."""
    if told is None:
        return None
    numbers = np.array(told, dtype=np.float64).reshape(-1)
    if numbers.size not in (2, 4):
        raise UserError(f"{what}: {told!r} is no point; give (x, y), a box or None.")
    if not np.isfinite(numbers).all():
        return None
    both: list[float] = numbers.reshape(-1, 2).mean(0).tolist()
    return both


def _inside(told: list[float] | None, truth: Sequence[float]) -> bool:
    if told is None:
        return False
    x0, y0, x1, y1, angle = truth
    if angle:  # the point turned back, about the centre of the box
        middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
        corners = turned((x0, y0, x1, y1), angle)
        across, down = corners[1] - corners[0], corners[3] - corners[0]
        away = np.array(told) - middle
        sides = [(away @ side) / (side @ side) for side in (across, down)]
        return bool(max(abs(s) for s in sides) <= 0.5)
    return x0 <= told[0] <= x1 and y0 <= told[1] <= y1
