"""SkyScript's binary mode: is a class in a picture or not; see `metrics/binary.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.errors import UserError
from rsvlm.evaluation.base import ALONE, Evaluation, Measurement
from rsvlm.evaluation.clip import prompt_features, scored, skyscript_templates, table_of
from rsvlm.metrics.binary import Binary, binary_statistics
from rsvlm.metrics.zeroshot import Ensemble, class_embeddings


class BinaryEvaluation(Evaluation):
    """The best F1 of each class over thresholds on the cosine with its prompts.

    Args:
        templates: other templates than SkyScript's; the protocol is then `custom_binary`.
        ensemble: how their embeddings become one; another rule than SkyScript's is `custom_binary`.
        **shared: see `Evaluation`.
    """

    needs = "space"

    def __init__(
        self,
        *,
        templates: Sequence[str] | None = None,
        ensemble: Ensemble = "normalised_mean",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.templates = None if templates is None else list(templates)
        self.ensemble = ensemble
        own = templates is not None or ensemble != "normalised_mean"
        self.protocol = "custom_binary" if own else "binary"

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Builds the classifiers from the data set's class names.

        Raises:
            UserError: the data set has no classes.
        """
        if not dataset.classes:
            raise UserError(f"{dataset.name} has no classes to ask for, one by one.")
        templates = self.templates or skyscript_templates(dataset.name)
        features = prompt_features(model, dataset.classes, templates, device)
        self.embeddings = class_embeddings(features, self.ensemble)

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Cosines of each image of a batch and each class."""
        features = model.encode_image(batch.images)
        with torch.autocast(device_type=features.device.type, enabled=False):
            cosines = F.normalize(features.float(), dim=-1) @ self.embeddings.T
        if not bool(cosines.isfinite().all()):
            raise ValueError("cosines are not finite.")
        return scored(batch, cosines, self.known.classes)

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """F1, precision and recall in per cent; chance is "yes" to every image."""
        scores, labels = table_of(records, facts.classes)
        metric = Binary(facts.classes, **ALONE)
        metric.update(scores, labels)
        values = {word: float(value) for word, value in metric.compute().items()}
        chance = metric.chance()
        about = {w: {"count": len(records), "unit": "%", "chance": chance[w]} for w in values}
        statistics = binary_statistics([one.id for one in records], scores, labels)
        return Measurement(values, about, statistics)
