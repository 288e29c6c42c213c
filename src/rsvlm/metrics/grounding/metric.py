"""Boxes of referring expressions against the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.geometry import turned
from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric
from rsvlm.metrics.grounding.polygons import shared_area, signed_area, simple
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
            target = self._flat(truth, f"expression {id!r}, true box")
            if target is None:
                raise UserError(f"expression {id!r}: the true box {truth!r} has no area.")
            rows.append([id, self._flat(box, f"expression {id!r}"), target])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Afterwards `ious` is there.

        Raises:
            UserError: no expressions, or one of them with two boxes.
        """
        rows = self.items()
        areas = torch.tensor([self._areas(box, truth) for _, box, truth in rows])
        shared, union = areas.double().unbind(1)
        iou = shared / union
        unread = sum(box is None for _, box, _ in rows)
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

    @property
    def ious(self) -> dict[Id, float]:
        """Id -> IoU (0 to 1) of the last `compute`.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._ious is None:
            raise RuntimeError("ious are there after compute; call that first.")
        return dict(self._ious)

    def _flat(self, box: Any, what: str) -> list[float] | None:
        """Four numbers, or eight of a turned box; None where there is no area."""
        if box is None:
            return None
        turn = 0.0
        values = box
        if self.protocol == "oriented" and len(box) == 2 and np.shape(box[0]) == (4,):
            values, turn = box[0], float(box[1])
        try:
            numbers = np.array(values, dtype=np.float64)
        except (TypeError, ValueError):
            numbers = np.empty(0)
        corners = self.protocol == "oriented" and numbers.size == 8
        if numbers.size != 4 and not corners:
            also = ", (box, angle) or four corners" if self.protocol == "oriented" else ""
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
        least = -1 if self.protocol == "minigpt" else 0
        if x1 - x0 <= least or y1 - y0 <= least:
            return None
        if self.protocol != "oriented":
            return [x0, y0, x1, y1]
        return turned((x0, y0, x1, y1), turn).reshape(-1).tolist()

    def _areas(self, box: list[float] | None, truth: list[float]) -> tuple[float, float]:
        """I and U."""
        if self.protocol == "oriented":
            true = np.reshape(truth, (4, 2))
            if box is None:
                return 0.0, abs(signed_area(true))
            told = np.reshape(box, (4, 2))
            shared = shared_area(told, true)
            return shared, abs(signed_area(told)) + abs(signed_area(true)) - shared
        more = 1.0 if self.protocol == "minigpt" else 0.0

        def area(x0: float, y0: float, x1: float, y1: float) -> float:
            return max(x1 - x0 + more, 0.0) * max(y1 - y0 + more, 0.0)

        if box is None:
            return 0.0, area(*truth)
        common = (*map(max, box[:2], truth[:2]), *map(min, box[2:], truth[2:]))
        shared = area(*common)
        return shared, area(*box) + area(*truth) - shared
