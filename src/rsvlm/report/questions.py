"""What was asked, told and true: a file of it, and a sheet of good and bad answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.prediction_records import Id, position
from rsvlm.report.answers import Written, answer_sheet
from rsvlm.report.boxes import boxed
from rsvlm.report.examples import as_picture

Row = Mapping[str, Any]
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
    rows: Sequence[Row], marks: Marks, dataset: Any, path: Path, *, count: int = 4
) -> list[Path]:
    """A sheet of questions with their images, true answers and answers.

    Boxes are drawn: of a record's `true` and `told` lists, or its `box` and `prediction`.

    Args:
        rows: as above.
        marks: as above.
        dataset: yields samples by position.
        path: the picture, ending in `.png`.
        count: of each of the three kinds.
    """
    by_id = {row["id"]: row for row in rows if row["id"] in marks}
    shown = []
    for id in good_and_bad({id: marks[id] for id in by_id}, count):
        row = by_id[id]
        sample = dataset[position(id)]
        images = [as_picture(image) for image in sample.images[:2]]
        true, told = boxes_of(row)
        if true or told:
            images = [boxed(images[0], true, told, side=400), *images[1:]]
        text = row.get("text", row["prediction"])
        shown.append(
            Written(images, [row["answer"]], str(text), marks[id][1], str(row["question"]))
        )
    if not shown:
        return []
    title = f"{dataset.name}: what was answered, from the best to the worst"
    if any("box" in row or "told" in row for row in by_id.values()):
        title += " (green: true, orange: the model's)"
    return [answer_sheet(shown, path, title=title)]


def boxes_of(row: Row) -> tuple[list[Any], list[Any]]:
    """The true boxes of a record, and the model's."""
    if "true" in row:
        return list(row["true"]), list(row.get("told", ()))
    if row.get("box") is None:
        return [], []
    return [row["box"]], [] if row["prediction"] is None else [row["prediction"]]
