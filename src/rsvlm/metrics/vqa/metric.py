"""Answers to questions about images, by type of question."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric, text_of
from rsvlm.metrics.intervals import Floats, Statistics, one_hot, share
from rsvlm.metrics.names import METRICS, PROTOCOLS
from rsvlm.metrics.vqa.normalise import NORMALISE, PUBLISHED, exact, is_number, right

_HR = ("area", "presence", "count", "comp")
#: Data set -> its types of question. `rsvqa_hr` is HR's first test set, `rsvqa_hr_phili` its
#: second one (Philadelphia); `any` takes the types as they come.
TYPES: dict[str, tuple[str, ...]] = {
    "rsvqa_lr": ("rural_urban", "presence", "count", "comp"),
    "rsvqa_hr": _HR,
    "rsvqa_hr_phili": _HR,
    "rsivqa": ("yes_no", "number", "other"),
    "any": (),
}
#: Protocol -> types that it leaves out.
LEFT_OUT = {"lhrs": ("count", "area"), "vhm": ("count", "area")}


class VQA(RecordMetric):
    """Accuracy of answers: of all questions, of each type, and the mean over the types.

    Formula: oa, the share of questions with the right answer; acc_<type>, the same of one type;
    aa, the mean of acc_<type> over the types that have questions. An answer is right when it
    equals the true one in the protocol's form. Range: 0 to 100 per cent. Higher is better.
    Protocols: exact, evalai, published, lhrs, vhm; an accuracy without counts and areas (lhrs, vhm)
    is no accuracy with them. Used in: RSVQA's tables (published, three runs), RS-RAG's (exact),
    LHRS-Bot's (lhrs), VHM's and, by its columns, SkyEyeGPT's (vhm); RSIVQA's by yes_no, number and
    other.

    An empty answer is wrong. Answers that are no strings are errors, and so are empty truths,
    unknown types and a metric of no questions. Questions of a type that the protocol leaves out
    are counted in `facts` as left_out.

    Args:
        data: one of `TYPES`.
        protocol: see `names.PROTOCOLS["vqa"]`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, data: str = "any", protocol: str = "exact", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        known = PROTOCOLS["vqa"]
        if protocol not in known:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, known)}")
        if data not in TYPES:
            raise UserError(f"{data!r} is no VQA data set of ours. {near(data, TYPES)}")
        if protocol in LEFT_OUT and not data.startswith("rsvqa"):
            raise UserError(f"protocol {protocol} is one for RSVQA; {data} has no such subset.")
        self.data = data
        self.protocol = protocol
        self._chance: dict[str, float] = {}
        #: Id -> (type, whether the answer is right) of the last `compute`.
        self.hits: dict[Id, tuple[str | None, bool]] = {}
        self.form = NORMALISE[protocol]
        if protocol == "published":
            self.form = PUBLISHED.get(data, self.form)

    def update(
        self,
        answers: Sequence[Any],
        truths: Sequence[Any],
        types: Sequence[str | None] | None = None,
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            answers: b answers as the model wrote them.
            truths: b true answers.
            types: b types of question. RSIVQA's follow from the true answer and may be None;
                `any` may do without.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, answers that are no strings, empty truths, types that
                the data set does not have.
        """
        kinds = [None] * len(answers) if types is None else list(types)
        if not len(answers) == len(truths) == len(kinds):
            raise UserError(
                f"{len(answers)} answers, {len(truths)} truths and {len(kinds)} types: give one "
                "of each per question."
            )
        rows = []
        named = self.name_items(len(answers), ids, "question")
        for id, answer, truth, kind in zip(named, answers, truths, kinds, strict=True):
            what = f"question {id!r}"
            prediction, target = text_of(answer, what), text_of(truth, f"{what}, truth")
            if not target.strip():
                raise UserError(f"{what}: the true answer is empty.")
            rows.append([id, prediction, target, self._type(kind, target, what)])
        self.keep(rows)

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Raises:
            UserError: no questions, or one of them with two answers.
        """
        every = self.items()
        rows = [row for row in every if row[3] not in LEFT_OUT.get(self.protocol, ())]
        if not rows:
            raise UserError(f"all {len(every)} questions are of types that it leaves out.")
        hits: dict[str | None, list[bool]] = {}
        said: dict[str | None, Counter[str]] = {}
        self.hits = {}
        for id, answer, truth, kind in rows:
            hit = right(answer, truth, self.form)
            self.hits[id] = kind, hit
            hits.setdefault(kind, []).append(hit)
            said.setdefault(kind, Counter())[self.form(truth) or exact(truth)] += 1
        empty = sum(not row[1].strip() for row in rows)
        types = {str(kind): len(one) for kind, one in sorted(hits.items(), key=str)}
        self.note(
            [row[2:] for row in rows], empty=empty, left_out=len(every) - len(rows), types=types
        )
        commonest = {kind: max(words.values()) for kind, words in said.items()}
        self._chance = self._shares(commonest, hits)
        found = self._shares({kind: sum(one) for kind, one in hits.items()}, hits)
        return {w: torch.tensor(100 * value, dtype=torch.float64) for w, value in found.items()}

    def statistics(self) -> Statistics:
        """Right answers and questions of each type, of the last `compute`."""
        kinds = sorted({kind for kind, _ in self.hits.values()}, key=str)
        asked = one_hot([kind for kind, _ in self.hits.values()], kinds)
        right = asked * np.array([[hit] for _, hit in self.hits.values()], np.float64)

        def value(sums: Floats) -> dict[str, Floats]:
            hits, counts = sums[..., : len(kinds)], sums[..., len(kinds) :]
            found = {"oa": 100 * share(hits.sum(-1), counts.sum(-1))}
            if None not in kinds:
                each = 100 * share(hits, counts)
                there = ~np.isnan(each)
                # A type without a question in a sample has no accuracy there.
                found["aa"] = share(np.where(there, each, 0).sum(-1), there.sum(-1))
                found |= {f"acc_{kind}": each[..., n] for n, kind in enumerate(kinds)}
            return found

        images = [image_of(id) for id in self.hits]
        return Statistics(images, np.concatenate([right, asked], 1), value)

    def chance(self) -> dict[str, float]:
        """Per cent of who always gives the commonest true answer of each type, after `compute`."""
        return {word: 100 * value for word, value in self._chance.items()}

    def _shares(
        self, right: dict[str | None, int], asked: dict[str | None, list[bool]]
    ) -> dict[str, float]:
        """Metric word -> share, from the right answers and the questions of each type."""
        share = {kind: right[kind] / len(one) for kind, one in asked.items()}
        found = {"oa": sum(right.values()) / sum(map(len, asked.values()))}
        if None not in share:
            found["aa"] = sum(share.values()) / len(share)
            order = TYPES[self.data] or sorted(map(str, share))
            found |= {
                f"acc_{kind}": share[kind]
                for kind in order
                if kind in share and f"acc_{kind}" in METRICS
            }
        return found

    def _type(self, kind: str | None, truth: str, what: str) -> str | None:
        if kind is None and self.data == "rsivqa":
            word = truth.strip().lower().rstrip(".")
            return "yes_no" if word in ("yes", "no") else "number" if is_number(word) else "other"
        known = TYPES[self.data]
        if self.data != "any" and kind not in known:
            raise UserError(
                f"{what}: type {kind!r} is none of {self.data}'s: {', '.join(known)}."
                + (f" {near(kind, known)}" if kind else "")
            )
        return kind
