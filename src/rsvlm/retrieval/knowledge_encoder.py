"""What a knowledge base asks of an encoder, and what it gives back; a CLIP as such an encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rsvlm.retrieval.knowledge_records import KnowledgeRecord
from rsvlm.retrieval.knowledge_version import Floats, Version


class KnowledgeEncoder(Protocol):
    """One space of features for pictures and texts; arrays are NumPy's, so torch is no must.

    Attributes:
        name: of the model and its weights, for messages.
        text_length: tokens that one text may have; what comes behind is not seen.
    """

    name: str
    text_length: int

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without marks at its ends."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """[N, D] float32 of texts."""
        ...

    def encode_images(self, images: Sequence[Any]) -> Floats:
        """[N, D] float32 of pictures, paths or read.

        Raises:
            UserError: one cannot be read.
        """
        ...


@dataclass(frozen=True)
class Hit:
    """What a search found.

    Attributes:
        record: the place.
        type: of the chunk.
        text: of the chunk.
        score: by which it was ranked.
        image_score: cosine of the pictures; None where the question or the record has none.
        text_score: cosine of the texts; None where the question has none.
        span: first and last character of the text within its whole chunk.
        order: the chunk's position in the order in which chunks were made.
    """

    record: KnowledgeRecord
    type: str
    text: str
    score: float
    image_score: float | None
    text_score: float | None
    span: tuple[int, int]
    order: int

    @classmethod
    def of(
        cls, version: Version, row: int, score: float, seen: float | None, told: float | None
    ) -> Hit:
        """A row of a version with its scores."""
        chunk = version.chunk(row)
        record = version.records[int(version.record_of[row])]
        seen = seen if record.image else None
        return cls(record, chunk.type, chunk.text, score, seen, told, chunk.span, chunk.order)


class Prepared:
    """A picture as an encoder's tower takes it.

    Args:
        pixels: of `model.preprocess`.
    """

    def __init__(self, pixels: Any) -> None:
        self.pixels = pixels


class Prepare:
    """From a picture as stored to what is left for a `ClipEncoder` to encode.

    Args:
        preprocess: of its model.
    """

    def __init__(self, preprocess: Any) -> None:
        self.preprocess = preprocess

    def __call__(self, picture: Any) -> Prepared:
        """The picture, made small."""
        return Prepared(self.preprocess(picture))


class ClipEncoder:
    """A CLIP, or another model of one space of features for pictures and texts.

    Args:
        model: has `encode_image`, `encode_text`, `preprocess` and `tokenizer`.
        name: of the model and its weights.
        batch_size: pictures or texts encoded at a time.
        loaded_by: what loads it again, kept in a base's manifest.
    """

    def __init__(
        self,
        model: Any,
        name: str,
        *,
        batch_size: int = 64,
        loaded_by: Mapping[str, Any] | None = None,
    ) -> None:
        self.model, self.name, self.batch_size = model, name, batch_size
        self.loaded_by = dict(loaded_by or {})
        self.text_length = int(getattr(model, "context_length", 77))

    def probe_picture(self) -> Floats:
        """[D] of a picture that is always the same; towers of pictures differ by it."""
        from rsvlm.retrieval.gallery import probe_of

        made: Floats = probe_of(self.model).numpy()
        return made

    @property
    def prepare(self) -> Prepare:
        """What makes pictures small where they are read, which may be another process."""
        return Prepare(self.model.preprocess)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, without marks at its ends.

        Of a tokenizer that only cuts, `text_length` stands for all that it cut.
        """
        inner = getattr(self.model.tokenizer, "encode", None)
        if inner is not None:
            return len(inner(text))
        ids = self.model.tokenizer([text])
        found = max(0, int((ids != 0).sum()) - 2)
        return found if found < self.text_length - 2 else self.text_length

    def encode_texts(self, texts: Sequence[str]) -> Floats:
        """[N, D] of unit length; a text over `text_length` is cut."""
        import torch

        found = []
        device = self.model.logit_scale.device
        mode = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                for start in range(0, len(texts), self.batch_size):
                    ids = self.model.tokenizer(list(texts[start : start + self.batch_size]))
                    features = self.model.encode_text(ids.to(device), normalize=True)
                    found.append(features.float().cpu().numpy())
        finally:
            self.model.train(mode)
        out: Floats = np.concatenate(found)
        return out

    def encode_images(self, images: Sequence[Any]) -> Floats:
        """[N, D] of unit length, of paths, pictures of any sizes, or what `prepare` made of them.

        Raises:
            UserError: one cannot be read.
        """
        import torch

        from rsvlm.data.images import read_any
        from rsvlm.retrieval.gallery import features_of

        found, transform = [], self.model.preprocess
        for start in range(0, len(images), self.batch_size):
            made = []
            for image in images[start : start + self.batch_size]:
                if isinstance(image, Prepared):
                    made.append(image.pixels)
                else:
                    path = isinstance(image, str | Path)
                    made.append(transform(read_any(image)[0] if path else image))
            found.append(features_of(self.model, torch.stack(made)).numpy())
        out: Floats = np.concatenate(found)
        return out
