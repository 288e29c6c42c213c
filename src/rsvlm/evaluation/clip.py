"""Retrieval and zero-shot classification with a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rsvlm.data.text import class_prompts as prompt_sets
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import Evaluation, can_run_alone
from rsvlm.metrics.retrieval import Protocol as RetrievalProtocol
from rsvlm.metrics.retrieval import Retrieval, text_keys
from rsvlm.metrics.zeroshot import Ensemble, ZeroShot

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


class RetrievalEvaluation(Evaluation):
    """Images find their captions and captions their images; see `metrics/retrieval.py`.

    Args:
        protocol: `remoteclip` or `skyscript`.
        prefix: put before each caption; None takes the protocol's.
        block: scores computed at a time, squared.
    """

    def __init__(
        self,
        *,
        protocol: RetrievalProtocol = "remoteclip",
        prefix: str | None = None,
        block: int = 1024,
    ) -> None:
        self.metric = Retrieval(protocol, prefix=prefix, block=block)
        self.protocol = protocol

    def prompt(self, text: str) -> str:
        """What is encoded for a caption."""
        return self.metric.prompt(text)

    def start(self, model: nn.Module, dataset: Any, device: torch.device) -> None:
        """Empties the metric."""
        del model, dataset
        self.metric.to(device).reset()

    def update(self, model: Any, batch: Any) -> None:
        """Encodes a batch of images with all their captions."""
        images = model.encode_image(batch.images, normalize=True)
        texts = model.encode_text(batch.input_ids, normalize=True)
        keys = text_keys(batch.texts).to(images.device)
        self.metric.update(images, texts, batch.image_of_text, batch.index, keys)

    def compute(self) -> dict[str, Any]:
        """Recalls in per cent."""
        values = self.metric.compute()
        # Facts are taken here, where the ranks have met.
        self._facts = {"count": self.metric.counts()["images"]}
        self._chance = self.metric.chance()
        return values

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and chance level of a metric word."""
        return {**self._facts, "unit": "%", "chance": self._chance[word]}

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """Sheets of texts with the images they found, and the other way round."""
        from rsvlm.report import draw_retrieval

        del model, preprocess
        draw_retrieval(self.metric, dataset, folder)


class ZeroShotEvaluation(Evaluation):
    """Classes find their images through text; see `metrics/zeroshot.py`.

    Args:
        protocol: a published pair of templates and ensembling rule (`data/text/class_prompts.py`).
        templates: other templates, with `{}` or `{c}` for the class; the protocol is then called
            `custom` with the rule's name.
        ensemble: `normalised_mean` or `mean`; None takes the protocol's.
        classes: other class names, in the order of the labels.
    """

    def __init__(
        self,
        *,
        protocol: str = "skyscript",
        templates: Sequence[str] | None = None,
        ensemble: Ensemble | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
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

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Builds the classifier from the data set's class names.

        Raises:
            UserError: no classes, or a list that does not fit.
        """
        classes = self.classes or dataset.classes
        if not classes:
            raise UserError(f"{dataset.name} has no classes; give evaluation.classes=[...].")
        if dataset.classes and len(classes) != len(dataset.classes):
            raise UserError(
                f"evaluation.classes names {len(classes)} classes, {dataset.name} has "
                f"{len(dataset.classes)}: {', '.join(dataset.classes)}."
            )
        self.metric = ZeroShot(classes, self.ensemble).to(device)
        templates: Sequence[str] = self.templates
        if self.published and self.protocol == "skyscript":
            templates = skyscript_templates(dataset.name)
        self.metric.set_text_features(prompt_features(model, classes, templates, device))

    def update(self, model: Any, batch: Any) -> None:
        """Encodes a batch of images."""
        self.metric.update(model.encode_image(batch.images), batch.label)

    def compute(self) -> dict[str, Any]:
        """Accuracies in per cent."""
        values = self.metric.compute()
        # Taken here, where the ranks have met.
        self._count = int(self.metric.confusion_matrix.sum())
        return values

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and chance level of a metric word."""
        return {"count": self._count, "unit": "%", "chance": self.metric.chance()[word]}

    def draw(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """The confusion matrix, and a dozen images with the classes they were given."""
        from rsvlm.report import draw_classification

        def scores(positions: list[int]) -> torch.Tensor:
            images = [preprocess(dataset[i].images[0]) for i in positions]
            device = next(model.parameters()).device
            with torch.no_grad():
                return self.metric.logits(model.encode_image(torch.stack(images).to(device)))

        alone = can_run_alone(model)
        draw_classification(self.metric, dataset, folder, scores=scores if alone else None)
