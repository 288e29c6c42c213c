"""What evaluations of answers share: ask each question, keep and show what was answered."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer
from rsvlm.evaluation.base import Evaluation, needs_answers
from rsvlm.metrics.gather import KeptRecords

#: Task words whose answers are no short answers to a question.
OTHER_TASKS = frozenset(
    {"caption", "description", "refer", "identify", "detection", "segment", "grounding"}
)


class AllBut(Container[str]):
    """Every task word but some."""

    def __init__(self, words: Container[str]) -> None:
        self.words = words

    def __contains__(self, word: object) -> bool:
        return word not in self.words


def question_ids(batch: Any) -> list[Id]:
    """A name for each dialogue of a batch: its sample's position, and `#k` where it has several.

    All dialogues of a sample are in one batch, and evaluation meets each sample once.
    """
    places = batch.index.tolist()
    several, met = Counter(places), Counter[int]()
    out: list[Id] = []
    for place in places:
        out.append(place if several[place] == 1 else f"{place}#{met[place]}")
        met[place] += 1
    return out


def score_marks(captions: Any) -> dict[Id, tuple[float, str]]:
    """Id -> CIDEr-D of the single answer, or the first score that there is, and that in words.

    Args:
        captions: a caption metric after `compute`.
    """
    scores = captions.per_image
    word = "cider" if "cider" in scores else next(iter(scores), "")
    values = scores[word].tolist() if word else [0.0] * len(captions.ids)
    named = zip(captions.ids, values, strict=True)
    return {id: (value, f"{word} {value:.1f}" if word else "") for id, value in named}


class AnswerEvaluation(Evaluation):
    """Asks each question and keeps what was answered.

    Args:
        kinds: task words of the questions that are asked; None takes the class's own.
        options: of `model.generate`.
    """

    metric: Any
    #: The files of the sheet and of the answers, without ending.
    sheet, file = "questions", "predictions"

    def __init__(
        self, *, kinds: Sequence[str] | None = None, options: Mapping[str, Any] | None = None
    ) -> None:
        if kinds is not None:
            self.kinds = tuple(kinds)
        self.options = dict(options or {})

    @abc.abstractmethod
    def make(self, model: Any, dataset: Any) -> Any:
        """An empty metric."""

    @abc.abstractmethod
    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric; returns for each question what its record holds beside the words."""

    @abc.abstractmethod
    def marks(self) -> dict[Id, tuple[float, str]]:
        """Id -> how good the answer is (higher is better), and that in words; after `compute`."""

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric.

        Raises:
            UserError: a model that does not write.
        """
        needs_answers(model)
        self.metric = self.make(model, dataset).to(device)
        asked = f" of the kind {', '.join(self.kinds)}" if isinstance(self.kinds, tuple) else ""
        self.told = KeptRecords(
            f"{dataset.name} has no question{asked}, so there is nothing to measure: is this the "
            "right evaluation= or data= (of scenes, +data.dataset.parts=[turns,references])?"
        ).to(device)

    def update(self, model: Any, batch: Any) -> None:
        """Asks a batch of questions."""
        answers = model.generate(batch, **self.options)
        ids = question_ids(batch)
        more = self.add(model, batch, answers, ids)
        rows = [
            {"sample": sample, "question": question, "prediction": answer.text, "answer": truth}
            for sample, question, answer, truth in zip(
                batch.ids, batch.instructions, answers, batch.answers, strict=True
            )
        ]
        self.told.update(ids, [row | extra for row, extra in zip(rows, more, strict=True)])

    def compute(self) -> dict[str, Any]:
        """Metric words and their values."""
        self.told.compute()
        return self.metric.compute()

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and chance level of a metric word."""
        return self.metric.facts(word)

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """Good and bad answers with their images, and predictions.jsonl beside the pictures."""
        from rsvlm.evaluation.predictions import write_predictions
        from rsvlm.report.questions import plot_predictions

        del model, preprocess
        marks = self.marks()
        write_predictions(self.told.rows, marks, dataset, folder, self.file)
        plot_predictions(self.told.rows, marks, dataset, folder / f"{self.sheet}.png")
