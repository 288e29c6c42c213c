"""Masks for expressions and questions, written by the model itself or for the true answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rsvlm.data import rle
from rsvlm.data.collate.pixel import readable
from rsvlm.data.prediction_records import DatasetFacts, PredictionRecord, image_of
from rsvlm.data.sample import Answer, SampleError
from rsvlm.errors import UserError, near
from rsvlm.evaluation.base import ALONE, Measurement, measured_by
from rsvlm.evaluation.grounding import by_size
from rsvlm.evaluation.question_answering import AnswerEvaluation
from rsvlm.metrics.intervals import means
from rsvlm.metrics.names import PROTOCOLS
from rsvlm.metrics.segmentation import Segmentation
from rsvlm.metrics.segmentation.metric import IGNORE
from rsvlm.models.pixel.model import PixelModel
from rsvlm.models.pixel.teacher_forcing import teacher_forced

#: Who writes the words that masks are drawn for.
MODES = ("generated", "teacher_forced")


class SegmentationEvaluation(AnswerEvaluation):
    """Masks against masks, see `metrics/segmentation`.

    Under `rmsin` and `lisa` an expression has one mask: several of an answer, and several true
    ones, are joined. Under `pixellm` they are matched one to one. Questions about what is not there
    have no true mask: `rmsin` leaves them out and counts them, under the others an answer without a
    mask is right.

    Beside the protocol's words: `seg_no_mask`, the share of questions about something that were
    answered without a mask; `seg_extra_mask`, the share of questions about nothing that were
    answered with one; means by the size of the true mask; by class in the facts of the first word.
    Pixels that a data set leaves out (`meta["ignored"]`) count for nothing; the rule of `rmsin`
    knows none.

    Args:
        protocol: `rmsin`, `lisa` or `pixellm`.
        mode: `generated`, the model's own words, or `teacher_forced`, the true answer, as LISA
            measures itself; the facts of each word say which.
        size: side in pixels at which masks are compared, or `original`; None takes the protocol's.
        kinds: task words of the questions that are asked.
        options: of `model.generate`.
        **shared: see `Evaluation`.

    Raises:
        UserError: an unknown word.
    """

    needs = "masks"
    kinds = ("segment",)
    makes: Sequence[str] = ("segment",)
    sheet = "masks"

    def __init__(
        self,
        *,
        protocol: str = "rmsin",
        mode: str = "generated",
        size: int | str | None = None,
        kinds: Sequence[str] | None = None,
        options: Mapping[str, Any] | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(kinds=kinds, options=options, **shared)
        for what, word, known in (
            ("protocol", protocol, PROTOCOLS["segmentation"]),
            ("mode", mode, MODES),
        ):
            if word not in known:
                raise UserError(f"evaluation.{what}={word!r} is unknown. {near(word, known)}")
        self.protocol, self.mode, self.size = protocol, mode, size

    def prepare(self, model: Any, dataset: Any, device: torch.device) -> None:
        """Refuses a model that draws no masks.

        Raises:
            UserError: it does not.
        """
        super().prepare(model, dataset, device)
        if not isinstance(model, PixelModel):
            raise UserError(
                f"a {type(model).__name__} draws no masks: choose model=geopix, lisa_7b or "
                "pixellm_7b, or evaluation=grounding for boxes."
            )

    def nothing(self, facts: DatasetFacts) -> str:
        """What to tell where a split has no such question."""
        return (
            f"{facts.name} has no object with a mask to ask for, so there is nothing to measure: "
            "is this the right evaluation= or data= (of scenes, "
            "+data.dataset.parts=[references,masks])?"
        )

    def predict(self, model: Any, batch: Any) -> list[PredictionRecord]:
        """Asks a batch of questions, or draws the true answers' masks."""
        writer = model if self.mode == "generated" else _Forced(model)
        records = super().predict(writer, batch)
        for one in records:
            one.answer = one.answer and readable(one.answer, model.seg)
        return records

    def fields(self, model: Any, batch: Any, answers: list[Answer]) -> list[dict[str, Any]]:
        """The true masks, their class, scores and what the model says of its answer.

        Raises:
            SampleError: masks of a batch that are not those of the image as stored.
        """
        rows = []
        for i, answer in enumerate(answers):
            high, wide = batch.geometry[i][0].source if batch.geometry[i] else (0, 0)
            masks = batch.masks[i].cpu().numpy()
            if len(masks) and masks.shape[1:] != (high, wide):
                raise SampleError(
                    f"sample {batch.ids[i]!r}: its masks are {masks.shape[1]} x {masks.shape[2]} "
                    f"and its image {high} x {wide}: masks are measured as stored, so leave "
                    "model.chat.frame unset, or stored."
                )
            more: dict[str, Any] = {"height": int(high), "width": int(wide)}
            more["classes"] = list(batch.classes[i])
            if batch.ignored and batch.ignored[i] is not None:
                more["ignored"] = rle.encode(batch.ignored[i])
            if answer.mask_scores:
                more["mask_scores"] = [round(float(score), 4) for score in answer.mask_scores]
            if answer.mask_classes:
                more["memory"] = [list(pair) for pair in answer.mask_classes]
            if answer.notes:
                more["notes"] = list(answer.notes)
            rows.append({"true_masks": [rle.encode(mask) for mask in masks], "more": more})
        return rows

    def metric_from(self, records: Sequence[PredictionRecord], facts: DatasetFacts) -> Measurement:
        """Masks against masks, and answers with none or too many."""
        del facts
        metric = Segmentation(self.protocol, size=self.size, **ALONE)  # type: ignore[arg-type]
        several = self.protocol == "pixellm"
        used = [one for one in records if one.true_masks or self.protocol != "rmsin"]
        areas = {}
        for one in used:
            predicted, true = (
                [rle.decode(mask) for mask in masks] for masks in (one.masks, one.true_masks)
            )
            areas[one.id] = float(sum(int(mask.sum()) for mask in true))
            if several:
                true = [_left_out(one, mask) for mask in true]
                metric.update([predicted], [true], [one.id], [image_of(one.id)])
            else:
                empty = np.zeros((one.more["height"], one.more["width"]), bool)
                joined = np.logical_or.reduce(true) if true else empty
                if metric.rule.ignore:
                    joined = _left_out(one, joined)
                metric.update(
                    [np.logical_or.reduce(predicted) if predicted else None], [joined], [one.id]
                )
        values, about = measured_by(metric)
        ious = {id: sum(each) / max(len(each), 1) for id, each in metric.ious.items()}
        marks = {one.id: (ious[one.id], self._words(one, ious[one.id])) for one in used}
        found = Measurement(values, about, [], marks)
        word = metric.rule.words[0]
        mean = {word: [ious[one.id] for one in used]}
        found.statistics.append(means([image_of(one.id) for one in used], dict(mean)))
        there = [one for one in used if one.true_masks]
        ids = [one.id for one in there]
        by_size(found, ids, [areas[id] for id in ids], {word: [ious[id] for id in ids]})
        for name, asked, wrong in (
            ("seg_no_mask", [one for one in records if one.true_masks], lambda one: not one.masks),
            (
                "seg_extra_mask",
                [one for one in records if not one.true_masks],
                lambda one: bool(one.masks),
            ),
        ):
            if asked:
                flags = [float(wrong(one)) for one in asked]
                found.values[name] = 100 * sum(flags) / len(flags)
                found.facts[name] = {"count": len(flags), "unit": "%"}
                found.statistics.append(means([image_of(one.id) for one in asked], {name: flags}))
        for name in found.facts:
            found.facts[name]["mode"] = self.mode
        found.facts[word]["left_out"] = len(records) - len(used)
        found.facts[word]["by_class"] = _by_class(there, ious)
        return found

    def _words(self, one: PredictionRecord, iou: float) -> str:
        counts = f"{len(one.masks)} of {len(one.true_masks)} masks"
        return f"IoU {iou:.2f}, {counts}"

    def draw(self, records: Sequence[PredictionRecord], dataset: Any, folder: Path) -> None:
        """Good and bad masks over their images, and a sheet of the worst alone."""
        from rsvlm.report.masks import plot_masks

        assert self.measured is not None
        marks = self.measured.marks
        plot_masks(records, marks, dataset, folder / f"{self.sheet}.png")
        plot_masks(records, marks, dataset, folder / f"{self.sheet}_worst.png", worst=True)


class _Forced:
    """A model that answers with the true words."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def generate(self, batch: Any, **options: Any) -> list[Answer]:
        """Masks of the true answers."""
        return teacher_forced(self.model, batch, options.get("classes", ()))


def _left_out(one: PredictionRecord, mask: np.ndarray) -> np.ndarray:
    """A true mask [H, W] with 255 where its data set leaves pixels out."""
    if "ignored" not in one.more:
        return mask
    return np.where(rle.decode(one.more["ignored"]), np.uint8(IGNORE), mask.astype(np.uint8))


def _by_class(
    records: Sequence[PredictionRecord], ious: Mapping[Any, float]
) -> dict[str, dict[str, float]]:
    """Class -> mean IoU in per cent and number of questions, of those about one class."""
    held: dict[str, list[float]] = defaultdict(list)
    for one in records:
        names = set(one.more.get("classes", ()))
        if len(names) == 1:
            held[names.pop() or "unnamed"].append(ious[one.id])
    return {
        name: {"mean_iou": round(100 * sum(rows) / len(rows), 2), "count": len(rows)}
        for name, rows in sorted(held.items())
    }
