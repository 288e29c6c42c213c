"""Vectors and scores of pictures, and the best share of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvlm.curate.encoder import Encoder, unit
from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.errors import UserError


@dataclass
class ImageEmbedding:
    """Adds `embedding`, of unit length (NeMo Curator's `ImageEmbeddingStage`).

    Args:
        encoder: of pictures.
        batch_size: records at a time.
    """

    encoder: Encoder
    batch_size: int = 64
    name = "image_embedding"
    version = "1"

    def setup(self) -> None:
        """Loads the encoder."""
        self.encoder.load()

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        from rsvlm.data.images import BrokenImage

        try:
            found = self.encoder.images([record["image"] for record in records])
        except BrokenImage:  # one by one, to tell which
            return [self._one(record) for record in records]
        return [{**r, "embedding": v} for r, v in zip(records, found, strict=True)]

    def _one(self, record: Record) -> Outcome:
        from rsvlm.data.images import BrokenImage

        try:
            return {**record, "embedding": self.encoder.images([record["image"]])[0]}
        except BrokenImage as error:
            return Dropped("damaged", error.reason)


@dataclass
class ImageTextSimilarity:
    """Adds the cosine of `embedding` with the mean of some texts, or with the record's caption.

    What Data-Juicer's `image_text_similarity_filter` computes; what is dropped, `TopK` or `least`
    say.

    Args:
        encoder: the one that made `embedding`.
        texts: whose mean vector is compared; empty compares each record's caption.
        field: of the score.
        least: records below are dropped; None drops none.
        batch_size: records at a time.
    """

    encoder: Encoder
    texts: Sequence[str] = ()
    field: str = "clip_score"
    least: float | None = None
    batch_size: int = 256
    name = "image_text_similarity_filter"
    version = "1"

    def setup(self) -> None:
        """Loads the encoder and encodes the texts."""
        self.encoder.load()
        self._mean = unit(self.encoder.texts(self.texts).mean(0)) if self.texts else None

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        seen = np.stack([record["embedding"] for record in records])
        if self._mean is not None:
            scores = seen @ self._mean
        else:
            scores = (seen * self.encoder.texts([r["caption"] for r in records])).sum(1)
        return [
            Dropped("low_score", f"{score:.3f} < {self.least:g}")
            if self.least is not None and score < self.least
            else {**record, self.field: float(score)}
            for record, score in zip(records, scores, strict=True)
        ]


@dataclass
class TopK:
    """Keeps the best share of all records by some fields.

    Data-Juicer calls it `topk_specified_field_selector`. A record stays where it is within the
    share of each field, all counted over the same records.

    Args:
        ratios: field -> share that stays, above 0 up to 1.

    Raises:
        UserError: a share that is none.
    """

    ratios: Mapping[str, float]
    name = "topk_specified_field_selector"
    version = "1"

    def __post_init__(self) -> None:
        for field, ratio in self.ratios.items():
            if not 0 < ratio <= 1:
                raise UserError(
                    f"ratios.{field}={ratio:g}: a share above 0 up to 1, as 0.3 for 30 per cent."
                )

    def key(self, record: Record) -> Any:
        """The fields' values."""
        return np.array([record[field] for field in self.ratios], np.float32)

    def decide(self, ids: Sequence[str], keys: Any) -> Sequence[Mapping[str, Any] | Dropped]:
        """See `Barrier`."""
        found: list[Mapping[str, Any] | Dropped] = [{} for _ in ids]
        for column, (field, ratio) in enumerate(self.ratios.items()):
            values = keys[:, column]
            # Of equal values the earlier stays.
            order = np.argsort(-values, kind="stable")
            for i in order[math.ceil(round(ratio * len(ids), 6)) :].tolist():
                if not isinstance(found[i], Dropped):
                    found[i] = Dropped(f"low_{field}", f"{values[i]:.3f}")
        return found
