"""What an evaluation is: a model is asked (`predict`), and records are measured (`metric_from`).

Predictions are the primary result. `predict` turns a batch into `PredictionRecord`s and knows the
model; `metric_from` turns records into values and knows no model. Between the two stands

- a file in the test of a run (`evaluation/records.py`): each rank appends the records of a batch,
  and values come from the merged, sorted records of all ranks, so that a killed evaluation goes on
  and `rsvlm metrics from` gives the same numbers;
- a metric that gathers records over ranks in validation, which leaves no files.

A new evaluation gives `predict` and `metric_from`, says with `dataset_facts` what measuring needs
beside the records, and draws its pictures from records with `draw`. One whose metric cannot come
from records sets `from_records = False` and `reason`, and gives `start`, `update`, `compute` and
`facts` of its own; its records are not kept, and it starts anew after a kill.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor

from rsvlm.data.prediction_records import DatasetFacts, Id, PredictionRecord, record_of
from rsvlm.data.protocols import attributes_of
from rsvlm.errors import UserError
from rsvlm.metrics.context import Given, measure_context
from rsvlm.metrics.gather import KeptRecords
from rsvlm.metrics.intervals import Statistics, bootstrap
from rsvlm.models.protocols import is_generator


def can_run_alone(model: nn.Module) -> bool:
    """Whether one rank can run the model; a sharded one runs on all ranks or not at all."""
    return not any(isinstance(p, DTensor) for p in model.parameters())


def needs_answers(model: Any) -> None:
    """Refuses a model that does not write.

    Raises:
        UserError: it has no `generate`.
    """
    if not is_generator(model):
        raise UserError(
            f"a {type(model).__name__} writes no answers: choose evaluation=retrieval, zeroshot, "
            "..., or a model that writes, with task=captioner."
        )


@dataclass
class Measurement:
    """What records give.

    Attributes:
        values: metric word -> value.
        facts: metric word -> its count, unit, chance level, own `protocol`, ... for metrics.json.
        statistics: what each item brings to the words, for intervals; words without any have none.
        marks: id -> how good the answer is (higher is better), and that in words, for pictures.
    """

    values: dict[str, float]
    facts: dict[str, dict[str, Any]]
    statistics: list[Statistics] = field(default_factory=list)
    marks: dict[Id, tuple[float, str]] = field(default_factory=dict)


class Evaluation(abc.ABC):
    """What a task measures on a split, under one protocol.

    Args:
        bootstrap: samples of the bootstrap that gives each value of a test its interval; 0 gives
            none.
        bootstrap_seed: of its draws.

    Attributes:
        protocol: word of metric names, where a word's facts name no other one.
        from_records: whether values come from records alone.
        reason: why not.
        stage: `val` or `test`, set before `start`.
        learns: whether `learn` is to be given the training split before the first `update`.
        kinds: task words of the dialogues that are asked; None asks all of a sample's.
        asks: which questions of a dialogue: its `last`, `each` with what was said before it, or
            each `alone`.
        needs: what a model must give, a word of `evaluation.requirements.NEEDS`; "" where only
            asking tells.
        makes: tasks (`data.text.instructions.MADE`) that questions are made of where a data set has
            objects and no questions for them.
        known: facts of the data set that was started on.
        writer: where records go in place of the metric that gathers them; None keeps them.
        measured: what `compute` or `measure` found last.
    """

    protocol: str
    from_records: bool = True
    reason: str = ""
    kinds: Container[str] | None = None
    asks: str = "last"
    needs: str = ""
    makes: Sequence[str] = ()
    stage: str = "test"
    learns: bool = False
    bootstrap: int = 0
    bootstrap_seed: int = 0
    known: DatasetFacts
    writer: RecordWriter | None = None
    measured: Measurement | None = None

    def __init__(self, *, bootstrap: int = 0, bootstrap_seed: int = 0) -> None:
        if bootstrap and not self.from_records:
            raise UserError(f"evaluation.bootstrap={bootstrap}: {self.reason}, so no intervals.")
        self.bootstrap, self.bootstrap_seed = bootstrap, bootstrap_seed

    def prompt(self, text: str) -> str:
        """What is encoded for a caption."""
        return text

    @property
    def instructions(self) -> Mapping[str, Any]:
        """Options of `data.text.instructions.InstructionTemplates` for the model's collate."""
        return {"tasks": self.makes} if self.makes else {}

    def transform(self) -> Any:
        """A transform in place of the model's own; None leaves it."""
        return None

    def collate(self) -> Any:
        """A collate in place of the family's own; None leaves it."""
        return None

    # What an evaluation gives --------------------------------------------------------------

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:  # noqa: B027
        """Holds the model against the task and encodes what is asked of every image.

        Raises:
            UserError: a model or a data set that this evaluation is not for.
        """

    def dataset_facts(self, model: Any, dataset: Any) -> DatasetFacts:
        """What `metric_from` needs beside the records, as JSON can hold it."""
        del model
        return facts_of(dataset)

    @abc.abstractmethod
    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Asks the model about a batch; each id is given once in a split."""

    @abc.abstractmethod
    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Measures all records of a split, which are sorted and at least one.

        It runs on one process alone: metrics are made with `**ALONE`.

        Raises:
            UserError: records that lack what the metric needs.
        """

    def complete(
        self, records: Sequence[PredictionRecord], facts: DatasetFacts
    ) -> list[PredictionRecord]:
        """Records as they are once all samples are there: ranks in a gallery in place of features.

        What it is given may be complete already.
        """
        del facts
        return list(records)

    def nothing(self, facts: DatasetFacts) -> str:
        """What to tell where a split has no record."""
        return f"{facts.name} has nothing to measure in its split {facts.split}."

    def learn(  # noqa: B027  (most evaluations learn nothing)
        self, model: Any, dataset: Any, batches: Iterable[Any]
    ) -> None:
        """Takes the split that is learnt from, after `start`; only where `learns`."""

    def draw(  # noqa: B027  (most evaluations have no pictures)
        self, records: Sequence[PredictionRecord], dataset: Any, folder: Path
    ) -> None:
        """Makes the pictures of a report from records, after `measure`, on one rank."""

    def draw_with_model(  # noqa: B027
        self, model: Any, dataset: Any, preprocess: Any, folder: Path
    ) -> None:
        """Makes the pictures that need the model too, after `draw`."""

    # What drives it ------------------------------------------------------------------------

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Begins a measurement on a data set."""
        self.prepare(model, dataset, device)
        self.known = self.dataset_facts(model, dataset)
        self.kept = KeptRecords(self.nothing(self.known)).to(device)

    def update(self, model: Any, batch: Any, samples: Sequence[int] = ()) -> None:
        """Adds a batch.

        Args:
            model: the model.
            batch: of `collate`.
            samples: the positions that the batch was made of, whether or not they have records;
                only with a `writer`.
        """
        records = self.predict(model, batch)
        if self.writer is not None:
            self.writer.append(records, samples, list(batch.skipped))
            return
        self.kept.update([one.id for one in records], [one.row() for one in records])

    def rehearse(self, model: Any, batch: Any) -> None:
        """Runs the model as `update` does and keeps nothing, for a rank that has no batch."""
        self.predict(model, batch)

    def records(self) -> list[PredictionRecord]:
        """What was kept, over all ranks, sorted; without a `writer`."""
        self.kept.compute()
        return [record_of(row, f"record {row['id']!r}") for row in self.kept.rows]

    def measure(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """`metric_from` with the intervals that are asked for, in this process alone.

        Raises:
            UserError: no records.
        """
        if not records:
            raise UserError(self.nothing(facts))
        found = with_context(self.metric_from(records, facts), records)
        if self.bootstrap and self.stage == "test":
            bounds = bootstrap(found.statistics, times=self.bootstrap, seed=self.bootstrap_seed)
            for word in found.facts:
                found.facts[word] |= bounds.get(word, {})
        self.measured = found
        return found

    def compute(self) -> dict[str, Any]:
        """Metric words and their values, over all ranks; the first one measures for all."""
        records = self.records()
        found = on_first_rank(lambda: self.measure(records, self.known), self.kept.device)
        self.measured = found
        return dict(found.values)

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and chance level of a metric word; its own `protocol`; after `compute`."""
        assert self.measured is not None, "facts are there after compute"
        return dict(self.measured.facts[word])


class RecordWriter(Protocol):
    """Where the records of a batch go."""

    def append(
        self, records: Sequence[PredictionRecord], samples: Sequence[int], skipped: Sequence[str]
    ) -> None:
        """Keeps a batch: its records, the positions it was made of, and what was unreadable."""


#: Options of a metric that sees all records in one process, whatever other processes do.
ALONE: dict[str, Any] = {"sync_on_compute": False}


def facts_of(dataset: Any, **more: Any) -> DatasetFacts:
    """Name, split, size and classes of a data set; of a sample of one, `drawn` says of what."""
    drawn = dict(attributes_of(dataset).drawn)
    if drawn:
        more["drawn"] = drawn
    return DatasetFacts(
        name=dataset.name,
        split=attributes_of(dataset).split or "test",
        samples=len(dataset) if hasattr(dataset, "__len__") else 0,
        classes=list(attributes_of(dataset).classes or ()),
        more=more,
    )


def with_context(found: Measurement, records: Sequence[PredictionRecord]) -> Measurement:
    """Adds what retrieval brought, where answers were given passages of a knowledge base."""
    given = [
        Given(
            one.id,
            one.question,
            one.prediction,
            one.references or ([one.answer] if one.answer else []),
            [str(source["record"]) for source in one.knowledge["sources"]],
            [str(source["text"]) for source in one.knowledge["sources"]],
            list(one.knowledge["own"]),
        )
        for one in records
        if one.knowledge
    ]
    if given:
        values, counts, statistics = measure_context(given)
        for word, count in counts.items():
            if count:
                found.values[word] = values[word]
                found.facts[word] = {"count": count, "unit": "%", "protocol": "passages"}
        found.statistics.append(statistics)
    return found


def measured_by(metric: Any, **chance: float) -> tuple[dict[str, float], dict[str, dict[str, Any]]]:
    """Values and facts of a metric that has `compute` and `facts(word)`.

    Args:
        metric: given all records.
        **chance: metric word -> chance level.
    """
    values = {word: float(value) for word, value in metric.compute().items()}
    facts = {word: metric.facts(word) for word in values}
    for word, value in chance.items():
        facts[word]["chance"] = value
    return values, facts


def on_first_rank(work: Callable[[], Measurement], device: torch.device) -> Measurement:
    """What the first process finds, for all of them; its error is everyone's.

    Raises:
        UserError: the work's.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return work()
    outcome: list[Any] = [None]
    mine: Measurement | None = None
    if dist.get_rank() == 0:
        try:
            mine = work()
            outcome[0] = replace(mine, statistics=[], marks={})
        except (ValueError, RuntimeError, LookupError, OSError) as error:
            outcome[0] = error  # for all ranks, or the others would wait for good
    dist.broadcast_object_list(outcome, src=0, device=device if device.type != "cpu" else None)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return mine or outcome[0]
