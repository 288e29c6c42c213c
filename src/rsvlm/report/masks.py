"""Masks over pictures: those of a model, the true ones, and sheets of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.data import rle
from rsvlm.data.prediction_records import Id, PredictionRecord, position
from rsvlm.report.answers import Written, answer_sheet
from rsvlm.report.boxes import TOLD, TRUE
from rsvlm.report.examples import as_picture
from rsvlm.report.questions import good_and_bad

#: Colours of several masks of one answer, the first being the model's own of `report.boxes`.
COLOURS = (TOLD, "#3aa0ff", "#f2c12e", "#c86bfa", "#35d07f", "#ff5d73", "#8bd3dd", "#a0e548")


def overlaid(
    image: Image.Image, masks: Sequence[np.ndarray], colours: Sequence[str], *, alpha: float = 0.45
) -> Image.Image:
    """A copy of a picture with masks tinted over it and their edges drawn.

    Args:
        image: RGB.
        masks: [H, W] bool, of the picture's size.
        colours: of each, `#rrggbb`.
        alpha: strength of the tint.
    """
    out = np.asarray(image.convert("RGB"), np.float32).copy()
    for mask, colour in zip(masks, colours, strict=True):
        tint = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        out[mask] = (1 - alpha) * out[mask] + alpha * tint
        out[edges(mask)] = tint
    return Image.fromarray(out.round().astype(np.uint8))


def edges(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask [H, W] that have one beside them which is not of it."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    found: np.ndarray = mask & ~inside
    return found


def plot_masks(
    records: Sequence[PredictionRecord],
    marks: Mapping[Id, tuple[float, str]],
    dataset: Any,
    path: Path,
    *,
    count: int = 4,
    worst: bool = False,
) -> list[Path]:
    """A sheet of questions: the picture with the true masks, and with the model's.

    Args:
        records: of the answers.
        marks: id -> how good the answer is, and that in words.
        dataset: yields samples by position.
        path: the picture, ending in `.png`.
        count: of each of the best, the middle and the worst.
        worst: the worst alone, three times as many.
    """
    by_id = {one.id: one for one in records if one.id in marks}
    own = {id: marks[id] for id in by_id}
    if worst:
        chosen = sorted(own, key=lambda id: (own[id][0], str(id)))[: 3 * count]
    else:
        chosen = good_and_bad(own, count)
    shown = []
    for id in chosen:
        one = by_id[id]
        picture = as_picture(dataset[position(id)].images[0])
        told = [rle.decode(mask) for mask in one.masks]
        true = [rle.decode(mask) for mask in one.true_masks]
        images = [
            _large(overlaid(picture, true, [TRUE] * len(true))),
            _large(overlaid(picture, told, [COLOURS[i % len(COLOURS)] for i in range(len(told))])),
        ]
        shown.append(Written(images, [in_words(one)], one.prediction, own[id][1], one.question))
    if not shown:
        return []
    what = "the worst masks" if worst else "masks from the best to the worst"
    title = f"{dataset.name}: {what} (left: true, green; right: the model's)"
    return [answer_sheet(shown, path, title=title)]


def in_words(one: PredictionRecord) -> str:
    """What is true of a question: class, place and size of its objects; without one, the answer."""
    if not one.true_masks:
        return f"true: {one.answer or 'nothing'}"
    names = [*one.more.get("classes", ()), *[""] * len(one.true_masks)]
    told = []
    for name, held in zip(names, one.true_masks, strict=False):
        mask = rle.decode(held)
        place = f"{_place(mask)}, " if mask.any() else ""
        told.append(f"{name or 'object'} ({place}{int(mask.sum()):,} px)")
    return f"true: {'; '.join(told)}"


def _place(mask: np.ndarray) -> str:
    """Which ninth of the picture a mask [H, W] has its middle in."""
    sides = zip(mask.nonzero(), mask.shape, strict=True)
    down, right = (int(3 * (float(at.mean()) + 0.5) / side) for at, side in sides)
    words = [["upper", "", "lower"][down], ["left", "", "right"][right]]
    alone = {"upper": "top", "lower": "bottom"}
    if all(words):
        return " ".join(words)
    word = "".join(words)
    return alone.get(word, word) or "middle"


def _large(image: Image.Image, side: int = 320) -> Image.Image:
    scale = side / max(image.size)
    wide, high = (max(1, round(s * scale)) for s in image.size)
    return image.resize(
        (wide, high), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    )
