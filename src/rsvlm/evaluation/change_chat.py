"""ChangeChat's tasks: yes or no, counts, places, open questions, dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.item import TransformedSample
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer, SampleError, Turn
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import ALONE, Measurement, can_run_alone, measured_by
from rsvlm.evaluation.captions import CaptionEvaluation
from rsvlm.evaluation.question_answering import AnswerEvaluation
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
from rsvlm.metrics.vqa.normalise import evalai, right

#: Task -> its protocols, the default first.
TASKS: dict[str, tuple[str, ...]] = {
    "binary": ("yes_no",),
    "count": ("published", "robust"),
    "location": ("published", "robust"),
}


class ChangeTaskEvaluation(AnswerEvaluation):
    """Yes or no, counts, or places of a change, read from the answers.

    Args:
        task: `binary`, `count` or `location`.
        protocol: how answers are read, see `metrics/change`; None takes the published reading.
        empty: of `location`, the Jaccard index of two empty sets; None takes the protocol's.
        options: of `model.generate`.
        **shared: see `Evaluation`.

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
        **shared: Any,
    ) -> None:
        if task not in TASKS:
            raise UserError(f"evaluation.task={task!r} is not known. {near(task, TASKS)}")
        protocol = protocol or TASKS[task][0]
        if protocol not in TASKS[task]:
            raise UserError(
                f"evaluation.protocol={protocol!r} does not read {task} answers. "
                f"{near(protocol, TASKS[task])}"
            )
        super().__init__(kinds=(task,), options=options, **shared)
        self.task, self.protocol, self.empty = task, protocol, empty

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """The task; true answers are read here, so that one that says nothing ends the run."""
        del model
        if self.task == "binary":
            for answer, id in zip(batch.answers, batch.ids, strict=True):
                _yes(answer, id)
        return [{"more": {"kind": self.task}} for _ in answers]

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Reads the answers."""
        del facts
        metric: Any = ChangeCounts(self.protocol, **ALONE) if self.task == "count" else None
        truth: list[Any] = [one.answer for one in records]
        if self.task == "binary":
            metric = ChangeFlags(self.protocol, **ALONE)
            truth = [_yes(one.answer or "", str(one.id)) for one in records]
        elif self.task == "location":
            metric = ChangeLocations(self.protocol, empty=self.empty, **ALONE)
        metric.update([one.prediction for one in records], truth, [one.id for one in records])
        values, about = measured_by(metric)
        marks = {}
        for one in records:
            # Whether the answer is the true one word by word; the metric reads more kindly.
            same = right(one.prediction, one.answer or "", evalai)
            marks[one.id] = (float(same), "as the true answer" if same else "another answer")
        return Measurement(values, about, [metric.statistics()], marks)


class _Shown(CaptionEvaluation):
    """Answers shown with what was asked."""

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """Pairs with questions, true answers and answers."""
        from rsvlm.report.questions import plot_predictions

        assert self.measured is not None
        plot_predictions(records, self.measured.marks, dataset, folder / "answers.png")


class OpenEvaluation(_Shown):
    """Open questions, each against its one reference; see `metrics/change`.

    Args:
        protocol: `open_questions`, or one of captions.
        **options: see `CaptionEvaluation`.
    """

    kinds = ("open",)

    def __init__(self, *, protocol: str = "open_questions", **options: Any) -> None:
        super().__init__(protocol=protocol, **options)

    def make(self, facts: DatasetFacts) -> OpenQuestions:
        """An empty metric, for one process."""
        return OpenQuestions(self.protocol, **self.of_metric(facts))

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Answers a batch of questions."""
        records = super().predict(model, batch)
        for one, question, answer in zip(records, batch.instructions, batch.answers, strict=True):
            one.question, one.answer = question, answer
        return records


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

    def make(self, facts: DatasetFacts) -> ChangeCaptions:
        """An empty metric of the last answers."""
        return ChangeCaptions("token_ids", data=self.data, **self.of_metric(facts))

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """As of captions; also takes the model's collate."""
        super().prepare(model, dataset, device)
        self.write_batch = model.collate(training=False)
        self.device = device

    def predict(self, model: Any, batch: WholeImages) -> list[PredictionRecord]:
        """Leads a dialogue about each pair.

        Raises:
            SampleError: a sample without three questions.
        """
        told = [_dialogue(item) for item in batch.items]
        asked = [[turn for turn in turns if turn.role == "user"] for turns in told]
        right = [[turn.text for turn in turns if turn.role == "assistant"] for turns in told]
        first = Turn("user", self.ask, (0, 1), kind="caption")
        spare = replace(batch.items[0], sample=replace(batch.items[0].sample, turns=[first]))
        if self.mode == "released":
            captions = self._answer(model, batch.items, [[first]] * len(batch.items), spare)
            said = ["No" if plain(c) in self.sentences else "Yes" for c in captions]
        else:
            said = self._answer(model, batch.items, [[q[0]] for q in asked], spare)
            for answers, item in zip(right, batch.items, strict=True):
                _yes(answers[0], str(item.index))
        go_on = [i for i, s in enumerate(said) if self.mode == "free" or s == "Yes"]
        items = [batch.items[i] for i in go_on]
        histories = [[asked[i][0], Turn("assistant", said[i]), asked[i][1]] for i in go_on]
        counted = self._answer(model, items, histories, spare)
        histories = [
            [*h, Turn("assistant", c), asked[i][2]]
            for i, h, c in zip(go_on, histories, counted, strict=True)
        ]
        last = dict(zip(go_on, self._answer(model, items, histories, spare), strict=True))
        between = dict(zip(go_on, counted, strict=True))
        records = []
        for i, item in enumerate(batch.items):
            references = list(item.sample.texts) or [right[i][2]]
            flag = item.sample.meta.get(
                "changeflag", int(not unchanged(references, self.sentences))
            )
            more = {"changed": int(flag), "said": said[i], "truths": right[i][:2]}
            if i in between:
                more["counted"] = between[i]
            records.append(
                PredictionRecord(
                    item.index,
                    sample=str(item.sample.meta.get("id", item.index)),
                    question=" / ".join(turn.text for turn in asked[i]),
                    prediction=last.get(i, "there is no difference"),
                    answer=" / ".join(right[i]),
                    references=references,
                    more=more,
                )
            )
        return records

    def _answer(
        self,
        model: Any,
        items: list[TransformedSample],
        dialogues: list[list[Turn]],
        spare: TransformedSample,
    ) -> list[str]:
        asked = [
            replace(item, sample=replace(item.sample, turns=turns))
            for item, turns in zip(items, dialogues, strict=True)
        ]
        if not asked and can_run_alone(model):
            return []
        # A model in shards runs on all ranks: one without a question asks another in vain.
        batch = self.write_batch(asked or [spare]).to(self.device)
        return [answer.text for answer in self.write(model, batch)][: len(asked)]

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """The last answers as captions, the counts, and in `free` the first answers."""
        ids = [one.id for one in records]
        self.metric = self.make(facts)
        self.metric.update(
            [one.prediction for one in records],
            [one.references for one in records],
            ids,
            [one.more["changed"] for one in records],
        )
        found = self.captions_measured(records)
        metrics: list[Any] = []
        if self.mode == "free":
            flags = ChangeFlags("yes_no", **ALONE)
            truths = [_yes(one.more["truths"][0], str(one.id)) for one in records]
            flags.update([one.more["said"] for one in records], truths, ids)
            metrics.append(flags)
        went_on = [one for one in records if "counted" in one.more]
        if went_on:
            counts = ChangeCounts("published", **ALONE)
            counts.update(
                [one.more["counted"] for one in went_on],
                [one.more["truths"][1] for one in went_on],
                [one.id for one in went_on],
            )
            metrics.append(counts)
        for metric in metrics:
            values, about = measured_by(metric)
            found.values |= values
            found.facts |= about
            found.statistics.append(metric.statistics())
        for facts_of_word in found.facts.values():
            facts_of_word["protocol"] = self.word
        return found

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """Pairs with the questions, and all three answers to them."""
        from rsvlm.report.questions import plot_predictions

        assert self.measured is not None
        whole = [
            replace(
                one,
                prediction=" / ".join(
                    (one.more["said"], one.more.get("counted", "(not asked)"), one.prediction)
                ),
            )
            for one in records
        ]
        plot_predictions(whole, self.measured.marks, dataset, folder / "answers.png")


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
