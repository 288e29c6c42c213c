"""What stands in a box ([identify]): its name, or a caption of it; and detailed descriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError, near
from rsvlm.evaluation.captions import QUICK
from rsvlm.evaluation.grounding import shape
from rsvlm.evaluation.question_answering import AnswerEvaluation, score_marks
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.names import PROTOCOLS
from rsvlm.metrics.region_recognition import Naming


def asked_boxes(model: Any, batch: Any, row: int) -> list[Any]:
    """The boxes that a question speaks of, for a picture of it; none where it has none."""
    found = [(i.box, i.angle) for i in batch.targets[row] if i.box is not None and not i.image_id]
    if not found and model.codec is not None and batch.geometry[row]:
        read = model.codec.parse(batch.instructions[row], batch.geometry[row][0])
        found = [(place.box, place.angle) for place in read.boxes]
    return [shape(placed, oriented=True) for placed in found]


class NamingEvaluation(AnswerEvaluation):
    """The name of the object in a box; see `metrics/region_recognition.py`.

    A data set of objects without questions is asked for each of them.

    Args:
        protocol: `same` as the true answer, or the class `within` the answer.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
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
    ) -> None:
        super().__init__(kinds=kinds, options=options)
        known = PROTOCOLS["naming"]
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol

    def make(self, model: Any, dataset: Any) -> Naming:
        """An empty metric."""
        del model, dataset
        return Naming(self.protocol)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric."""
        classes = [targets[0].category if targets else None for targets in batch.targets]
        self.metric.update([answer.text for answer in answers], batch.answers, classes, ids)
        return [
            {"class": name, "true": asked_boxes(model, batch, row)}
            for row, name in enumerate(classes)
        ]

    def facts(self, word: str) -> dict[str, Any]:
        """Count and unit of a metric word; chance is the commonest name."""
        chance = self.metric.chance()
        return self.metric.facts(word) | ({"chance": chance[word]} if word in chance else {})

    def marks(self) -> dict[Id, tuple[float, str]]:
        """Right or wrong."""
        return {
            id: (float(hit), "right" if hit else "wrong") for id, hit in self.metric.hits.items()
        }


class TextEvaluation(AnswerEvaluation):
    """Captions of regions, or detailed descriptions: COCO's metrics, each question an item.

    Args:
        of: `regions` (what stands in a box) or `details` (descriptions of several sentences).
        metrics: words for the test; None takes all that can run here.
        val_metrics: words for validation.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
    """

    def __init__(
        self,
        *,
        of: str,
        metrics: Sequence[str] | None = None,
        val_metrics: Sequence[str] | None = QUICK,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        words = {"regions": "identify", "details": "description"}
        if of not in words:
            raise UserError(f"evaluation.of={of!r} is unknown. {near(of, words)}")
        super().__init__(kinds=kinds or (words[of],), options=options)
        self.protocol, self.sheet = f"coco_{of}", of
        self.makes = ("identify",) if of == "regions" else ()
        self.metrics, self.val_metrics = metrics, val_metrics

    def make(self, model: Any, dataset: Any) -> Captions:
        """An empty metric."""
        del model, dataset
        return Captions("coco", metrics=self.metrics if self.stage == "test" else self.val_metrics)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric."""
        self.metric.update([answer.text for answer in answers], batch.references, ids)
        extra: list[dict[str, Any]] = [{"references": said} for said in batch.references]
        if self.makes:
            for row, more in enumerate(extra):
                more["true"] = asked_boxes(model, batch, row)
        return extra

    def marks(self) -> dict[Id, tuple[float, str]]:
        """CIDEr-D of the single answer, or the first score that there is."""
        return score_marks(self.metric)
