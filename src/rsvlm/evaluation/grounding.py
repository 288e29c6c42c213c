"""Boxes for expressions: what was asked for, where it is, and where the model says it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rsvlm.data.geometry import Box, enclosing, turned
from rsvlm.data.prediction_records import Id
from rsvlm.data.sample import Answer, SampleError
from rsvlm.errors import UserError, near
from rsvlm.evaluation.question_answering import AnswerEvaluation
from rsvlm.metrics.grounding import Grounding
from rsvlm.metrics.names import PROTOCOLS

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


def needs_boxes(model: Any) -> None:
    """Refuses a model that gives no boxes.

    Raises:
        UserError: it has no box convention.
    """
    if model.codec is None:
        raise UserError(
            f"a {type(model).__name__} gives no boxes: it has no box convention. Models of the zoo "
            "that do: skyeyegpt, llava, geochat."
        )


class GroundingEvaluation(AnswerEvaluation):
    """One box for each expression; see `metrics/grounding`.

    The first box of an answer counts. Expressions that mean several objects are left out and
    counted: `evaluation=detection evaluation.kinds=[refer]` measures them.

    Args:
        protocol: `rsvg`, `minigpt` or `oriented`.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
    """

    kinds = ("refer",)
    sheet = "boxes"

    def __init__(
        self,
        *,
        protocol: str = "rsvg",
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(kinds=kinds, options=options)
        known = PROTOCOLS["grounding"]
        if protocol not in known:
            raise UserError(f"evaluation.protocol={protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol

    def make(self, model: Any, dataset: Any) -> Grounding:
        """An empty metric."""
        del dataset
        needs_boxes(model)
        return Grounding(self.protocol)

    def start(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Empties the metric, and that of the box that knows nothing."""
        super().start(model, dataset, device)
        self.centre = Grounding(self.protocol).to(device)

    def add(
        self, model: Any, batch: Any, answers: list[Answer], ids: list[Id]
    ) -> list[dict[str, Any]]:
        """Feeds the metric."""
        oriented = self.protocol == "oriented"
        rows, used = [], []
        for row, answer in enumerate(answers):
            true = [shape(p, oriented=oriented) for p in true_boxes(model, batch, row)]
            told = [shape(p, oriented=oriented) for p in predicted_boxes(answer)]
            rows.append({"text": answer.text, "prediction": told[0] if told else None})
            rows[-1]["box"] = true[0] if len(true) == 1 else None
            high, wide = batch.geometry[row][0].source
            middle = (wide / 4, high / 4, 3 * wide / 4, 3 * high / 4)
            if len(true) == 1:
                used.append((ids[row], rows[-1]["prediction"], true[0], middle))
        if used:
            names, boxes, truths, middles = map(list, zip(*used, strict=True))
            self.metric.update(boxes, truths, names)
            self.centre.update(middles, truths, names)
        return rows

    def compute(self) -> dict[str, Any]:
        """Metric words and their values in per cent."""
        values = super().compute()
        self.chance = {word: float(value) for word, value in self.centre.compute().items()}
        return values

    def facts(self, word: str) -> dict[str, Any]:
        """Count and unit of a metric word; chance is the middle half of each image."""
        left = len(self.told.rows) - self.metric.facts()["count"]
        more = {} if word == "box_unparsable" else {"chance": self.chance[word]}
        return self.metric.facts(word) | {"left_out": left} | more

    def marks(self) -> dict[Id, tuple[float, str]]:
        """IoU."""
        return {id: (iou, f"IoU {iou:.2f}") for id, iou in self.metric.ious.items()}
