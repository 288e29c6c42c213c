"""Changed or not: from captions by their wording, or from answers by yes and no."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.change.templates import plain, templates_of
from rsvlm.metrics.gather import Id, RecordMetric, digest, text_of
from rsvlm.metrics.intervals import Floats, Statistics, one_hot, share
from rsvlm.metrics.names import PROTOCOLS

_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def says_changed(answer: str) -> bool | None:
    """What an answer's first word says; None where it is neither yes nor no."""
    found = _YES_NO.match(answer)
    return None if found is None else found.group(1).lower() == "yes"


class ChangeFlags(RecordMetric):
    """Accuracy, precision, recall, F1 and F0.5 of telling changed pairs from unchanged ones.

    Formula, with true and false positives and negatives of the class "changed": accuracy
    (TP + TN) / N, precision TP / (TP + FP), recall TP / (TP + FN), F_b
    (1 + b^2) P R / (b^2 P + R); 0 where a divisor is 0; no_change_* are those of the class
    "unchanged". Range: 0 to 100 per cent. Higher is better (change_unparsable: lower). Protocols:
    levir_cc, second_cc, custom_templates (from captions), yes_no (from answers). Used in:
    DeltaVLM's binary table (from captions, levir_cc), and SECOND-CC's change and no-change
    accuracies, which are change_recall and no_change_recall.

    An empty caption is none of the sentences, so it says "changed"; an answer without yes or no is
    wrong whatever is true, and counted in change_unparsable. Answers that are no strings and flags
    other than 0 and 1 are errors, and so is a metric of no pairs.

    Args:
        protocol: see `names.PROTOCOLS["change_flags"]`.
        templates: the sentences of protocol `custom_templates`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(
        self,
        protocol: str = "levir_cc",
        *,
        templates: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        known = PROTOCOLS["change_flags"]
        if protocol not in known:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, known)}")
        if (protocol == "custom_templates") != (templates is not None):
            raise UserError(
                "templates=[...] belong to protocol custom_templates, which needs them."
            )
        self.protocol = protocol
        self.templates = frozenset[str]()
        if protocol != "yes_no":
            self.templates = templates_of(protocol, templates)
        self._confusion: Tensor | None = None
        self._cells: dict[Id, tuple[int, int, int]] = {}

    def update(
        self,
        answers: Sequence[Any],
        flags: Sequence[bool | int],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            answers: b captions, or b answers under `yes_no`.
            flags: b times whether the pair has changed.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, answers that are no strings, flags that are none.
        """
        if len(answers) != len(flags):
            raise UserError(f"{len(answers)} answers and {len(flags)} flags: give one of each.")
        rows = []
        for id, answer, flag in zip(
            self.name_items(len(answers), ids, "pair"), answers, flags, strict=True
        ):
            rows.append([id, text_of(answer, f"pair {id!r}"), flag_of(flag, f"pair {id!r}")])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Afterwards `confusion` is there.

        Raises:
            UserError: no pairs, or one pair with two answers.
        """
        counts = torch.zeros(2, 2, dtype=torch.long)
        unread = 0
        rows = self.items()
        self._cells = {}
        for id, answer, flag in rows:
            predicted = self._predicted(answer)
            unread += predicted is None
            cell = int(flag), int(not flag if predicted is None else predicted)
            counts[cell] += 1
            self._cells[id] = (*cell, int(predicted is None))
        self._confusion = counts
        settings: dict[str, Any] = {}
        if self.protocol == "custom_templates":
            settings["templates"] = digest(sorted(self.templates))[:8]
        empty = sum(not row[1].strip() for row in rows)
        self.note([row[2] for row in rows], empty=empty, settings=settings)
        (tn, fp), (fn, tp) = counts.double()
        precision, recall = ratio(tp, tp + fp), ratio(tp, tp + fn)
        found = {
            "change_accuracy": (tp + tn) / len(rows),
            "change_precision": precision,
            "change_recall": recall,
            "change_f1": f_score(precision, recall, 1.0),
            "change_f05": f_score(precision, recall, 0.5),
            "no_change_precision": ratio(tn, tn + fn),
            "no_change_recall": ratio(tn, tn + fp),
        }
        if self.protocol == "yes_no":
            found["change_unparsable"] = torch.tensor(unread / len(rows), dtype=torch.float64)
        return {word: value * 100 for word, value in found.items()}

    def statistics(self) -> Statistics:
        """The cell of the confusion matrix that each pair is in, of the last `compute`."""
        cells = [2 * flag + predicted for flag, predicted, _ in self._cells.values()]
        unread = np.array([[one] for *_, one in self._cells.values()], np.float64)
        rows = np.concatenate([one_hot(cells, range(4)), unread], 1)

        def value(sums: Floats) -> dict[str, Floats]:
            tn, fp, fn, tp = (sums[..., n] for n in range(4))
            total = tn + fp + fn + tp

            def rate(part: Floats, whole: Floats) -> Floats:
                return np.where(whole > 0, share(part, whole), 0.0)

            precision, recall = rate(tp, tp + fp), rate(tp, tp + fn)
            found = {
                "change_accuracy": share(tp + tn, total),
                "change_precision": precision,
                "change_recall": recall,
                "change_f1": rate(2 * precision * recall, precision + recall),
                "change_f05": rate(1.25 * precision * recall, 0.25 * precision + recall),
                "no_change_precision": rate(tn, tn + fn),
                "no_change_recall": rate(tn, tn + fp),
            }
            if self.protocol == "yes_no":
                found["change_unparsable"] = share(sums[..., 4], total)
            return {word: 100 * one for word, one in found.items()}

        return Statistics([image_of(id) for id in self._cells], rows, value)

    @property
    def confusion(self) -> Tensor:
        """[2, 2] counts of the last `compute`: row what is (0 unchanged), column what was said.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._confusion is None:
            raise RuntimeError("confusion is there after compute; call that first.")
        return self._confusion

    def _predicted(self, answer: str) -> bool | None:
        if self.protocol == "yes_no":
            return says_changed(answer)
        return plain(answer) not in self.templates


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """A part by its whole; 0 where whole is 0."""
    return torch.where(whole > 0, part / whole.clamp(min=1e-300), torch.zeros_like(whole))


def f_score(precision: Tensor, recall: Tensor, beta: float) -> Tensor:
    """F_beta; 0 where both are 0."""
    square = beta * beta
    return ratio((1 + square) * precision * recall, square * precision + recall)


def flag_of(flag: Any, what: str) -> bool:
    """The flag as bool.

    Raises:
        UserError: it is neither of True, False, 1 and 0.
    """
    if isinstance(flag, bool | int) and flag in (0, 1):
        return bool(flag)
    raise UserError(f"{what}: flag {flag!r}: 1 is a changed pair, 0 an unchanged one.")
