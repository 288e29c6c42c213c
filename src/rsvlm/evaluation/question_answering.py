"""What evaluations of answers share: ask each question, keep and show what was answered."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from rsvlm.data import rle
from rsvlm.data.prediction_records import DatasetFacts, Id, PredictionRecord
from rsvlm.data.sample import Answer
from rsvlm.evaluation.base import Evaluation, Measurement, needs_answers
from rsvlm.metrics.empty import empty_answers
from rsvlm.models.rsmoe.model import RSMoE

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


def from_answer(answer: Answer) -> dict[str, Any]:
    """The fields of a record that an answer fills."""
    fields: dict[str, Any] = {"prediction": answer.text, "finished": bool(answer.finished)}
    if answer.boxes:
        fields["boxes"] = [[float(side) for side in box] for box in answer.boxes]
        fields["angles"] = [None if a is None else float(a) for a in answer.angles]
    if answer.masks:
        fields["masks"] = [rle.encode(mask) for mask in answer.masks]
    if answer.own_records is not None:
        told = [asdict(one) | {"span": list(one.span)} for one in answer.passages]
        fields["knowledge"] = {"sources": told, "own": answer.own_records}
    if answer.parts:
        fields["parts"] = [asdict(part) for part in answer.parts]
    if answer.asked:
        fields["asked"] = dict(answer.asked)
    return fields


class AnswerEvaluation(Evaluation):
    """Asks each question and keeps what was answered.

    Args:
        kinds: task words of the questions that are asked; None takes the class's own.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    #: The file of the sheet, without ending.
    sheet = "questions"
    needs = "answers"
    #: All of a model's experts, by their tasks.
    experts: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if kinds is not None:
            self.kinds = tuple(kinds)
        self.options = dict(options or {})

    @abc.abstractmethod
    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """For each question, what its record holds beside question, answers and boxes told."""

    @abc.abstractmethod
    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Measures the records; `marks` say of each how good it is."""

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Refuses a model that does not write.

        Raises:
            UserError: it does not.
        """
        del dataset, device
        needs_answers(model)
        if isinstance(model, RSMoE) and model.experts is not None:
            self.experts = tuple(model.tasks)

    def nothing(self, facts: DatasetFacts) -> str:
        """What to tell where a split has no such question."""
        asked = f" of the kind {', '.join(self.kinds)}" if isinstance(self.kinds, tuple) else ""
        return (
            f"{facts.name} has no question{asked}, so there is nothing to measure: is this the "
            "right evaluation= or data= (of scenes, +data.dataset.parts=[turns,references])?"
        )

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Asks a batch of questions."""
        answers = model.generate(batch, **self.options)
        more = self.fields(model, batch, answers)
        rows = zip(
            question_ids(batch),
            batch.ids,
            batch.instructions,
            batch.answers,
            answers,
            more,
            strict=True,
        )
        return [
            PredictionRecord(
                id,
                sample=str(sample),
                question=question,
                answer=truth,
                **(from_answer(answer) | extra),
            )
            for id, sample, question, truth, answer, extra in rows
        ]

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """Good and bad answers with their images."""
        from rsvlm.report.questions import plot_predictions

        assert self.measured is not None
        plot_predictions(records, self.measured.marks, dataset, folder / f"{self.sheet}.png")
        draw_routing(records, folder, self.experts)


def draw_routing(
    records: Sequence[PredictionRecord], folder: Path, experts: Sequence[str] = ()
) -> Path | None:
    """routing.png: which experts were asked for which type of question.

    Args:
        records: of a model with experts; others draw nothing.
        folder: of the pictures.
        experts: all of the model's, those that nobody asked too; none takes those of the records.
    """
    from rsvlm.report.routing import routing_sheet

    routed = [
        (str(one.more.get("type") or "description"), part["expert"], float(part["weight"]))
        for one in records
        for part in one.parts
    ]
    experts = list(dict.fromkeys([*experts, *(expert for _, expert, _ in routed)]))
    return routing_sheet(routed, experts, folder / "routing.png") if routed else None


def with_empty(
    found: Measurement, records: Sequence[PredictionRecord], word: str, **facts: Any
) -> Measurement:
    """Adds the share of empty answers as a metric word.

    Args:
        found: what was measured.
        records: of the answers that count.
        word: the metric word, such as `vqa_empty`.
        **facts: of the word, such as its `protocol`.
    """
    value, statistics = empty_answers(word, [(one.id, one.prediction) for one in records])
    found.values[word] = value
    found.facts[word] = {"count": len(records), "unit": "%", **facts}
    found.statistics.append(statistics)
    return found
