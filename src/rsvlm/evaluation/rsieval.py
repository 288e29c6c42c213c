"""RSIEval: detailed captions by COCO's metrics, open questions by a judge of the user's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer
from rsvlm.evaluation.captions import QUICK
from rsvlm.evaluation.question_answering import AnswerEvaluation, score_marks
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
    """

    def __init__(
        self,
        *,
        judge: AnswerJudge | None = None,
        metrics: Sequence[str] | None = None,
        val_metrics: Sequence[str] | None = QUICK,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kinds=kinds, options=options)
        self.judge: AnswerJudge = judge or Equal()
        self.protocol = getattr(self.judge, "protocol", "callable")
        self.metrics, self.val_metrics = metrics, val_metrics

    def make(self, model: Any, dataset: Any) -> Judged:
        """An empty metric of the questions."""
        del model, dataset
        return Judged()

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties both metrics."""
        super().start(model, dataset, device)
        words = self.metrics if self.stage == "test" else self.val_metrics
        self.captions = Captions("coco", metrics=words).to(device)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric that is right for each question."""
        del model
        rows: list[dict[str, Any]] = []
        for row, answer in enumerate(answers):
            kind, truth = batch.kinds[row], batch.answers[row]
            if kind == "caption":
                references = batch.references[row]
                self.captions.update([answer.text], [references], [ids[row]])
                rows.append({"type": kind, "references": references})
                continue
            verdict = 0.0
            if answer.text.strip():
                verdict = float(self.judge(batch.instructions[row], answer.text, truth))
            self.metric.update([verdict], [type_of(kind)], [ids[row]])
            rows.append({"type": type_of(kind)})
        return rows

    def compute(self) -> dict[str, Any]:
        """Metric words and their values, of what the split holds."""
        self.told.compute()
        # All ranks know these rows, so that they compute the same metrics.
        kinds = {row["type"] == "caption" for row in self.told.rows}
        self.judged = self.metric.compute() if False in kinds else {}
        self.described = self.captions.compute() if True in kinds else {}
        return self.judged | self.described

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and protocol of a metric word."""
        if word in self.described:
            return self.captions.facts(word) | {"protocol": "coco"}
        return self.metric.facts(word)

    def marks(self) -> dict[Id, tuple[float, str]]:
        """The verdict, or CIDEr-D of the single caption."""
        out = {}
        if self.judged:
            out = {id: (v, f"verdict {v:.2f}") for id, v in self.metric.verdicts.items()}
        if self.described:
            out |= score_marks(self.captions)
        return out

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """As of other answers; the two splits have files of their own."""
        self.sheet = "questions" if self.judged else "captions"
        self.file = "predictions" if self.judged else "captions"
        super().draw(model, dataset, preprocess, folder)
