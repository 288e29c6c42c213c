"""Evaluations of models that write captions: generate, score, and show what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.collate.change_captions import ChangeBatch
from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.errors import UserError
from rsvlm.evaluation.base import (
    ALONE,
    Evaluation,
    Measurement,
    can_run_alone,
    facts_of,
    measured_by,
    needs_answers,
)
from rsvlm.evaluation.question_answering import from_answer, score_marks, with_empty
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.captions.protocols import NUMBERED
from rsvlm.metrics.change import ChangeCaptions, ChangeFlags
from rsvlm.metrics.change.classes import by_class
from rsvlm.metrics.change.templates import templates_of, unchanged
from rsvlm.models.protocols import is_map_generator

QUICK = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")


def changed(batch: Any, sentences: frozenset[str]) -> list[int]:
    """Whether each pair of a batch has changed: as the data set flags it, else by its captions.

    Args:
        batch: a `ChangeBatch`, or a `ChatBatch` whose references are captions.
        sentences: those that mean "unchanged", see `metrics/change/templates.py`.
    """
    told = isinstance(batch, ChangeBatch)
    flags = batch.changed.tolist() if told else [-1] * len(batch)
    return [
        int(not unchanged(references, sentences)) if flag < 0 else flag
        for flag, references in zip(flags, batch.references, strict=True)
    ]


class CaptionEvaluation(Evaluation):
    """Captions of images against their references; see `metrics/captions`.

    Args:
        protocol: of captions.
        metrics: words of the protocol for the test; None takes all that can run here.
        val_metrics: words for validation.
        options: of `model.generate` in the test.
        val_options: of `model.generate` in validation, where they differ.
        vocabulary: word map of `token_ids`; None takes the model's words, and of a model without
            any lets every word be known.
        **shared: see `Evaluation`.
    """

    needs = "answers"
    kinds: Sequence[str] | None = ("caption",)

    def __init__(
        self,
        *,
        protocol: str = "coco",
        metrics: Sequence[str] | None = None,
        val_metrics: Sequence[str] | None = QUICK,
        options: Mapping[str, Any] | None = None,
        val_options: Mapping[str, Any] | None = None,
        vocabulary: str | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.protocol = protocol
        self.vocabulary = Vocabulary.read(vocabulary) if vocabulary else None
        self.metrics, self.val_metrics = metrics, val_metrics
        self.options = dict(options or {})
        self.val_options = self.options | dict(val_options or {})

    def words(self, model: Any) -> dict[str, int] | None:
        """The model's word ids, where the protocol counts ids."""
        held = self.vocabulary or model.words
        return dict(held.ids) if held is not None and self.protocol in NUMBERED else None

    def make(self, facts: DatasetFacts) -> Captions:
        """An empty metric, for one process."""
        return Captions(self.protocol, **self.of_metric(facts))

    def of_metric(self, facts: DatasetFacts) -> dict[str, Any]:
        """Options that caption metrics share."""
        metrics = self.metrics if self.stage == "test" else self.val_metrics
        return {"metrics": metrics, "vocabulary": facts.more.get("vocabulary"), **ALONE}

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Refuses a model that does not write, and metrics that cannot run, before it writes.

        Raises:
            UserError: either.
        """
        needs_answers(model)
        self.make(self.dataset_facts(model, dataset)).to(device)

    def dataset_facts(self, model: Any, dataset: Any) -> DatasetFacts:
        """The vocabulary that words are counted by."""
        return facts_of(dataset, vocabulary=self.words(model))

    def nothing(self, facts: DatasetFacts) -> str:
        """What to tell of a data set without captions."""
        return (
            f"{facts.name}: no image with a caption was given, so there is nothing to measure: "
            "does this data set have captions?"
        )

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Writes a caption for each image of a batch."""
        rows = zip(
            batch.index.tolist(), batch.ids, self.write(model, batch), batch.references, strict=True
        )
        return [
            PredictionRecord(id, sample=str(name), references=list(said), **from_answer(answer))
            for id, name, answer, said in rows
        ]

    def write(self, model: Any, batch: Any) -> list[Answer]:
        """The model's answers to a batch."""
        options = self.options if self.stage == "test" else self.val_options
        return list(model.generate(batch, **options))

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Caption metrics of all images."""
        self.metric = self.make(facts)
        self.metric.update(
            [one.prediction for one in records],
            [one.references for one in records],
            [one.id for one in records],
        )
        return self.captions_measured(records)

    def captions_measured(self, records: Sequence[PredictionRecord]) -> Measurement:
        """What the caption metric says once it has all records."""
        values, about = measured_by(self.metric)
        found = Measurement(values, about, self.metric.statistics(), score_marks(self.metric))
        return with_empty(found, records, "caption_empty")

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """Images with what was written of them."""
        from rsvlm.report.answers import draw_answers

        del records
        draw_answers(self.metric, dataset, folder)


class ChangeEvaluation(CaptionEvaluation):
    """Change captions: all pairs, the changed and the unchanged ones, and changed or not at all.

    Pairs whose references name a class of change (a road, a building, ...) are measured on their
    own too, in the test: see `metrics/change/classes.py`.

    Args:
        protocol: of captions; `token_ids` is the field's.
        data: whose sentences tell an unchanged pair (`metrics/change/templates.py`); it is also
            the protocol of the accuracies from captions.
        templates: sentences of your own in their place.
        **options: see `CaptionEvaluation`.
    """

    metric: ChangeCaptions

    def __init__(
        self,
        *,
        protocol: str = "token_ids",
        data: str = "levir_cc",
        templates: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(protocol=protocol, **options)
        self.data, self.templates = data, templates
        self.sentences = templates_of(data, templates)
        self.flag_protocol = "custom_templates" if templates else data

    def make(self, facts: DatasetFacts) -> ChangeCaptions:
        """An empty metric, for one process."""
        return ChangeCaptions(
            self.protocol, data=self.data, templates=self.templates, **self.of_metric(facts)
        )

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Writes a caption for each pair of a batch, and notes whether it has changed."""
        records = super().predict(model, batch)
        for one, flag in zip(records, changed(batch, self.sentences), strict=True):
            one.more = {"changed": int(flag)}
        return records

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Caption metrics of all pairs and of parts of them, and changed or not."""
        told = [_flag(one) for one in records]
        written, ids = [one.prediction for one in records], [one.id for one in records]
        self.metric = self.make(facts)
        self.metric.update(written, [one.references for one in records], ids, told)
        flags = ChangeFlags(self.flag_protocol, templates=self.templates, **ALONE)
        flags.update(written, told, ids)
        found = self.captions_measured(records)
        values, about = measured_by(flags)
        for word in values:
            about[word]["protocol"] = self.flag_protocol
        found.values |= values
        found.facts |= about
        found.statistics.append(flags.statistics())
        if self.stage == "test":
            for part in by_class(self.metric):
                found.statistics.append(part.statistics)
                found.values |= part.values
                found.facts |= {w: {"count": part.count, "unit": "%"} for w in part.values}
        return found

    def draw_with_model(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """attention.png: maps of what some of the captions rest on."""
        if can_run_alone(model) and is_map_generator(model):
            self.draw_maps(model, dataset, preprocess, folder)

    def draw_maps(
        self, model: Any, dataset: Any, preprocess: Any, folder: Path, *, count: int = 2
    ) -> None:
        """Draws the model's maps of the best, middling and worst captions, `count` of each."""
        from rsvlm.report.answers import spread_of
        from rsvlm.report.attention_maps import Rested, map_sheet
        from rsvlm.report.examples import as_picture

        _, _, places = spread_of(self.metric, count)
        used = [self.metric.used[place] for place in places]
        view = TransformedDataset(dataset, preprocess, training=False, caption="all")
        items = [view[(0, int(record.id))] for record in used]
        collate = model.collate(training=False, kinds=self.kinds or ())
        rows = []
        for item, record in zip(items, used, strict=True):
            if not isinstance(item, TransformedSample):
                continue  # it was read a moment ago
            batch = collate([item]).to(next(model.parameters()).device)
            maps = {name: grid[0].float().cpu().numpy() for name, grid in model.maps(batch).items()}
            stored = [as_picture(image) for image in dataset[int(record.id)].images]
            rows.append(Rested(stored, maps, record.prediction))
        if rows:
            title = f"{dataset.name}: what captions rest on, from the best to the worst"
            map_sheet(rows, folder / "attention.png", title=title)


def _flag(one: PredictionRecord) -> int:
    flag = one.more.get("changed")
    if flag not in (0, 1):
        raise UserError(
            f"prediction {one.id!r} does not say whether its pair has changed (more.changed, 0 or "
            "1): it is of another evaluation. Evaluate again."
        )
    return int(flag)
