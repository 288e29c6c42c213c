"""RSIEval: detailed captions by COCO's metrics, open questions by a judge, of other sets too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord, image_of
from rsvlm.data.sample import Answer
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.captions import QUICK
from rsvlm.evaluation.language_judge import LanguageJudge
from rsvlm.evaluation.question_answering import (
    OTHER_TASKS,
    AllBut,
    AnswerEvaluation,
    score_marks,
    with_empty,
)
from rsvlm.evaluation.vqa import type_of
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.intervals import means
from rsvlm.metrics.judge_scores import AnswerJudge, Equal, Judged


class RSIEvalEvaluation(AnswerEvaluation):
    """Captions and judged answers; each split of RSIEval has one of them.

    RSGPT's answers were graded by people, and no program is published. Other data sets of open
    questions can be judged alike.

    Args:
        judge: (question, answer, true answer) -> 0 to 1: `metrics.judge_scores.Scores` (a file of
            verdicts), `evaluation.language_judge.LanguageJudge`, a callable of the user's by its
            `_target_`; None takes equality. An answer on which a language model gives no verdict
            that can be read is worth 0, and counted.
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
        asked: dict[int, tuple[str, str, str]] = {}
        for row, answer in enumerate(answers):
            kind, truth = batch.kinds[row], batch.answers[row]
            if kind == "caption":
                rows.append({"references": batch.references[row], "more": {"type": kind}})
                continue
            if answer.text.strip():
                asked[row] = (batch.instructions[row], answer.text, truth)
            rows.append({"values": {"verdict": 0.0}, "more": {"type": type_of(kind)}})
        for row, verdict in zip(asked, self._verdicts(list(asked.values())), strict=True):
            rows[row]["values"]["verdict"] = 0.0 if verdict is None else float(verdict)
            if isinstance(self.judge, LanguageJudge):
                rows[row]["values"]["unreadable"] = float(verdict is None)
        return rows

    def _verdicts(self, asked: list[tuple[str, str, str]]) -> list[float | None]:
        if isinstance(self.judge, LanguageJudge):
            return self.judge.all(asked)
        return [self.judge(*one) for one in asked]

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
            read = [one for one in judged if "unreadable" in one.values]
            if read:
                share = means(
                    [image_of(one.id) for one in read],
                    {"judged_unparsable": [one.values["unreadable"] for one in read]},
                )
                found.values["judged_unparsable"] = (
                    100 * sum(one.values["unreadable"] for one in read) / len(read)
                )
                found.facts["judged_unparsable"] = {"count": len(read), "unit": "%"}
                found.statistics.append(share)
            if isinstance(self.judge, LanguageJudge):
                found.facts["judged"]["judge"] = self.judge.facts
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


class JudgedAnswers(RSIEvalEvaluation):
    """Answers to every question of any data set by a judge: VQA, ChangeChat's open questions.

    Args:
        **options: see `RSIEvalEvaluation`; by default all that is a question is asked, each of a
            dialogue with those before it.
    """

    kinds = AllBut(OTHER_TASKS)
    asks = "each"
