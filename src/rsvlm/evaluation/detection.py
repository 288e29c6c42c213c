"""Several boxes for one question ([detection])."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer
from rsvlm.errors import UserError, near
from rsvlm.evaluation.grounding import needs_boxes, predicted_boxes, shape, true_boxes
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
    """

    kinds = ("detection",)
    makes: Sequence[str] = ("detection",)
    sheet = "boxes"

    def __init__(
        self,
        *,
        protocol: str = "one_to_one",
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kinds=kinds, options=options)
        known = PROTOCOLS["detection"]
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol
        if kinds is not None and "detection" not in kinds:
            self.makes = ()

    def make(self, model: Any, dataset: Any) -> Detection:
        """An empty metric."""
        del dataset
        needs_boxes(model)
        return Detection(self.protocol)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric."""
        turn = self.protocol == "one_to_one_oriented"
        true, told = [], []
        for row, answer in enumerate(answers):
            true.append([shape(p, oriented=turn) for p in true_boxes(model, batch, row)])
            told.append([shape(p, oriented=turn) for p in predicted_boxes(answer)])
        self.metric.update(told, true, ids)
        return [{"true": t, "told": p} for t, p in zip(true, told, strict=True)]

    def marks(self) -> dict[Id, tuple[float, str]]:
        """F1 of the single question."""
        return {
            id: (
                2 * hits / (told + true),
                f"{hits} of {true} found" + (f", {told - hits} wrong" if told > hits else ""),
            )
            for id, (hits, told, true) in self.metric.found.items()
        }
