"""How good a model's image features are: a linear layer on them, and their nearest neighbours.

Both learn from the data set's training split (`data.splits.fit` names another one) and are measured
on the split that is evaluated; see `metrics/probe.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.protocols import attributes_of
from rsvlm.errors import UserError
from rsvlm.evaluation.base import Evaluation, Measurement, can_run_alone
from rsvlm.metrics.probe import Probe


class _ProbeEvaluation(Evaluation):
    """What both share: features of two splits, and one metric over them."""

    needs = "space"
    learns = True
    from_records = False
    reason = "a probe is fitted to the features of two splits, which are not kept"

    def __init__(
        self,
        protocol: Literal["linear_probe", "knn"],
        options: dict[str, Any],
        published: dict[str, Any],
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.kind, self.options = protocol, options
        # Other numbers are another protocol, and two never share a metric's name.
        same = all(options[name] == value for name, value in published.items())
        self.protocol = protocol if same else f"custom_{protocol}"

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric.

        Raises:
            UserError: the data set has no classes.
        """
        del model
        classes = attributes_of(dataset).classes
        if not classes:
            raise UserError(
                f"{dataset.name} has no classes: a probe needs a data set with labels, such as "
                "data=whurs19."
            )
        self.tested = dataset
        self.metric = Probe(classes, self.kind, options=self.options).to(device)

    def learn(self, model: Any, dataset: Any, batches: Iterable[Any]) -> None:
        """Encodes the split that is learnt from.

        Raises:
            UserError: its classes are others, or it shares images with the one that is tested.
        """
        if list(dataset.classes or ()) != self.metric.accuracy.classes:
            raise UserError(
                f"{dataset.name} has other classes in its split {dataset.split} than in "
                f"{self.tested.split}: a probe needs the same ones."
            )
        shared = _paths(dataset) & _paths(self.tested)
        if shared or (dataset.split == self.tested.split and dataset.name == self.tested.name):
            raise UserError(
                f"the splits {dataset.split} and {self.tested.split} of {dataset.name} share "
                f"{len(shared) or len(dataset)} images: a probe must not be tested on what it "
                "learnt from. Choose others with data.splits.train= and data.splits.test=."
            )
        for batch in batches:
            self._add(model, batch, train=True)

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Nothing: what a probe says of an image is known when all images are."""
        del model, batch
        return []

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """None.

        Raises:
            UserError: always; a probe has no records.
        """
        raise UserError(f"{facts.name}: {self.reason}. Evaluate again.")

    def update(self, model: Any, batch: Any, samples: Sequence[int] = ()) -> None:
        """Encodes a batch of the split that is tested."""
        del samples
        self._add(model, batch, train=False)

    def rehearse(self, model: Any, batch: Any) -> None:
        """Encodes a batch and keeps nothing."""
        model.encode_image(batch.images)

    def _add(self, model: Any, batch: Any, *, train: bool) -> None:
        bare = [
            name for name, label in zip(batch.ids, batch.label.tolist(), strict=True) if label < 0
        ]
        if bare:
            raise UserError(f"{bare[0]} has no class: a probe needs one for every image.")
        features = model.encode_image(batch.images)
        self.metric.update(features, batch.label, batch.index, train=train)

    def compute(self) -> dict[str, Any]:
        """Accuracies in per cent."""
        values = self.metric.compute()
        self._count = int(self.metric.confusion_matrix.sum())
        return values

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit and chance level of a metric word."""
        return {"count": self._count, "unit": "%", "chance": self.metric.chance()[word]}

    def draw_with_model(self, model: Any, dataset: Any, preprocess: Any, folder: Path) -> None:
        """The confusion matrix, and a dozen images with the classes they were given."""
        from rsvlm.report import draw_classification

        def scores(positions: list[int]) -> torch.Tensor:
            images = torch.stack([preprocess(dataset[i].images[0]) for i in positions])
            device = next(model.parameters()).device
            with torch.no_grad():
                return self.metric.scores(model.encode_image(images.to(device)))

        alone = can_run_alone(model)
        draw_classification(self.metric.accuracy, dataset, folder, scores=scores if alone else None)


class LinearProbeEvaluation(_ProbeEvaluation):
    """A linear layer on frozen features.

    The defaults are RemoteCLIP's; other numbers make the protocol `custom_linear_probe`.

    Args:
        epochs: passes over the features.
        lr: first learning rate of the cosine.
        weight_decay: on weights and biases alike.
        momentum: of SGD.
        batch: rows a step.
        seed: of the initial weights.
        **shared: see `Evaluation`.
    """

    def __init__(
        self,
        *,
        epochs: int = 1000,
        lr: float = 0.8,
        weight_decay: float = 4e-5,
        momentum: float = 0.9,
        batch: int = 10_000,
        seed: int = 0,
        **shared: Any,
    ) -> None:
        published = {
            "epochs": 1000,
            "lr": 0.8,
            "weight_decay": 4e-5,
            "momentum": 0.9,
            "batch": 10_000,
        }
        options = {
            "epochs": epochs,
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "batch": batch,
            "seed": seed,
        }
        super().__init__("linear_probe", options, published, **shared)


class NeighboursEvaluation(_ProbeEvaluation):
    """Weighted vote of the nearest training features.

    The defaults are RemoteCLIP's; other numbers make the protocol `custom_knn`.

    Args:
        k: neighbours.
        temperature: of the weights exp(cosine / temperature).
        **shared: see `Evaluation`.
    """

    def __init__(self, *, k: int = 20, temperature: float = 0.07, **shared: Any) -> None:
        options = {"k": k, "temperature": temperature}
        super().__init__("knn", options, {"k": 20, "temperature": 0.07}, **shared)


def _paths(dataset: Any) -> set[str]:
    return {str(entry.path) for entry in attributes_of(dataset).entries or ()}
