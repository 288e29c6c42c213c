"""RS3: captions for sets that have none, written by BLIP-2, ranked by CLIPs, firm under turning."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image

from rsvlm.curate.encoder import Encoder
from rsvlm.curate.record import Dropped, Outcome, Record, rng
from rsvlm.errors import UserError


@dataclass
class ImageCaptioning:
    """Adds `candidates`, texts of a captioner (Data-Juicer's `image_captioning_mapper`).

    RS5M: 20 by nucleus sampling of a BLIP-2 tuned on remote sensing. What is drawn hangs on the
    seed and the first record of a batch.

    Args:
        model: a model option.
        ckpt: its checkpoint, or the folder of a run, with `model: null`.
        words: overrides; `model.candidates=20` draws twenty.
        batch_size: records at a time.
        seed: of the draws.
    """

    model: str | None = None
    ckpt: str | None = None
    words: Sequence[str] = ("model.candidates=20",)
    batch_size: int = 8
    seed: int = 0
    name = "image_captioning_mapper"
    version = "1"

    def setup(self) -> None:
        """Loads the captioner."""
        _captioner(self.model, self.ckpt, tuple(self.words))

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        import torch

        from rsvlm.inference.ask import ask_many

        model = _captioner(self.model, self.ckpt, tuple(self.words))
        pictures = {record["id"]: [_picture(record)] for record in records}
        draw = rng(self.seed, "captions", records[0]["id"])
        with torch.random.fork_rng():
            torch.manual_seed(int(draw.integers(2**31)))
            answers = ask_many(model, pictures)
        return [self._outcome(record, answers[record["id"]]) for record in records]

    def _outcome(self, record: Record, answer: Any) -> Outcome:
        if isinstance(answer, str):
            return Dropped("damaged", answer)
        texts = [text for text, _ in answer.candidates] or [answer.text]
        # The same words twice say no more.
        found = list(dict.fromkeys(filter(None, (" ".join(text.split()) for text in texts))))
        return {**record, "candidates": found} if found else Dropped("no_caption")


@dataclass
class CaptionRanking:
    """Keeps the candidates that are nearest to the picture, best first.

    RS5M: the best 10 of 20 by CLIP ViT-H/14, then the best 5 of these by RN50x64.

    Args:
        encoder: of pictures and texts.
        keep: candidates that stay.
        batch_size: records at a time.
    """

    encoder: Encoder
    keep: int = 10
    batch_size: int = 16
    name = "image_text_similarity_ranker"
    version = "1"

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise UserError(f"keep={self.keep}: at least one caption stays.")

    def setup(self) -> None:
        """Loads the encoder."""
        self.encoder.load()

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        images = self.encoder.images([record["image"] for record in records])
        found: list[Outcome] = []
        for record, image in zip(records, images, strict=True):
            scores = self.encoder.texts(record["candidates"]) @ image
            order = np.argsort(-scores, kind="stable")[: self.keep]
            best = [record["candidates"][i] for i in order]
            found.append({**record, "candidates": best, "scores": scores[order].tolist()})
        return found


@dataclass
class RotationInvariantCaption:
    """Picks `top_cap`, the best candidate, and `ssl_cap`, the one that turning changes least.

    Of K candidates, that whose cosine with the picture varies least over N angles:
    `argmin_j Var_n cos(text_j, image_n)`. RS5M: 12 angles of 30 degrees. Corners that turn in are
    black.

    Args:
        encoder: of pictures and texts.
        angles: N, spread over the circle.
        use: which becomes `caption`; training draws one of both.
        batch_size: records at a time.
    """

    encoder: Encoder
    angles: int = 12
    use: Literal["top_cap", "ssl_cap"] = "top_cap"
    batch_size: int = 4
    name = "rotation_invariant_caption"
    version = "1"

    def __post_init__(self) -> None:
        if self.angles < 2 or self.use not in ("top_cap", "ssl_cap"):
            raise UserError(
                f"angles={self.angles} use={self.use}: two angles or more, top_cap or ssl_cap."
            )

    def setup(self) -> None:
        """Loads the encoder."""
        self.encoder.load()

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        found: list[Outcome] = []
        for record in records:
            image = _picture(record)
            turned = [
                image.rotate(360 * n / self.angles, Image.Resampling.BILINEAR)
                for n in range(self.angles)
            ]
            texts = self.encoder.texts(record["candidates"])
            spread = (texts @ self.encoder.images(turned).T).var(axis=1)
            both = {
                "top_cap": record["candidates"][0],
                "ssl_cap": record["candidates"][int(np.argmin(spread))],
            }
            found.append({**record, **both, "caption": both[self.use]})
        return found


def _picture(record: Record) -> Image.Image:
    with Image.open(io.BytesIO(record["image"])) as image:
        return image.convert("RGB")


@cache
def _captioner(model: str | None, ckpt: str | None, words: tuple[str, ...]) -> Any:
    from rsvlm.inference.api import load
    from rsvlm.models.protocols import is_generator

    if model is None and ckpt is None:
        raise UserError(
            "pipeline.stages.captions.ckpt= names the captioner: the folder of a run, or with "
            "pipeline.stages.captions.model=blip2_opt_6_7b a checkpoint of it."
        )
    found = (
        load(ckpt or "", overrides=words) if model is None else load(model, ckpt, overrides=words)
    )
    if not is_generator(found):
        raise UserError(f"a {type(found).__name__} writes no captions: take a BLIP-2.")
    return found
