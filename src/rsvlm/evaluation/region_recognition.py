"""What stands in a box ([identify]): its name, or a caption of it; and detailed descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.captions import QUICK
from rsvlm.evaluation.grounding import Placed, truth_of
from rsvlm.evaluation.question_answering import AnswerEvaluation, score_marks, with_empty
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.names import PROTOCOLS
from rsvlm.metrics.region_recognition import Naming


def asked_boxes(model: Any, batch: Any, row: int) -> list[Placed]:
    """The boxes that a question speaks of, for a picture of it; none where it has none."""
    found = [(i.box, i.angle) for i in batch.targets[row] if i.box is not None and not i.image_id]
    if not found and model.codec is not None and batch.geometry[row]:
        read = model.codec.parse(batch.instructions[row], batch.geometry[row][0])
        found = [(place.box, place.angle) for place in read.boxes]
    return found


class NamingEvaluation(AnswerEvaluation):
    """The name of the object in a box; see `metrics/region_recognition.py`.

    A data set of objects without questions is asked for each of them.

    Args:
        protocol: `same` as the true answer, or the class `within` the answer.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    kinds = ("identify",)
    makes = ("identify",)
    sheet = "names"

    def __init__(
        self,
        *,
        protocol: str = "same",
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(kinds=kinds, options=options, **shared)
        known = PROTOCOLS["naming"]
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """The class of each object, and its box."""
        classes = [targets[0].category if targets else None for targets in batch.targets]
        return [
            truth_of(asked_boxes(model, batch, row)) | {"more": {"class": name}}
            for row, name in zip(range(len(answers)), classes, strict=True)
        ]

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Objects that are named; chance is the commonest name."""
        del facts
        metric = Naming(self.protocol, **ALONE)
        metric.update(
            [one.prediction for one in records],
            [one.answer for one in records],
            [one.more.get("class") for one in records],
            [one.id for one in records],
        )
        values, about = measured_by(metric)
        for word, value in metric.chance().items():
            about[word]["chance"] = value
        marks = {id: (float(hit), "right" if hit else "wrong") for id, hit in metric.hits.items()}
        found = Measurement(values, about, [metric.statistics()], marks)
        return with_empty(found, records, "named_empty")


class TextEvaluation(AnswerEvaluation):
    """Captions of regions, or detailed descriptions: COCO's metrics, each question an item.

    Args:
        of: `regions` (what stands in a box) or `details` (descriptions of several sentences).
        metrics: words for the test; None takes all that can run here.
        val_metrics: words for validation.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    def __init__(
        self,
        *,
        of: str,
        metrics: Sequence[str] | None = None,
        val_metrics: Sequence[str] | None = QUICK,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        words = {"regions": "identify", "details": "description"}
        if of not in words:
            raise UserError(f"evaluation.of={of!r} is unknown. {near(of, words)}")
        super().__init__(kinds=kinds or (words[of],), options=options, **shared)
        self.protocol, self.sheet = f"coco_{of}", of
        self.makes = ("identify",) if of == "regions" else ()
        self.metrics, self.val_metrics = metrics, val_metrics

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """What people wrote, and the boxes that are asked about."""
        rows: list[dict[str, Any]] = [{"references": list(said)} for said in batch.references]
        if self.makes:
            for row in range(len(answers)):
                rows[row] |= truth_of(asked_boxes(model, batch, row))
        return rows

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """COCO's metrics, each question an item."""
        del facts
        words = self.metrics if self.stage == "test" else self.val_metrics
        metric = Captions("coco", metrics=words, **ALONE)
        metric.update(
            [one.prediction for one in records],
            [one.references for one in records],
            [one.id for one in records],
        )
        values, about = measured_by(metric)
        found = Measurement(values, about, metric.statistics(), score_marks(metric))
        return with_empty(found, records, "caption_empty")
