"""Several boxes for one question ([detection])."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.grounding import (
    area_of,
    by_size,
    needs_boxes,
    shapes,
    true_boxes,
    truth_of,
)
from rsvlm.evaluation.question_answering import AnswerEvaluation
from rsvlm.metrics.grounding import Detection
from rsvlm.metrics.names import PROTOCOLS


class DetectionEvaluation(AnswerEvaluation):
    """All boxes of an answer against all true ones; see `metrics/grounding/several.py`.

    A data set of objects without questions is asked for each class that an image shows.

    Args:
        protocol: `one_to_one`, or `one_to_one_oriented` for turned boxes.
        kinds: task words of the questions that are asked; `[refer]` asks for expressions.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    needs = "boxes"
    kinds = ("detection",)
    makes: Sequence[str] = ("detection",)
    sheet = "boxes"

    def __init__(
        self,
        *,
        protocol: str = "one_to_one",
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(kinds=kinds, options=options, **shared)
        known = PROTOCOLS["detection"]
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol
        if kinds is not None and "detection" not in kinds:
            self.makes = ()

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Refuses a model without boxes."""
        super().prepare(model, dataset, device)
        needs_boxes(model)

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """The true boxes."""
        return [truth_of(true_boxes(model, batch, row)) for row in range(len(answers))]

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """All predicted boxes against all true ones; recall also by size of the true ones."""
        del facts
        turn = self.protocol == "one_to_one_oriented"
        metric = Detection(self.protocol, **ALONE)
        metric.update(
            [shapes(one.boxes, one.angles, oriented=turn) for one in records],
            [shapes(one.true_boxes, one.true_angles, oriented=turn) for one in records],
            [one.id for one in records],
        )
        values, about = measured_by(metric)
        marks = {
            id: (
                2 * hits / (predicted + true),
                f"{hits} of {true} found"
                + (f", {predicted - hits} wrong" if predicted > hits else ""),
            )
            for id, (hits, predicted, true) in metric.found.items()
        }
        found = Measurement(values, about, [metric.statistics()], marks)
        ids = [one.id for one in records for _ in one.true_boxes]
        areas = [area_of(box) for one in records for box in one.true_boxes]
        hits = [
            float(n in metric.hits[one.id]) for one in records for n in range(len(one.true_boxes))
        ]
        by_size(found, ids, areas, {"det_recall": hits})
        return found
