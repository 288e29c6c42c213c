"""CLIPScore and RefCLIPScore: captions judged by a CLIP's embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rsvlm.errors import UserError

WEIGHT = 2.5
#: Put before captions and references, as published.
PROMPT = "A photo depicts "


def clip_score(image_features: Tensor, text_features: Tensor, *, weight: float = WEIGHT) -> Tensor:
    """CLIPScore: `w max(cos(image, caption), 0)`.

    Range: 0 to `w` = 2.5. Higher is better. Needs no references. Its value depends on the CLIP:
    those of two CLIPs are not comparable. Hessel et al. (EMNLP 2021). Protocol: clipscore. Used in:
    no table of the papers here.

    Args:
        image_features: [N, D], any length.
        text_features: [N, D] of the captions behind `PROMPT`.
        weight: the paper's 2.5 spreads the values of OpenAI's ViT-B/32 over 0 to 1.

    Returns:
        [N] scores.

    Raises:
        UserError: shapes that do not fit, or features that are not finite.
    """
    if image_features.ndim != 2 or image_features.shape != text_features.shape:
        raise UserError(
            f"image features {tuple(image_features.shape)} and text features "
            f"{tuple(text_features.shape)} must both be [N, D]."
        )
    return weight * _cosine(image_features, text_features).clamp(min=0)


def ref_clip_score(
    image_features: Tensor,
    text_features: Tensor,
    reference_features: Tensor,
    image_of_reference: Tensor,
    *,
    weight: float = WEIGHT,
) -> Tensor:
    """RefCLIPScore: harmonic mean of CLIPScore and the best `max(cos(caption, reference), 0)`.

    Range: 0 to 1.43 (2 * 2.5 / 3.5). Higher is better. Hessel et al. (EMNLP 2021). Protocol:
    clipscore. Used in: no table of the papers here.

    Args:
        image_features: [N, D].
        text_features: [N, D].
        reference_features: [R, D], behind `PROMPT` as well.
        image_of_reference: [R] long, row of each reference's image; each image has at least one.
        weight: of CLIPScore.

    Returns:
        [N] scores.

    Raises:
        UserError: shapes that do not fit, features that are not finite, an image without
            references.
    """
    alone = clip_score(image_features, text_features, weight=weight)
    rows = image_of_reference.long()
    if rows.shape != reference_features.shape[:1] or (
        len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(alone)
    ):
        raise UserError(
            f"image_of_reference {tuple(rows.shape)} must name for each of the "
            f"{len(reference_features)} references one of {len(alone)} images."
        )
    absent = (torch.bincount(rows, minlength=len(alone)) == 0).nonzero().flatten().tolist()
    if absent:
        raise UserError(f"{len(absent)} images have no reference (first rows: {absent[:3]}).")
    cosine = _cosine(text_features[rows], reference_features).clamp(min=0)
    best = torch.zeros_like(alone).scatter_reduce(0, rows, cosine, "amax")
    total = alone + best
    return torch.where(total > 0, 2 * alone * best / total.clamp(min=1e-12), total)


def score_captions(
    model: Any,
    images: Sequence[Tensor] | Tensor,
    predictions: Sequence[str],
    references: Sequence[Sequence[str]] | None = None,
    *,
    tokenize: Callable[[list[str]], Tensor] | None = None,
    prompt: str = PROMPT,
    batch: int = 64,
) -> dict[str, Tensor]:
    """CLIPScore, and with references RefCLIPScore, by any CLIP of the zoo.

        model, preprocess, tokenize = rsvlm.load("remoteclip_vitb32.remoteclip", path)
        score_captions(model, [preprocess(im) for im in pictures], captions)["clipscore"].mean()

    Args:
        model: with `encode_image` and `encode_text`.
        images: N preprocessed images, uint8 [3, S, S].
        predictions: N captions; an empty one is scored as the prompt alone.
        references: for each its references.
        tokenize: texts -> ids; None takes the model's own.
        prompt: put before every text.
        batch: images or texts encoded at a time.

    Returns:
        `clipscore` and, with references, `refclipscore`: [N] each.

    Raises:
        UserError: numbers that do not fit.
    """
    if not len(images) == len(predictions) or not len(images):
        raise UserError(
            f"{len(images)} images and {len(predictions)} captions: give one caption per image, "
            "and at least one image."
        )
    if tokenize is None:
        tokenize = model.tokenizer
    device = next(model.parameters()).device

    def texts(sentences: Sequence[str]) -> Tensor:
        return torch.cat(
            [
                model.encode_text(
                    tokenize([prompt + s for s in sentences[i : i + batch]]).to(device)
                )
                for i in range(0, len(sentences), batch)
            ]
        )

    with torch.no_grad():
        pictures = torch.cat(
            [
                model.encode_image(torch.stack(list(images[i : i + batch])).to(device))
                for i in range(0, len(images), batch)
            ]
        )
        captions = texts(predictions)
        found = {"clipscore": clip_score(pictures, captions)}
        if references is not None:
            flat = [ref for refs in references for ref in refs]
            rows = [row for row, refs in enumerate(references) for _ in refs]
            owner = torch.tensor(rows, dtype=torch.long, device=device)
            # Copies are encoded once.
            place = {sentence: n for n, sentence in enumerate(dict.fromkeys(flat))}
            if not place:
                raise UserError("no references were given; leave them out for CLIPScore alone.")
            encoded = texts(list(place))[torch.tensor([place[s] for s in flat], device=device)]
            found["refclipscore"] = ref_clip_score(pictures, captions, encoded, owner)
    return found


def _cosine(first: Tensor, second: Tensor) -> Tensor:
    for features in (first, second):
        if not bool(features.isfinite().all()):
            raise UserError("features are not finite; a model in half precision may overflow.")
    if first.shape != second.shape:
        raise UserError(
            f"features {tuple(first.shape)} and {tuple(second.shape)} must have one width."
        )
    return (F.normalize(first.float(), dim=-1) * F.normalize(second.float(), dim=-1)).sum(-1)
