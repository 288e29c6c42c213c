"""RSIEval: detailed captions by COCO's metrics, open questions by a judge of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.captions import QUICK
from rsvlm.evaluation.question_answering import AnswerEvaluation, score_marks, with_empty
from rsvlm.evaluation.vqa import type_of
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.judge_scores import AnswerJudge, Equal, Judged


class RSIEvalEvaluation(AnswerEvaluation):
    """Captions and judged answers; each split of RSIEval has one of them.

    RSGPT's answers were graded by people, and no program is published. Other data sets of open
    questions can be judged alike.

    Args:
        judge: (question, answer, true answer) -> 0 to 1: `metrics.judged.Scores` (a file of
            verdicts), a callable of the user's by its `_target_`; None takes equality.
        metrics: words of captions; None takes all that can run here.
        val_metrics: words of captions for validation.
        kinds: task words that are asked; None asks all.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    def __init__(
        self,
        *,
        judge: AnswerJudge | None = None,
        metrics: Sequence[str] | None = None,
        val_metrics: Sequence[str] | None = QUICK,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(kinds=kinds, options=options, **shared)
        self.judge: AnswerJudge = judge or Equal()
        self.protocol = getattr(self.judge, "protocol", "callable")
        self.metrics, self.val_metrics = metrics, val_metrics

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """References of captions; a judge's verdict on each other answer."""
        del model
        rows: list[dict[str, Any]] = []
        for row, answer in enumerate(answers):
            kind, truth = batch.kinds[row], batch.answers[row]
            if kind == "caption":
                rows.append({"references": batch.references[row], "more": {"type": kind}})
                continue
            verdict = 0.0
            if answer.text.strip():
                verdict = float(self.judge(batch.instructions[row], answer.text, truth))
            rows.append({"values": {"verdict": verdict}, "more": {"type": type_of(kind)}})
        return rows

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Captions by COCO's metrics, and the means of verdicts, of what the split holds."""
        del facts
        described = [one for one in records if "verdict" not in one.values]
        judged = [one for one in records if "verdict" in one.values]
        found = Measurement({}, {})
        if judged:
            metric = Judged(**ALONE)
            metric.update(
                [one.values["verdict"] for one in judged],
                [one.more.get("type") for one in judged],
                [one.id for one in judged],
            )
            found.values, found.facts = measured_by(metric)
            found.statistics.append(metric.statistics())
            found.marks = {id: (v, f"verdict {v:.2f}") for id, v in metric.verdicts.items()}
            with_empty(found, judged, "judged_empty")
        if described:
            words = self.metrics if self.stage == "test" else self.val_metrics
            captions = Captions("coco", metrics=words, **ALONE)
            captions.update(
                [one.prediction for one in described],
                [one.references for one in described],
                [one.id for one in described],
            )
            values, about = measured_by(captions)
            for word in values:
                about[word]["protocol"] = "coco"
            found.values |= values
            found.facts |= about
            found.statistics += captions.statistics()
            found.marks |= score_marks(captions)
            with_empty(found, described, "caption_empty", protocol="coco")
        return found

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """As of other answers; the two splits have sheets of their own."""
        self.sheet = "questions" if any("verdict" in one.values for one in records) else "captions"
        super().draw(records, dataset, folder)
