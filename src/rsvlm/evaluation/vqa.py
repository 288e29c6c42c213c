"""Short answers to questions about images, scored under a named protocol."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer, SampleError
from rsvlm.evaluation.question_answering import OTHER_TASKS, AllBut, AnswerEvaluation
from rsvlm.metrics.vqa import TYPES, VQA
from rsvlm.metrics.vqa.normalise import right


class VQAEvaluation(AnswerEvaluation):
    """Short answers to questions, by type of question; see `metrics/vqa`.

    Args:
        protocol: `exact`, `evalai`, `published`, `lhrs` or `vhm`.
        data: whose types of question (`metrics.vqa.TYPES`); None takes the data set's own where it
            is one of them, and otherwise the types as they come.
        kinds: types that are asked; None asks all that is a question (not `OTHER_TASKS`).
        options: of `model.generate`.
    """

    kinds = AllBut(OTHER_TASKS)

    def __init__(
        self,
        *,
        protocol: str = "exact",
        data: str | None = None,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kinds=kinds, options=options)
        VQA(data or "rsvqa_lr", protocol)  # refuses unknown words before a model is built
        self.protocol, self.data = protocol, data

    def make(self, model: Any, dataset: Any) -> VQA:
        """An empty metric."""
        del model
        known = self.data or (dataset.name if dataset.name in TYPES else "any")
        return VQA(known, self.protocol)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric.

        Raises:
            SampleError: a question whose true answer is not known.
        """
        del model
        for sample, truth in zip(batch.ids, batch.answers, strict=True):
            if not truth.strip():
                raise SampleError(
                    f"{sample}: its true answer is not given, so nothing is measured."
                )
        types = [type_of(kind) for kind in batch.kinds]
        self.metric.update([answer.text for answer in answers], batch.answers, types, ids)
        return [{"type": kind} for kind in types]

    def facts(self, word: str) -> dict[str, Any]:
        """Count, types and unit of a metric word; chance is the commonest answer of each type."""
        return self.metric.facts(word) | {"chance": self.metric.chance()[word]}

    def marks(self) -> dict[Id, tuple[float, str]]:
        """Right or wrong."""
        out: dict[Id, tuple[float, str]] = {}
        for row in self.told.rows:
            hit = right(row["prediction"], row["answer"], self.metric.form)
            out[row["id"]] = (float(hit), "right" if hit else "wrong")
        return out


def type_of(kind: str | None) -> str | None:
    """A question's type as a word of metric names; None where only the task is known."""
    word = re.sub(r"\W+", "_", (kind or "").strip().lower())
    return word if word not in ("", "vqa") else None
