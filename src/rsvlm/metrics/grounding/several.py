"""Several boxes for one question against all the true ones."""

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
from rsvlm.metrics.segmentation.overlap import assign

#: Protocol -> the rule of `grounding` by which two boxes overlap.
_RULES = {"one_to_one": "rsvg", "one_to_one_oriented": "oriented"}


class Detection(RecordMetric):
    """Precision, recall and F1 of boxes without scores, at IoU 0.5, and their mean IoU.

    Formula: the boxes of an answer and the true ones are paired one to one so that most pairs
    have an IoU of 0.5 or more; det_precision, the share of all boxes told that are in such a pair;
    det_recall, the share of all true boxes; det_f1, their harmonic mean; det_miou, the mean over
    questions of the pairs' IoUs (paired for the largest sum), those without a partner counting 0,
    by the larger number of boxes (PixelLM's rule for masks); det_count, the share of answers with
    as many boxes as are true. Range: 0 to 100 per cent. Higher is better (det_unparsable: lower).
    Protocols: one_to_one, one_to_one_oriented. Used in: no published table; `[detection]` of
    MiniGPT-v2 and SkyEyeGPT is shown there by pictures. No average precision: a text gives its
    boxes no scores to order them by.

    An answer without a box finds nothing, and det_unparsable counts it. True boxes without an area
    are errors, and so are questions without a true box and a metric of no questions.

    Args:
        protocol: see `names.PROTOCOLS["detection"]`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, protocol: str = "one_to_one", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = PROTOCOLS["detection"]
        if protocol not in known:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, known)}")
        self.protocol, self._rule = protocol, _RULES[protocol]
        #: Id -> (boxes found, predicted, true) of the last `compute`.
        self.found: dict[Id, tuple[int, int, int]] = {}
        #: Id -> mean IoU of its pairs, those left over counting 0.
        self.ious: dict[Id, float] = {}
        #: Id -> places of the true boxes that are found.
        self.hits: dict[Id, set[int]] = {}

    def update(
        self,
        boxes: Sequence[Sequence[Any]],
        truths: Sequence[Sequence[Any]],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            boxes: b lists of predictions, each box as `Grounding.update` takes it; those without an
                area are no boxes.
            truths: b lists of true boxes, at least one in each.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, a question without a true box, or one without area.
        """
        if len(boxes) != len(truths):
            raise UserError(f"{len(boxes)} answers and {len(truths)} truths: give one of each.")
        rows = []
        for id, predicted, true in zip(
            self.name_items(len(boxes), ids, "question"), boxes, truths, strict=True
        ):
            what = f"question {id!r}"
            targets = [flat(box, f"{what}, true box", self._rule) for box in true]
            if not targets or None in targets:
                raise UserError(f"{what}: of its true boxes {list(true)!r} each needs an area.")
            read = [flat(box, what, self._rule) for box in predicted]
            rows.append([id, [box for box in read if box is not None], targets])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Raises:
            UserError: no questions, or one of them with two answers.
        """
        rows = self.items()
        mean = same = unread = 0.0
        self.found, self.ious, self.hits = {}, {}, {}
        for id, predicted, true in rows:
            ious = [[self._iou(box, target) for target in true] for box in predicted]
            # A pair above the threshold outweighs whatever else its boxes could share.
            gains = [[(v >= 0.5) * 2.0 + v for v in row] for row in ious]
            self.hits[id] = {j for i, j in assign(gains) if ious[i][j] >= 0.5}
            hits = len(self.hits[id])
            self.ious[id] = sum(ious[i][j] for i, j in assign(ious)) / max(
                len(predicted), len(true)
            )
            mean += self.ious[id]
            same += len(predicted) == len(true)
            unread += not predicted
            self.found[id] = (hits, len(predicted), len(true))
        self.note([row[2] for row in rows], empty=int(unread))
        hits, predicted, true = (sum(column) for column in zip(*self.found.values(), strict=True))
        values = {
            "det_precision": hits / predicted if predicted else 0.0,
            "det_recall": hits / true,
            "det_f1": 2 * hits / (predicted + true),
            "det_miou": mean / len(rows),
            "det_count": same / len(rows),
            "det_unparsable": unread / len(rows),
        }
        return {w: torch.tensor(100 * v, dtype=torch.float64) for w, v in values.items()}

    def statistics(self) -> Statistics:
        """Boxes found, predicted and true of each question, of the last `compute`."""
        rows = [
            [hits, predicted, true, self.ious[id], predicted == true, not predicted, 1]
            for id, (hits, predicted, true) in self.found.items()
        ]

        def value(sums: Floats) -> dict[str, Floats]:
            hits, predicted, true, iou, same, unread, count = np.moveaxis(sums, -1, 0)
            found = {
                "det_precision": np.where(predicted > 0, share(hits, predicted), 0.0),
                "det_recall": share(hits, true),
                "det_f1": share(2 * hits, predicted + true),
                "det_miou": share(iou, count),
                "det_count": share(same, count),
                "det_unparsable": share(unread, count),
            }
            return {word: 100 * one for word, one in found.items()}

        return Statistics([image_of(id) for id in self.found], np.array(rows, np.float64), value)

    def _iou(self, box: list[float], truth: list[float]) -> float:
        shared, union = areas(box, truth, self._rule)
        return shared / union
