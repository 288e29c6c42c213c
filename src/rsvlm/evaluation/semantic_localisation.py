"""Semantic localisation: where in a large image is what a sentence says; `metrics/selo.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Picture
from rsvlm.data.transforms import sides, to_tensor
from rsvlm.errors import UserError
from rsvlm.evaluation.base import Evaluation, Measurement, can_run_alone
from rsvlm.metrics.intervals import means
from rsvlm.metrics.selo import WORDS, SeLo, indicators


class Whole:
    """The transform that changes no pixel."""

    def __call__(self, image: Picture) -> torch.Tensor:
        """The image as uint8 [3, H, W]."""
        return to_tensor(image)

    def apply_with_geometry(
        self, images: Sequence[Picture]
    ) -> tuple[list[torch.Tensor], list[Geometry]]:
        """All images of a sample; their pixels stay where they are."""
        return [to_tensor(image) for image in images], [identity(*sides(i)) for i in images]


@dataclass(slots=True)
class WholeImages:
    """Images at their own sizes, each with a sentence and its regions."""

    items: list[TransformedSample] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.items)

    def to(self, device: torch.device | str) -> WholeImages:
        """Itself: an image stays where it is, and its windows go to the device as they are cut."""
        del device
        return self


def collate_whole(items: Sequence[TransformedSample | Skipped]) -> WholeImages:
    """Keeps items as they are."""
    kept = [item for item in items if isinstance(item, TransformedSample)]
    return WholeImages(kept, [item.reason for item in items if isinstance(item, Skipped)])


class LocalisationEvaluation(Evaluation):
    """Rsu, Ras, Rda and Rmi on AIR-SLT; an image's windows are encoded once for all sentences.

    Args:
        protocol: `selo_jpeg`, as published (windows and maps go through JPEG), or `selo`.
        batch: windows encoded at a time.
        **shared: see `Evaluation`.
    """

    needs = "space"

    def __init__(self, *, protocol: str = "selo_jpeg", batch: int = 64, **shared: Any) -> None:
        super().__init__(**shared)
        self.metric = SeLo(protocol)  # type: ignore[arg-type]
        self.protocol, self.batch = protocol, batch

    def transform(self) -> Any:
        """The whole picture, unscaled."""
        return Whole()

    def collate(self) -> Any:
        """No stacking: sizes differ."""
        return collate_whole

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the kept features.

        Raises:
            UserError: a model in shards, which all ranks would have to run equally often.
        """
        del dataset
        if not can_run_alone(model):
            raise UserError(
                "evaluation=localisation: images have windows of different numbers, and a "
                "model in shards runs on all ranks or on none. Choose trainer=gpu or trainer=ddp."
            )
        self.device = device
        self.features: dict[str, torch.Tensor] = {}
        self.tokenize, self.preprocess = model.tokenizer, model.preprocess

    def predict(self, model: Any, batch: WholeImages) -> list[PredictionRecord]:
        """Scores the windows of each image against its sentence."""

        def encode(windows: list[Image.Image]) -> torch.Tensor:
            images = torch.stack([self.preprocess(window) for window in windows])
            return model.encode_image(images.to(self.device), normalize=True)

        records = []
        for item in batch.items:
            image, meta = item.sample.images[0], item.sample.meta
            name = meta.get("image", meta["id"])
            if name not in self.features:
                pixels = image.permute(1, 2, 0).numpy()  # type: ignore[union-attr]
                self.features[name] = self.metric.encode(pixels, encode, batch=self.batch)
            ids = self.tokenize(item.sample.texts[:1]).to(self.device)
            text = model.encode_text(ids, normalize=True)[0]
            size = (image.shape[1], image.shape[2])  # type: ignore[union-attr]
            found = indicators(self.metric.map(self.features[name] @ text, size), meta["polygons"])
            records.append(
                PredictionRecord(
                    item.index, str(meta["id"]), question=item.sample.texts[0], values=found
                )
            )
        return records

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """The means of the four indicators, 0..1."""
        del facts
        columns = {word: np.array([one.values[word] for one in records]) for word in WORDS}
        values = {word: float(column.mean()) for word, column in columns.items()}
        about: dict[str, dict[str, Any]] = {
            word: {"count": len(records), "unit": ""} for word in values
        }
        images = [one.id for one in records]
        return Measurement(values, about, [means(images, dict(columns), scale=1.0)])
