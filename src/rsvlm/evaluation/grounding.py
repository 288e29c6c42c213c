"""Boxes for expressions: what was asked for, where it is, and where the model says it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rsvlm.data.geometry import Box, enclosing, turned
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord
from rsvlm.data.sample import Answer, SampleError
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.question_answering import AnswerEvaluation
from rsvlm.metrics.grounding import Grounding
from rsvlm.metrics.names import PROTOCOLS
from rsvlm.metrics.object_sizes import means_by_size

#: A box and its angle in degrees, None of an upright one.
Placed = tuple[Box, float | None]


def true_boxes(model: Any, batch: Any, row: int) -> list[Placed]:
    """The boxes that a question's answer speaks of, in pixels of the image as stored.

    They are those of the data set's objects; where it has none, those of its text as the model's
    convention reads them.

    Raises:
        SampleError: neither.
    """
    found: list[Placed] = [
        (i.box, i.angle) for i in batch.targets[row] if i.box is not None and not i.image_id
    ]
    if not found and batch.geometry[row]:
        read = model.codec.parse(batch.answers[row], batch.geometry[row][0])
        found = [(place.box, place.angle) for place in read.boxes]
    if not found:
        raise SampleError(
            f"sample {batch.ids[row]!r}: the answer {batch.answers[row][:60]!r} has no box, of an "
            f"object or as {model.codec.name} writes one. Boxes that the data set's texts hold in "
            "another convention need its name: +model.instructions.text_boxes=<convention>."
        )
    return found


def predicted_boxes(answer: Answer) -> list[Placed]:
    """The boxes of an answer, in pixels of the image as stored, with their angles."""
    angles = answer.angles or [None] * len(answer.boxes)
    return list(zip(answer.boxes, angles, strict=True))


def shape(placed: Placed, *, oriented: bool) -> Any:
    """A box as metrics take it; an upright protocol takes the upright box around a turned one."""
    box, angle = placed
    if angle is None:
        return tuple(box)
    return (tuple(box), angle) if oriented else enclosing(turned(box, angle))


def needs_boxes(model: Any, *, points: bool = False) -> None:
    """Refuses a model that gives no boxes.

    Args:
        model: the model.
        points: whether points are enough.

    Raises:
        UserError: it has no box convention, or one of points where they are not enough.
    """
    if model.codec is None:
        raise UserError(
            f"a {type(model).__name__} gives no boxes: it has no box convention. Models of the zoo "
            "that do: skyeyegpt, llava, geochat."
        )
    if model.codec.form == "point" and not points:
        raise UserError(
            f"{model.codec.name} writes points, which have no area to hold against a box: measure "
            "them with evaluation=pointing."
        )


class GroundingEvaluation(AnswerEvaluation):
    """One box for each expression; see `metrics/grounding`.

    The first box of an answer counts. Expressions that mean several objects are left out and
    counted: `evaluation=detection evaluation.kinds=[refer]` measures them.

    Args:
        protocol: `rsvg`, `minigpt` or `oriented`.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
        **shared: see `Evaluation`.
    """

    needs = "boxes"
    kinds = ("refer",)
    sheet = "boxes"
    #: Whose protocols it measures under.
    task = "grounding"
    #: Whether points are enough.
    points = False

    def __init__(
        self,
        *,
        protocol: str = "rsvg",
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(kinds=kinds, options=options, **shared)
        known = PROTOCOLS[self.task]
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Refuses a model without boxes."""
        super().prepare(model, dataset, device)
        needs_boxes(model, points=self.points)

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """The true boxes, and the sides of the image."""
        del answers
        rows = []
        for row in range(len(batch.ids)):
            high, wide = batch.geometry[row][0].source
            sides = {"height": int(high), "width": int(wide)}
            rows.append(truth_of(true_boxes(model, batch, row)) | {"more": sides})
        return rows

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """The first box of each answer; chance is the middle half of each image."""
        del facts
        oriented = self.protocol == "oriented"
        metric, centre = (Grounding(self.protocol, **ALONE) for _ in range(2))
        used = [one for one in records if len(one.true_boxes) == 1]
        true = [shapes(one.true_boxes, one.true_angles, oriented=oriented)[0] for one in used]
        predicted = [shapes(one.boxes[:1], one.angles[:1], oriented=oriented) for one in used]
        ids = [one.id for one in used]
        middles = []
        for one in used:
            wide, high = one.more["width"], one.more["height"]
            middles.append((wide / 4, high / 4, 3 * wide / 4, 3 * high / 4))
        metric.update([boxes[0] if boxes else None for boxes in predicted], true, ids)
        centre.update(middles, true, ids)
        values, about = measured_by(metric)
        chance = {word: float(value) for word, value in centre.compute().items()}
        for word in values:
            about[word]["left_out"] = len(records) - len(used)
            if word != "box_unparsable":
                about[word]["chance"] = chance[word]
        marks = {id: (iou, f"IoU {iou:.2f}") for id, iou in metric.ious.items()}
        found = Measurement(values, about, [metric.statistics()], marks)
        areas = [area_of(one.true_boxes[0]) for one in used]
        by_size(found, ids, areas, {
            "box_miou": [metric.ious[id] for id in ids],
            "acc50": [metric.accurate(metric.ious[id]) for id in ids],
        })  # fmt: skip
        return found


def truth_of(placed: Sequence[Placed]) -> dict[str, Any]:
    """The fields of a record for true boxes."""
    angles = [angle for _, angle in placed]
    fields: dict[str, Any] = {"true_boxes": [[float(side) for side in box] for box, _ in placed]}
    if any(angle is not None for angle in angles):
        fields["true_angles"] = [None if angle is None else float(angle) for angle in angles]
    return fields


def shapes(boxes: Sequence[Any], angles: Sequence[float | None], *, oriented: bool) -> list[Any]:
    """A record's boxes as metrics take them."""
    turned_by = list(angles) or [None] * len(boxes)
    return [
        shape((tuple(box), angle), oriented=oriented)
        for box, angle in zip(boxes, turned_by, strict=True)
    ]


def area_of(box: Sequence[float]) -> float:
    """Square pixels of a box before it is turned."""
    x0, y0, x1, y1 = box
    return (x1 - x0) * (y1 - y0)


def by_size(
    found: Measurement,
    ids: Sequence[Any],
    areas: Sequence[float],
    columns: Mapping[str, Sequence[float]],
) -> None:
    """Adds means over small, medium and large objects: `<word>_small`, ...

    Args:
        found: what was measured; its values grow.
        ids: of the items.
        areas: square pixels of each item's true object.
        columns: word -> each item's value, 0 to 1.
    """
    for word, values in columns.items():
        measured, statistics, counts = means_by_size(word, ids, areas, values)
        found.statistics.append(statistics)
        for name, value in measured.items():
            found.values[name] = value
            found.facts[name] = {"count": counts[name], "unit": "%"}
