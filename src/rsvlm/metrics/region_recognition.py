"""What stands in a box: the object's name in an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric, text_of
from rsvlm.metrics.intervals import Floats, Statistics, one_hot, share
from rsvlm.metrics.names import PROTOCOLS
from rsvlm.metrics.vqa.normalise import evalai, right


class Naming(RecordMetric):
    """Objects that are given their right name.

    Formula: named, the share of boxes whose object is named; named_mean, the mean over classes of
    the class's own share, where every object has a class. An answer names an object under
    `same` when it equals the true answer after VQA's EvalAI normalisation, and under `within`
    when the class stands in it as whole words. Range: 0 to 100 per cent. Higher is better.
    Protocols: same, within. Used in: no published table; `[identify]` of MiniGPT-v2, SkyEyeGPT and
    GeoChat is shown there by pictures, and measured as captions of regions elsewhere
    (`coco_regions`).

    An empty answer is wrong. Answers that are no strings are errors, and so are empty truths and a
    metric of no boxes. `within` does not punish an answer that names many things.

    Args:
        protocol: see `names.PROTOCOLS["naming"]`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, protocol: str = "same", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = PROTOCOLS["naming"]
        if protocol not in known:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, known)}")
        self.protocol = protocol
        self._chance: dict[str, float] = {}
        #: Id -> whether its object is named, of the last `compute`.
        self.hits: dict[Id, bool] = {}
        self._names: dict[Id, str | None] = {}

    def update(
        self,
        answers: Sequence[Any],
        truths: Sequence[Any],
        classes: Sequence[str | None],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            answers: b answers as the model wrote them.
            truths: b true answers.
            classes: b classes of the objects; None where the data set has none, whose true answer
                then stands for it.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, answers that are no strings, empty truths.
        """
        if not len(answers) == len(truths) == len(classes):
            raise UserError(
                f"{len(answers)} answers, {len(truths)} truths and {len(classes)} classes: give "
                "one of each per box."
            )
        rows = []
        named = self.name_items(len(answers), ids, "box")
        for id, answer, truth, name in zip(named, answers, truths, classes, strict=True):
            what = f"box {id!r}"
            prediction, target = text_of(answer, what), text_of(truth, f"{what}, truth")
            if not target.strip():
                raise UserError(f"{what}: the true answer is empty.")
            rows.append([id, prediction, target, name])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Raises:
            UserError: no boxes, or one of them with two answers.
        """
        rows = self.items()
        self.hits = {row[0]: self._says(*row[1:]) for row in rows}
        names = self._names = {row[0]: row[3] for row in rows}
        empty = sum(not row[1].strip() for row in rows)
        self.note([row[2:] for row in rows], empty=empty)
        found = {"named": sum(self.hits.values()) / len(rows)}
        said: dict[str, int] = {}
        for _, _, truth, name in rows:
            word = evalai(truth if self.protocol == "same" or name is None else name)
            said[word] = said.get(word, 0) + 1
        self._chance = {"named": 100 * max(said.values()) / len(rows)}
        if None not in names.values():
            each: dict[str, list[bool]] = {}
            for id, hit in self.hits.items():
                each.setdefault(str(names[id]), []).append(hit)
            found["named_mean"] = sum(sum(one) / len(one) for one in each.values()) / len(each)
        return {w: torch.tensor(100 * v, dtype=torch.float64) for w, v in found.items()}

    def chance(self) -> dict[str, float]:
        """Per cent of who always gives the commonest name, after `compute`."""
        return dict(self._chance)

    def statistics(self) -> Statistics:
        """Objects named, and objects, of each class, of the last `compute`."""
        kinds = sorted({self._names[id] for id in self.hits}, key=str)
        there = one_hot([self._names[id] for id in self.hits], kinds)
        hits = there * np.array([[hit] for hit in self.hits.values()], np.float64)

        def value(sums: Floats) -> dict[str, Floats]:
            right, counts = sums[..., : len(kinds)], sums[..., len(kinds) :]
            found = {"named": 100 * share(right.sum(-1), counts.sum(-1))}
            if None not in kinds:
                each = 100 * share(right, counts)
                held = ~np.isnan(each)
                found["named_mean"] = share(np.where(held, each, 0).sum(-1), held.sum(-1))
            return found

        images = [image_of(id) for id in self.hits]
        return Statistics(images, np.concatenate([hits, there], 1), value)

    def _says(self, answer: str, truth: str, name: str | None) -> bool:
        if self.protocol == "same":
            return right(answer, truth, evalai)
        wanted = evalai(truth if name is None else name)
        return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", evalai(answer)) is not None
