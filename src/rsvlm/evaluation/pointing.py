"""Points for expressions, of models that point and of those that give boxes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.grounding import GroundingEvaluation, area_of, by_size
from rsvlm.metrics.grounding import Pointing


class PointingEvaluation(GroundingEvaluation):
    """One point for each expression; see `metrics/grounding/pointing.py`.

    The first point of an answer counts, of a model that gives boxes the centre of the first one.
    Expressions that mean several objects are left out and counted.

    Args:
        protocol: `inside`.
        **shared: see `GroundingEvaluation`.
    """

    task = "pointing"
    points = True

    def __init__(self, *, protocol: str = "inside", **shared: Any) -> None:
        super().__init__(protocol=protocol, **shared)

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """The first point of each answer; chance is the middle of each image."""
        del facts
        metric, centre = (Pointing(self.protocol, **ALONE) for _ in range(2))
        used = [one for one in records if len(one.true_boxes) == 1]
        true = []
        for one in used:
            box, angle = one.true_boxes[0], (one.true_angles or [None])[0]
            true.append(tuple(box) if angle is None else (tuple(box), angle))
        ids = [one.id for one in used]
        metric.update([one.boxes[0] if one.boxes else None for one in used], true, ids)
        centre.update([(one.more["width"] / 2, one.more["height"] / 2) for one in used], true, ids)
        values, about = measured_by(metric)
        chance = centre.compute()
        for word in values:
            about[word]["left_out"] = len(records) - len(used)
        about["point_acc"]["chance"] = float(chance["point_acc"])
        marks = {
            id: (float(hit), "inside" if hit else "outside") for id, hit in metric.hits.items()
        }
        found = Measurement(values, about, [metric.statistics()], marks)
        areas = [area_of(one.true_boxes[0]) for one in used]
        by_size(found, ids, areas, {"point_acc": [float(metric.hits[id]) for id in ids]})
        return found
