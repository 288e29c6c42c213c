"""What was asked, answered and true: a sheet of good and bad answers, from records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.prediction_records import Id, PredictionRecord, position
from rsvlm.report.answers import Written, answer_sheet
from rsvlm.report.boxes import boxed
from rsvlm.report.examples import as_picture

Marks = Mapping[Id, tuple[float, str]]


def good_and_bad(marks: Marks, count: int) -> list[Id]:
    """The best, evenly spread and worst answers, `count` of each; equal ones in a mixed order."""

    def order(id: Id) -> tuple[float, int]:
        # Neighbours ask about one image: a multiplicative hash takes them apart, always the same.
        return -marks[id][0], (places[id] * 2654435761) % 2**32

    places = {id: i for i, id in enumerate(marks)}
    ranked = sorted(marks, key=order)
    step = max(1, len(ranked) // (count + 1))
    chosen = [*ranked[:count], *ranked[step::step][:count], *ranked[-count:]]
    return sorted(dict.fromkeys(chosen), key=order)


def plot_predictions(
    records: Sequence[PredictionRecord], marks: Marks, dataset: Any, path: Path, *, count: int = 4
) -> list[Path]:
    """A sheet of questions with their images, true answers and answers.

    Args:
        records: of the answers; those without a mark were not measured and are left out.
        marks: id -> how good the answer is, and that in words.
        dataset: yields samples by position.
        path: the picture, ending in `.png`.
        count: of each of the three kinds.
    """
    chosen = good_and_bad({one.id: marks[one.id] for one in records if one.id in marks}, count)
    title = f"{dataset.name}: what was answered, from the best to the worst"
    return _sheet(records, marks, chosen, dataset, path, title)


def plot_worst(
    records: Sequence[PredictionRecord], marks: Marks, dataset: Any, path: Path, *, count: int = 6
) -> list[Path]:
    """A sheet of the worst answers alone; of no marked ones, none.

    Args:
        records: see `plot_predictions`; images of one answer each, as captions have, too.
        marks: see there.
        dataset: see there.
        path: the picture, ending in `.png`.
        count: of answers.
    """
    held = list(dict.fromkeys(one.id for one in records if one.id in marks))
    chosen = sorted(held, key=lambda id: marks[id][0])[:count]
    return _sheet(records, marks, chosen, dataset, path, f"{dataset.name}: the worst answers")


def _sheet(
    records: Sequence[PredictionRecord],
    marks: Marks,
    chosen: Sequence[Id],
    dataset: Any,
    path: Path,
    title: str,
) -> list[Path]:
    by_id = {one.id: one for one in records if one.id in marks}
    shown = []
    for id in chosen:
        one = by_id[id]
        sample = dataset[position(id)]
        images = [as_picture(image) for image in sample.images[:2]]
        right, told = boxes_of(one)
        if right or told:
            images = [boxed(images[0], right, told, side=400), *images[1:]]
        true = [one.answer] if one.answer else one.references[:2]
        shown.append(Written(images, true or [""], one.prediction, marks[id][1], one.question))
    if not shown:
        return []
    if any(one.boxes for one in by_id.values()):
        title += " (green: true, orange: the model's)"
    return [answer_sheet(shown, path, title=title)]


def boxes_of(one: PredictionRecord) -> tuple[list[Any], list[Any]]:
    """The true boxes of a record, and the model's, as `report.boxes.boxed` takes them."""
    return _turned(one.true_boxes, one.true_angles), _turned(one.boxes, one.angles)


def _turned(boxes: Sequence[Any], angles: Sequence[float | None]) -> list[Any]:
    each = list(angles) or [None] * len(boxes)
    return [
        tuple(box) if angle is None else (tuple(box), angle)
        for box, angle in zip(boxes, each, strict=True)
    ]
