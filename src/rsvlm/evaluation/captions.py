"""Evaluations of models that write captions: generate, score, and show what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.evaluation.base import Evaluation, can_run_alone, needs_answers
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.captions.protocols import NUMBERED
from rsvlm.metrics.change import ChangeCaptions, ChangeFlags
from rsvlm.metrics.change.templates import templates_of, unchanged
from rsvlm.models.protocols import is_map_generator

QUICK = ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider")


def changed(batch: Any, sentences: frozenset[str]) -> list[int]:
    """Whether each pair of a batch has changed: as the data set flags it, else by its captions.

    Args:
        batch: a `ChangeBatch`, or a `ChatBatch` whose references are captions.
        sentences: those that mean "unchanged", see `metrics/change/templates.py`.
    """
    flags = getattr(batch, "changed", None)
    flags = [-1] * len(batch) if flags is None else flags.tolist()
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
    """

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
    ) -> None:
        self.protocol = protocol
        self.vocabulary = Vocabulary.read(vocabulary) if vocabulary else None
        self.metrics, self.val_metrics = metrics, val_metrics
        self.options = dict(options or {})
        self.val_options = self.options | dict(val_options or {})

    def words(self, model: Any) -> dict[str, int] | None:
        """The model's word ids, where the protocol counts ids."""
        held = self.vocabulary or model.words
        return dict(held.ids) if held is not None and self.protocol in NUMBERED else None

    def make(self, model: Any, metrics: Sequence[str] | None) -> Captions:
        """An empty metric."""
        return Captions(self.protocol, metrics=metrics, vocabulary=self.words(model))

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric.

        Raises:
            UserError: a model that does not write.
        """
        del dataset
        needs_answers(model)
        metrics = self.metrics if self.stage == "test" else self.val_metrics
        self.metric = self.make(model, metrics).to(device)

    def update(self, model: Any, batch: Any) -> None:
        """Writes a caption for each image of a batch."""
        self.metric.update(self.write(model, batch), batch.references, batch.index.tolist())

    def write(self, model: Any, batch: Any) -> list[str]:
        """The model's captions of a batch."""
        options = self.options if self.stage == "test" else self.val_options
        return [answer.text for answer in model.generate(batch, **options)]

    def compute(self) -> dict[str, Any]:
        """Metric words and their values in per cent."""
        return self.metric.compute()

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit, references and settings of a metric word."""
        return self.metric.facts(word)

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """Images with what was written of them, and predictions.jsonl beside the pictures."""
        from rsvlm.evaluation.predictions import beside, write_answers
        from rsvlm.report.answers import draw_answers

        del model, preprocess
        write_answers(self.metric.used, dataset, beside(folder) / "predictions.jsonl")
        draw_answers(self.metric, dataset, folder)


class ChangeEvaluation(CaptionEvaluation):
    """Change captions: all pairs, the changed and the unchanged ones, and changed or not at all.

    Args:
        protocol: of captions; `token_ids` is the field's.
        data: whose sentences tell an unchanged pair (`metrics/change/templates.py`); it is also
            the protocol of the accuracies from captions.
        templates: sentences of your own in their place.
        **options: see `CaptionEvaluation`.
    """

    def __init__(
        self,
        *,
        protocol: str = "token_ids",
        data: str = "levir_cc",
        templates: Sequence[str] | None = None,
        metrics: Sequence[str] | None = None,
        val_metrics: Sequence[str] | None = QUICK,
        options: Mapping[str, Any] | None = None,
        val_options: Mapping[str, Any] | None = None,
        vocabulary: str | None = None,
    ) -> None:
        super().__init__(
            protocol=protocol,
            metrics=metrics,
            val_metrics=val_metrics,
            options=options,
            val_options=val_options,
            vocabulary=vocabulary,
        )
        self.data, self.templates = data, templates
        self.sentences = templates_of(data, templates)
        self.flag_protocol = "custom_templates" if templates else data

    def make(self, model: Any, metrics: Sequence[str] | None) -> ChangeCaptions:
        """An empty metric."""
        return ChangeCaptions(
            self.protocol,
            data=self.data,
            templates=self.templates,
            metrics=metrics,
            vocabulary=self.words(model),
        )

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties both metrics."""
        super().start(model, dataset, device)
        self.flags = ChangeFlags(self.flag_protocol, templates=self.templates).to(device)

    def update(self, model: Any, batch: Any) -> None:
        """Writes a caption for each pair of a batch."""
        written = self.write(model, batch)
        told = changed(batch, self.sentences)
        ids = batch.index.tolist()
        assert isinstance(self.metric, ChangeCaptions)
        self.metric.update(written, batch.references, ids, told)
        self.flags.update(written, told, ids)

    def compute(self) -> dict[str, Any]:
        """Metric words and their values in per cent."""
        self.flag_words = self.flags.compute()
        return self.metric.compute() | self.flag_words

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit, references and settings of a metric word."""
        if word in self.flag_words:
            return self.flags.facts(word) | {"protocol": self.flag_protocol}
        return super().facts(word)

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """As above, and attention.png: maps of what some of the captions rest on."""
        super().draw(model, dataset, preprocess, folder)
        if is_map_generator(model) and can_run_alone(model):
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
