"""ChangeChat's tasks: yes or no, counts, places, open questions, dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.item import TransformedSample
from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer, SampleError, Turn
from rsvlm.errors import UserError, near
from rsvlm.evaluation.captions import CaptionEvaluation
from rsvlm.evaluation.question_answering import AnswerEvaluation, score_marks
from rsvlm.evaluation.semantic_localisation import WholeImages, collate_whole
from rsvlm.metrics.change import (
    ChangeCaptions,
    ChangeCounts,
    ChangeFlags,
    ChangeLocations,
    OpenQuestions,
)
from rsvlm.metrics.change.flags import says_changed
from rsvlm.metrics.change.templates import plain, templates_of, unchanged
from rsvlm.metrics.gather import KeptRecords
from rsvlm.metrics.vqa.normalise import evalai, right

#: Task -> its protocols, the default first.
TASKS: dict[str, tuple[str, ...]] = {
    "binary": ("yes_no",),
    "count": ("published", "robust"),
    "location": ("published", "robust"),
}

_ROW = ("question", "prediction", "answer")


class ChangeTaskEvaluation(AnswerEvaluation):
    """Yes or no, counts, or places of a change, read from the answers.

    Args:
        task: `binary`, `count` or `location`.
        protocol: how answers are read, see `metrics/change`; None takes the published reading.
        empty: of `location`, the Jaccard index of two empty sets; None takes the protocol's.
        options: of `model.generate`.

    Raises:
        UserError: an unknown task, or a protocol that it has not.
    """

    def __init__(
        self,
        *,
        task: str,
        protocol: str | None = None,
        empty: int | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if task not in TASKS:
            raise UserError(f"evaluation.task={task!r} is not known. {near(task, TASKS)}")
        protocol = protocol or TASKS[task][0]
        if protocol not in TASKS[task]:
            raise UserError(
                f"evaluation.protocol={protocol!r} does not read {task} answers. "
                f"{near(protocol, TASKS[task])}"
            )
        super().__init__(kinds=(task,), options=options)
        self.task, self.protocol, self.empty = task, protocol, empty

    def make(self, model: Any, dataset: Any) -> Any:
        """An empty metric."""
        del model, dataset
        if self.task == "binary":
            return ChangeFlags(self.protocol)
        if self.task == "count":
            return ChangeCounts(self.protocol)
        return ChangeLocations(self.protocol, empty=self.empty)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric."""
        del model
        truth: list[Any] = list(batch.answers)
        if self.task == "binary":
            truth = [_yes(answer, id) for answer, id in zip(truth, batch.ids, strict=True)]
        self.metric.update([answer.text for answer in answers], truth, ids)
        return [{"kind": self.task}] * len(answers)

    def marks(self) -> dict[Id, tuple[float, str]]:
        """Whether the answer is the true one word by word; the metric reads more kindly."""
        out = {}
        for row in self.told.rows:
            same = right(row["prediction"], row["answer"], evalai)
            out[row["id"]] = (float(same), "as the true answer" if same else "another answer")
        return out


class _Shown(CaptionEvaluation):
    """Answers shown with what was asked."""

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric and the record of questions."""
        super().start(model, dataset, device)
        self.told = KeptRecords().to(device)

    def compute(self) -> dict[str, Any]:
        """Metric words and their values."""
        self.told.compute()
        return self.metric.compute()

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """Pairs with questions, true answers and answers; predictions.jsonl as of captions."""
        from rsvlm.evaluation.predictions import beside, write_answers
        from rsvlm.report.questions import plot_predictions

        del model, preprocess
        write_answers(self.metric.used, dataset, beside(folder) / "predictions.jsonl")
        plot_predictions(self.told.rows, score_marks(self.metric), dataset, folder / "answers.png")


class OpenEvaluation(_Shown):
    """Open questions, each against its one reference; see `metrics/change`.

    Args:
        protocol: `open_questions`, or one of captions.
        **options: see `CaptionEvaluation`.
    """

    kinds = ("open",)

    def __init__(self, *, protocol: str = "open_questions", **options: Any) -> None:
        super().__init__(protocol=protocol, **options)

    def make(self, model: Any, metrics: Sequence[str] | None) -> OpenQuestions:
        """An empty metric."""
        return OpenQuestions(self.protocol, metrics=metrics, vocabulary=self.words(model))

    def update(self, model: Any, batch: Any) -> None:
        """Answers a batch of questions."""
        written, ids = self.write(model, batch), batch.index.tolist()
        self.metric.update(written, batch.references, ids)
        rows = zip(batch.instructions, written, batch.answers, strict=True)
        self.told.update(ids, [dict(zip(_ROW, row, strict=True)) for row in rows])


class DialogueEvaluation(_Shown):
    """ChangeChat's three questions one after the other: changed, how many, describe.

    Args:
        mode: `released`, with its fixed turns, or `free`: see names.PROTOCOLS["captions"].
        data: whose sentences mean "unchanged".
        ask: of `released`, the caption question that decides.
        **options: see `CaptionEvaluation`.
    """

    kinds = ("dialogue",)

    def __init__(
        self,
        *,
        mode: str = "released",
        data: str = "levir_cc",
        ask: str = "Please briefly describe the changes in these two images.",
        **options: Any,
    ) -> None:
        if mode not in ("released", "free"):
            raise UserError(f"evaluation.mode={mode!r}. {near(mode, ('released', 'free'))}")
        super().__init__(protocol="token_ids", **options)
        self.mode, self.data, self.ask = mode, data, ask
        self.sentences = templates_of(data)
        self.word = f"dialogue_{mode}"

    def collate(self) -> Any:
        """Samples as they are: each question is written when the one before it is answered."""
        return collate_whole

    def make(self, model: Any, metrics: Sequence[str] | None) -> ChangeCaptions:
        """An empty metric of the last answers."""
        return ChangeCaptions(
            "token_ids", data=self.data, metrics=metrics, vocabulary=self.words(model)
        )

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties all metrics."""
        super().start(model, dataset, device)
        self.flags = ChangeFlags("yes_no").to(device)
        self.counts = ChangeCounts("published").to(device)
        self.write_batch = model.collate(training=False)
        self.device = device

    def update(self, model: Any, batch: WholeImages) -> None:
        """Leads a dialogue about each pair.

        Raises:
            SampleError: a sample without three questions.
        """
        told = [_dialogue(item) for item in batch.items]
        asked = [[turn for turn in turns if turn.role == "user"] for turns in told]
        right = [[turn.text for turn in turns if turn.role == "assistant"] for turns in told]
        places = [item.index for item in batch.items]
        if self.mode == "released":
            first = Turn("user", self.ask, (0, 1), kind="caption")
            captions = self._answer(model, batch.items, [[first]] * len(batch.items))
            said = ["No" if plain(c) in self.sentences else "Yes" for c in captions]
        else:
            said = self._answer(model, batch.items, [[q[0]] for q in asked])
            flags = [_yes(answers[0], str(i)) for answers, i in zip(right, places, strict=True)]
            self.flags.update(said, flags, places)
        go_on = [i for i, s in enumerate(said) if self.mode == "free" or s == "Yes"]
        items = [batch.items[i] for i in go_on]
        histories = [[asked[i][0], Turn("assistant", said[i]), asked[i][1]] for i in go_on]
        counted = self._answer(model, items, histories)
        histories = [
            [*h, Turn("assistant", c), asked[i][2]]
            for i, h, c in zip(go_on, histories, counted, strict=True)
        ]
        last = dict(zip(go_on, self._answer(model, items, histories), strict=True))
        self.counts.update(counted, [right[i][1] for i in go_on], [places[i] for i in go_on])
        written = [last.get(i, "there is no difference") for i in range(len(batch.items))]
        references = [
            list(item.sample.texts) or [answers[2]]
            for item, answers in zip(batch.items, right, strict=True)
        ]
        told_flags = [
            item.sample.meta.get("changeflag", int(not unchanged(refs, self.sentences)))
            for item, refs in zip(batch.items, references, strict=True)
        ]
        assert isinstance(self.metric, ChangeCaptions)
        self.metric.update(written, references, places, told_flags)
        between = dict(zip(go_on, counted, strict=True))
        rows = []
        for i, caption in enumerate(written):
            answers = [said[i], between.get(i, "(not asked)"), caption]
            lines = ([turn.text for turn in asked[i]], answers, right[i])
            rows.append(dict(zip(_ROW, map(" / ".join, lines), strict=True)))
        self.told.update(places, rows)

    def _answer(
        self, model: Any, items: list[TransformedSample], dialogues: list[list[Turn]]
    ) -> list[str]:
        if not items:
            return []
        asked = [
            replace(item, sample=replace(item.sample, turns=turns))
            for item, turns in zip(items, dialogues, strict=True)
        ]
        return self.write(model, self.write_batch(asked).to(self.device))

    def compute(self) -> dict[str, Any]:
        """Metric words and their values."""
        values = super().compute()
        self.others: dict[str, Any] = {}
        for metric in (self.flags, self.counts):
            if metric.held("records") is not None:
                self.others |= {word: (metric, value) for word, value in metric.compute().items()}
        return values | {word: value for word, (_, value) in self.others.items()}

    def facts(self, word: str) -> dict[str, Any]:
        """Count and unit of a metric word, and the dialogue's protocol."""
        metric = self.others[word][0] if word in self.others else self.metric
        return metric.facts(word) | {"protocol": self.word}


def _dialogue(item: TransformedSample) -> list[Turn]:
    turns = [turn for turn in item.sample.turns if turn.kind in ("dialogue", None)]
    questions = sum(turn.role == "user" for turn in turns)
    if questions < 3 or len(turns) != 2 * questions:
        raise SampleError(
            f"sample {item.sample.meta.get('id', item.index)!r} has {questions} questions of a "
            "dialogue where three with their answers are needed: data.splits.test=test_dialog."
        )
    return turns


def _yes(answer: str, where: str) -> int:
    told = says_changed(answer)
    if told is None:
        raise SampleError(f"{where}: the data set's answer {answer!r} is neither yes nor no.")
    return int(told)
