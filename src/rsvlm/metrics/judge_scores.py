"""Open answers to questions by the verdicts of a judge: a program, a language model, people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError
from rsvlm.metrics.gather import Id, RecordMetric
from rsvlm.metrics.intervals import Floats, Statistics, one_hot, share
from rsvlm.metrics.vqa.normalise import evalai, right

#: (question, answer, true answer) -> 0 to 1, None of a verdict that cannot be read. Its `protocol`
#: names it; without one, `callable`.
AnswerJudge = Callable[[str, str, str], float | None]


class Equal:
    """1 for the true answer after VQA's EvalAI normalisation, else 0: a judge that needs nobody."""

    protocol = "equal"

    def __call__(self, question: str, answer: str, truth: str) -> float:
        """The verdict."""
        del question
        return float(right(answer, truth, evalai))


class Scores:
    """Verdicts from a file, as people or a language model gave them.

    The file is a run's predictions.jsonl with each `score` set by the judge, 0 to 1: a line is
    `{"question", "answer", "prediction", "score"}`, and more is passed over.

    Args:
        path: the file.
        most: the highest score of the judge's scale, which becomes 1.

    Raises:
        UserError: no such file, or a line without these, or two verdicts on one answer.
    """

    protocol = "scores"

    def __init__(self, path: str | Path, *, most: float = 1.0) -> None:
        from rsvlm.metrics.captions.records import read_rows

        self.path = Path(path)
        self.known: dict[tuple[str, str, str], float] = {}
        rows = read_rows(self.path)
        for number, row in enumerate(rows if isinstance(rows, list) else [], 1):
            where = f"{self.path}, line {number}"
            said = row if isinstance(row, dict) else {}
            key = tuple(said.get(word) for word in ("question", "prediction", "answer"))
            score = said.get("score")
            if not all(isinstance(word, str) for word in key):
                raise UserError(f"{where} needs the texts question, prediction and answer.")
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise UserError(f"{where}: score={score!r} is no number from 0 to {most:g}.")
            if not 0 <= score <= most:
                raise UserError(f"{where}: score={score} is not from 0 to {most:g} (judge.most).")
            if self.known.setdefault(key, score / most) != score / most:  # type: ignore[arg-type]
                raise UserError(f"{where}: the same answer had another score before.")
        if not self.known:
            raise UserError(f"{self.path} holds no verdicts: expected JSON Lines.")

    def __call__(self, question: str, answer: str, truth: str) -> float:
        """The verdict.

        Raises:
            UserError: the file does not know this answer.
        """
        found = self.known.get((question, answer, truth))
        if found is None:
            raise UserError(
                f"{self.path} has no verdict on {answer[:60]!r} to {question[:60]!r}: scores "
                "belong to one checkpoint's answers. Evaluate it once without scores, and let the "
                "predictions.jsonl of that run be judged."
            )
        return found


class Judged(RecordMetric):
    """Verdicts on answers to open questions.

    Formula: judged, the mean of all verdicts; judged_mean, the mean over types of question of the
    type's own mean, where every question has a type. Range: 0 to 100 per cent. Higher is better.
    Protocols: equal, scores, callable, judge_<prompt>_<version>_<model>_<digest>. Used in:
    RSIEval's table of RSGPT, whose 936 answers were graded by people (scores); VRSBench's, whose
    judge is a language model that says 1 for an answer of the same meaning (judge_match_...). Two
    judges give two metrics: name the one.

    An empty answer is worth 0 and is not shown to the judge. A verdict that is no number from 0 to
    1 is an error, and so is a metric of no questions.

    Args:
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        #: Id -> verdict of the last `compute`.
        self.verdicts: dict[Id, float] = {}
        self._types: dict[Id, str | None] = {}

    def update(
        self,
        verdicts: Sequence[float],
        types: Sequence[str | None],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            verdicts: b numbers from 0 to 1.
            types: b types of question, or None.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, or a verdict outside of 0 to 1.
        """
        if len(verdicts) != len(types):
            raise UserError(f"{len(verdicts)} verdicts and {len(types)} types: give one of each.")
        named = self.name_items(len(verdicts), ids, "question")
        rows = []
        for id, verdict, kind in zip(named, verdicts, types, strict=True):
            if not 0 <= float(verdict) <= 1:
                raise UserError(f"question {id!r}: the judge gave {verdict!r}; expected 0 to 1.")
            rows.append([id, float(verdict), kind])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Raises:
            UserError: no questions, or one of them with two verdicts.
        """
        rows = self.items()
        self.verdicts = {id: verdict for id, verdict, _ in rows}
        self._types = {id: kind for id, _, kind in rows}
        each: dict[str | None, list[float]] = {}
        for _, verdict, kind in rows:
            each.setdefault(kind, []).append(verdict)
        means = {kind: sum(one) / len(one) for kind, one in each.items()}
        by_type = {str(kind): [len(each[kind]), round(100 * means[kind], 2)] for kind in means}
        self.note([[row[0], row[2]] for row in rows], types=by_type)
        found = {"judged": sum(self.verdicts.values()) / len(rows)}
        if None not in means:
            found["judged_mean"] = sum(means.values()) / len(means)
        return {w: torch.tensor(100 * v, dtype=torch.float64) for w, v in found.items()}

    def statistics(self) -> Statistics:
        """Verdicts and questions of each type, of the last `compute`."""
        kinds = sorted(set(self._types.values()), key=str)
        asked = one_hot(list(self._types.values()), kinds)
        given = asked * np.array([[verdict] for verdict in self.verdicts.values()], np.float64)

        def value(sums: Floats) -> dict[str, Floats]:
            total, counts = sums[..., : len(kinds)], sums[..., len(kinds) :]
            found = {"judged": 100 * share(total.sum(-1), counts.sum(-1))}
            if None not in kinds:
                each = 100 * share(total, counts)
                there = ~np.isnan(each)
                found["judged_mean"] = share(np.where(there, each, 0).sum(-1), there.sum(-1))
            return found

        images = [image_of(id) for id in self.verdicts]
        return Statistics(images, np.concatenate([given, asked], 1), value)
