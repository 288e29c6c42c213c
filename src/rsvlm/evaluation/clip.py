"""Zero-shot classification with a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.text import class_prompts as prompt_sets
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import ALONE, Evaluation, Measurement, facts_of
from rsvlm.metrics.classification import classification_statistics
from rsvlm.metrics.zeroshot import Accuracy, Ensemble, ZeroShot

# Data set → set of templates in `data/text/class_prompts.py`: SkyScript's fine-grained sets have
# their own.
FINE = {
    "roof_shape_v1": "skyscript_building",
    "roof_shape_v2": "skyscript_building",
    "smoothness_v1": "skyscript_road",
    "smoothness_v2": "skyscript_road",
    "surface_v1": "skyscript_road",
    "surface_v2": "skyscript_road",
}


def skyscript_templates(dataset: str) -> tuple[str, ...]:
    """SkyScript's templates for a data set."""
    return prompt_sets.TEMPLATES[FINE.get(dataset, "skyscript")]


def prompt_features(
    model: Any, classes: Sequence[str], templates: Sequence[str], device: torch.device
) -> torch.Tensor:
    """Raw text features [templates, classes, D] of every template filled with every class."""
    encode = model.tokenizer
    with torch.no_grad():
        rows = [
            model.encode_text(encode([prompt_sets.fill(t, c) for c in classes]).to(device))
            for t in templates
        ]
    return torch.stack(rows)


class ZeroShotEvaluation(Evaluation):
    """Classes find their images through text; see `metrics/zeroshot.py`.

    Args:
        protocol: a published pair of templates and ensembling rule (`data/text/class_prompts.py`).
        templates: other templates, with `{}` or `{c}` for the class; the protocol is then called
            `custom` with the rule's name.
        ensemble: `normalised_mean` or `mean`; None takes the protocol's.
        classes: other class names, in the order of the labels.
        **shared: see `Evaluation`.
    """

    needs = "space"

    def __init__(
        self,
        *,
        protocol: str = "skyscript",
        templates: Sequence[str] | None = None,
        ensemble: Ensemble | None = None,
        classes: Sequence[str] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        known = prompt_sets.ZERO_SHOT
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        default = known[protocol]
        self.templates = list(templates or default.templates)
        self.published = templates is None
        self.ensemble: Ensemble = ensemble or default.ensemble
        self.protocol = protocol
        if templates is not None or self.ensemble != default.ensemble:
            # Another choice is another protocol, and two never share a metric's name.
            self.protocol = f"custom_{self.ensemble}"
        self.classes = list(classes) if classes is not None else None

    def dataset_facts(self, model: Any, dataset: Any) -> DatasetFacts:
        """The class names that are asked for.

        Raises:
            UserError: no classes, or a list that does not fit.
        """
        del model
        classes = self.classes or dataset.classes
        if not classes:
            raise UserError(f"{dataset.name} has no classes; give +evaluation.classes=[...].")
        if dataset.classes and len(classes) != len(dataset.classes):
            raise UserError(
                f"evaluation.classes names {len(classes)} classes, {dataset.name} has "
                f"{len(dataset.classes)}: {', '.join(dataset.classes)}."
            )
        facts = facts_of(dataset)
        facts.classes = list(classes)
        return facts

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Builds the classifier from the data set's class names."""
        classes = self.dataset_facts(model, dataset).classes
        self.classifier = ZeroShot(classes, self.ensemble).to(device)
        templates: Sequence[str] = self.templates
        if self.published and self.protocol == "skyscript":
            templates = skyscript_templates(dataset.name)
        self.classifier.set_text_features(prompt_features(model, classes, templates, device))

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Scores every class for each image of a batch."""
        features = model.encode_image(batch.images)
        self.classifier.check_labels(batch.label, len(features))
        if not bool(features.isfinite().all()):
            raise ValueError("image features are not finite.")
        return scored(batch, self.classifier.logits(features), self.known.classes)

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Accuracies in per cent."""
        self.metric, found = accuracy_of(records, facts)
        return found

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """The confusion matrix, and a dozen images with the classes they were given."""
        from rsvlm.report import draw_classification

        draw_classification(self.metric, dataset, folder, scores=scores_of(records))


def scored(batch: Any, scores: torch.Tensor, classes: Sequence[str]) -> list[PredictionRecord]:
    """Records of a batch of images with a score for each class.

    Args:
        batch: its `index`, `ids` and `label`.
        scores: [b, classes].
        classes: their names.
    """
    rows = scores.detach().float().cpu()
    # Of equal scores the earlier class is the answer, as in the metric.
    best = rows.sort(dim=1, descending=True, stable=True).indices[:, 0].tolist()
    return [
        PredictionRecord(
            id, sample=str(name), prediction=classes[predicted], scores=row, label=int(label)
        )
        for id, name, predicted, row, label in zip(
            batch.index.tolist(), batch.ids, best, rows.tolist(), batch.label.tolist(), strict=True
        )
    ]


def table_of(
    records: Sequence[PredictionRecord], classes: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """[N, classes] scores and [N] labels of records.

    Raises:
        UserError: a record without them.
    """
    for one in records:
        if len(one.scores) != len(classes) or one.label is None:
            raise UserError(
                f"prediction {one.id!r} has {len(one.scores)} scores and the label {one.label}, "
                f"and there are {len(classes)} classes: it is of another evaluation. Evaluate "
                "again."
            )
    scores = torch.tensor([one.scores for one in records], dtype=torch.float32)
    return scores, torch.tensor([one.label for one in records])


def accuracy_of(
    records: Sequence[PredictionRecord], facts: DatasetFacts
) -> tuple[Accuracy, Measurement]:
    """Accuracies of records with a score for each class."""
    scores, labels = table_of(records, facts.classes)
    metric = Accuracy(facts.classes, **ALONE)
    metric.update(scores, labels)
    values = {word: float(value) for word, value in metric.compute().items()}
    chance = metric.chance()
    about = {w: {"count": len(records), "unit": "%", "chance": chance[w]} for w in values}
    images = [one.id for one in records]
    statistics = classification_statistics(images, scores.numpy(), labels.numpy())
    return metric, Measurement(values, about, statistics)


def scores_of(records: Sequence[PredictionRecord]) -> Any:
    """Positions in a data set -> [n, classes] scores, as records hold them."""
    held = {one.id: one.scores for one in records}

    def scores(positions: list[int]) -> torch.Tensor:
        return torch.tensor([held[position] for position in positions])

    return scores
