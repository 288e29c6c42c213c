"""Short answers to questions about images, scored under a named protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer, SampleError
from rsvlm.errors import UserError
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.question_answering import OTHER_TASKS, AllBut, AnswerEvaluation, with_empty
from rsvlm.metrics.empty import unreadable
from rsvlm.metrics.vqa import TYPES, VQA


class VQAEvaluation(AnswerEvaluation):
    """Short answers to questions, by type of question; see `metrics/vqa`.

    Args:
        protocol: `exact`, `evalai`, `published`, `lhrs` or `vhm`.
        data: whose types of question (`metrics.vqa.TYPES`); None takes the data set's own where it
            is one of them, and otherwise the types as they come.
        kinds: types that are asked; None asks all that is a question (not `OTHER_TASKS`).
        asks: `each` question of a dialogue of several, with the questions and true answers before
            it; each `alone`; or the `last` one. Each counts as one question.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    kinds = AllBut(OTHER_TASKS)

    def __init__(
        self,
        *,
        protocol: str = "exact",
        data: str | None = None,
        kinds: Sequence[str] | None = None,
        asks: Literal["each", "alone", "last"] = "each",
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(kinds=kinds, options=options, **shared)
        if asks not in ("each", "alone", "last"):
            raise UserError(f"evaluation.asks={asks!r}: give each, alone or last.")
        self.asks = asks
        VQA(data or "rsvqa_lr", protocol)  # refuses unknown words before a model is built
        self.protocol, self.data = protocol, data

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """The type of each question.

        Raises:
            SampleError: a question whose true answer is not known.
        """
        del model, answers
        for sample, truth in zip(batch.ids, batch.answers, strict=True):
            if not truth.strip():
                raise SampleError(
                    f"{sample}: its true answer is not given, so nothing is measured."
                )
        return [{"more": {"type": type_of(kind)}} for kind in batch.kinds]

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Right answers by type; chance is the commonest answer of each type."""
        known = self.data or (facts.name if facts.name in TYPES else "any")
        metric = VQA(known, self.protocol, **ALONE)
        metric.update(
            [one.prediction for one in records],
            [one.answer for one in records],
            [one.more.get("type") for one in records],
            [one.id for one in records],
        )
        values, about = measured_by(metric)
        for word in values:
            about[word]["chance"] = metric.chance()[word]
        marks = {
            id: (float(hit), "right" if hit else "wrong") for id, (_, hit) in metric.hits.items()
        }
        found = Measurement(values, about, [metric.statistics()], marks)
        counted = [one for one in records if one.id in metric.hits]
        unread, statistics = unreadable(
            "vqa_unparsable", [(one.id, one.prediction, one.answer or "") for one in counted]
        )
        found.values["vqa_unparsable"] = unread
        found.facts["vqa_unparsable"] = {"count": len(counted), "unit": "%"}
        found.statistics.append(statistics)
        return with_empty(found, counted, "vqa_empty")


def type_of(kind: str | None) -> str | None:
    """A question's type as a word of metric names; None where only the task is known."""
    word = re.sub(r"\W+", "_", (kind or "").strip().lower())
    return word if word not in ("", "vqa") else None
