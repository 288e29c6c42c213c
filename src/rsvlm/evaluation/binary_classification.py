"""SkyScript's binary mode: is a class in a picture or not; see `metrics/binary.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.evaluation.base import Evaluation
from rsvlm.evaluation.clip import prompt_features, skyscript_templates
from rsvlm.metrics.binary import Binary
from rsvlm.metrics.zeroshot import Ensemble, class_embeddings


class BinaryEvaluation(Evaluation):
    """The best F1 of each class over thresholds on the cosine with its prompts.

    Args:
        templates: other templates than SkyScript's; the protocol is then `custom_binary`.
        ensemble: how their embeddings become one; another rule than SkyScript's is `custom_binary`.
    """

    def __init__(
        self,
        *,
        templates: Sequence[str] | None = None,
        ensemble: Ensemble = "normalised_mean",
    ) -> None:
        self.templates = None if templates is None else list(templates)
        self.ensemble = ensemble
        own = templates is not None or ensemble != "normalised_mean"
        self.protocol = "custom_binary" if own else "binary"

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Builds the classifiers from the data set's class names.

        Raises:
            UserError: the data set has no classes.
        """
        if not dataset.classes:
            raise UserError(f"{dataset.name} has no classes to ask for, one by one.")
        self.metric = Binary(dataset.classes).to(device)
        templates = self.templates or skyscript_templates(dataset.name)
        features = prompt_features(model, dataset.classes, templates, device)
        self.embeddings = class_embeddings(features, self.ensemble)

    def update(self, model: Any, batch: Any) -> None:
        """Encodes a batch of images."""
        features = model.encode_image(batch.images)
        with torch.autocast(device_type=features.device.type, enabled=False):
            cosines = F.normalize(features.float(), dim=-1) @ self.embeddings.T
        self.metric.update(cosines, batch.label)

    def compute(self) -> dict[str, Any]:
        """F1, precision and recall in per cent."""
        values = self.metric.compute()
        self._count = int(self.metric.seen)
        self._chance = self.metric.chance()
        return values

    def facts(self, word: str) -> dict[str, Any]:
        """Count, unit, and what "yes" to every image scores."""
        return {"count": self._count, "unit": "%", "chance": self._chance[word]}
