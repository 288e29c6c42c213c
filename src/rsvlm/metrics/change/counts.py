"""How many roads and buildings have changed: errors of the numbers in the answers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.gather import Id, RecordMetric, text_of
from rsvlm.metrics.intervals import Floats, Statistics

THINGS = ("road", "building")
Counts = tuple[int, int]

_NONE = ("there are no changes in roads or buildings", "no new roads or buildings")
_LETTERS = re.findall(
    "[a-z]+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty",
)
_NUMBERS = {word: n for n, word in enumerate(_LETTERS)} | {"no": 0, "none": 0, "a": 1, "an": 1}
_WORDS = re.compile(r"\d+|[a-z]+|[,.;]")
_NO_CHANGE = re.compile(r"\bno\b[^.;]*\bchang|\bnothing\b|\bunchanged\b|\bno difference")
#: What stands between two nouns of which the first one's "no" holds for both.
_LINKS = (["or"], ["and"], ["nor"], ["or", "new"], ["and", "new"])
#: Words before a noun, or behind it, in which its number is looked for.
_REACH = 4


def published_counts(answer: str) -> Counts | None:
    """Roads and buildings as DeltaVLM's `test-count` notebook (6c9bd60) reads them.

    The first part of the answer, split at "new", is the roads', the second the buildings': 0 where
    it holds the letters "no" ("now" and "known" do), else its first number. Where the notebook
    stops with an IndexError, the result is None.
    """
    text = answer.lower()
    if any(sentence in text for sentence in _NONE):
        return 0, 0
    parts = text.split("new")
    if len(parts) < 2:
        return None
    found = []
    for part in parts[:2]:
        number = re.search(r"\d+", part)
        if "no" not in part and number is None:
            return None
        found.append(0 if "no" in part or number is None else int(number.group()))
    return found[0], found[1]


def robust_counts(answer: str) -> Counts | None:
    """Roads and buildings by the number that belongs to each word.

    A number stands shortly before its noun ("3 new roads", "no building", "a road") or behind it
    ("roads: 3"). Of "no roads or buildings" both are 0; a kind that is not spoken of is 0 where the
    other one has a number, and so are both in "nothing has changed".

    Returns:
        None where no number can be told.
    """
    words = _WORDS.findall(answer.lower())
    nouns = [
        (place, thing)
        for place, word in enumerate(words)
        for thing in THINGS
        if word in (thing, f"{thing}s")
    ]
    found: dict[str, int] = {}
    used: set[int] = set()
    for n, (place, thing) in enumerate(nouns):
        first = nouns[n - 1][0] + 1 if n else 0
        last = nouns[n + 1][0] if n + 1 < len(nouns) else len(words)
        before = range(place - 1, max(first, place - _REACH) - 1, -1)
        behind = range(place + 1, min(last, place + 1 + _REACH))
        # "and 3" behind a noun belongs to the next one.
        at = _first_number(words, before, used, ",.;")
        linked = words[first:place] in _LINKS and found.get(nouns[n - 1][1]) == 0
        if at is None and not linked:
            at = _first_number(words, behind, used, (",", ".", ";", "and", "or"))
        if at is not None:
            used.add(at)
        if (at is not None or linked) and thing not in found:
            found[thing] = 0 if at is None else _number(words[at]) or 0
    if not found:
        return (0, 0) if _NO_CHANGE.search(answer.lower()) else None
    return found.get("road", 0), found.get("building", 0)


def _first_number(
    words: Sequence[str], places: range, used: set[int], stops: Sequence[str]
) -> int | None:
    """The nearest place with a number of its own, up to the first stop."""
    for place in places:
        if words[place] in stops:
            return None
        if place not in used and _number(words[place]) is not None:
            return place
    return None


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else _NUMBERS.get(word)


PARSERS: dict[str, Callable[[str], Counts | None]] = {
    "published": published_counts,
    "robust": robust_counts,
}


class ChangeCounts(RecordMetric):
    """Errors of the numbers of changed roads and buildings.

    Formula: MAE, the mean of |answer - truth| over pairs; RMSE, the root of the mean of
    (answer - truth)^2. Range: 0 to unbounded, in objects; count_unparsable 0 to 100 per cent.
    Lower is better. Protocols: published, robust (two readings of one answer). Used in: DeltaVLM's
    quantification table on ChangeChat-105k.

    An answer that cannot be read counts as zero roads and zero buildings, because an error needs a
    number, and in count_unparsable; an empty one is such. Answers that are no strings are errors,
    and so are truths without numbers and a metric of no pairs.

    Args:
        protocol: `published` or `robust`.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(self, protocol: str = "published", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if protocol not in PARSERS:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, PARSERS)}")
        self.protocol = protocol
        self._apart: tuple[list[Id], Tensor, list[bool]] | None = None

    def update(
        self,
        answers: Sequence[Any],
        counts: Sequence[Any],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            answers: b answers.
            counts: for each the truth: (roads, buildings), `{"road": r, "building": b}`, or the
                data set's own answer, which is read by the robust parser.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, answers that are no strings, truths without numbers.
        """
        if len(answers) != len(counts):
            raise UserError(f"{len(answers)} answers and {len(counts)} counts: give one of each.")
        self.keep(
            [id, text_of(answer, f"pair {id!r}"), *true_counts(truth, f"pair {id!r}")]
            for id, answer, truth in zip(
                self.name_items(len(answers), ids, "pair"), answers, counts, strict=True
            )
        )

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> objects; count_unparsable in per cent.

        Raises:
            UserError: no pairs, or one pair with two answers.
        """
        rows = self.items()
        read = [PARSERS[self.protocol](row[1]) for row in rows]
        predicted = torch.tensor([one or (0, 0) for one in read], dtype=torch.float64)
        apart = predicted - torch.tensor([row[2:] for row in rows], dtype=torch.float64)
        self._apart = [row[0] for row in rows], apart, [one is None for one in read]
        empty = sum(not row[1].strip() for row in rows)
        self.note([row[2:] for row in rows], empty=empty)
        found = {}
        for column, thing in enumerate(THINGS):
            error = apart[:, column]
            found[f"{thing}_mae"] = error.abs().mean()
            found[f"{thing}_rmse"] = error.square().mean().sqrt()
        share = 100 * sum(one is None for one in read) / len(rows)
        return found | {"count_unparsable": torch.tensor(share, dtype=torch.float64)}

    def statistics(self) -> Statistics:
        """Errors and squared errors of each pair, of the last `compute`.

        Raises:
            RuntimeError: before it.
        """
        if self._apart is None:
            raise RuntimeError("statistics are there after compute; call that first.")
        ids, apart, unread = self._apart
        error = apart.abs().numpy()
        one = np.ones((len(ids), 1))
        rows = np.concatenate([error, error**2, np.array(unread, np.float64)[:, None], one], 1)

        def value(sums: Floats) -> dict[str, Floats]:
            mean = sums[..., :-1] / sums[..., -1:]
            found: dict[str, Floats] = {}
            for n, thing in enumerate(THINGS):
                found[f"{thing}_mae"] = mean[..., n]
                found[f"{thing}_rmse"] = np.sqrt(mean[..., n + len(THINGS)])
            return found | {"count_unparsable": 100 * mean[..., -1]}

        return Statistics([image_of(id) for id in ids], rows, value)


def true_counts(truth: Any, what: str) -> Counts:
    """(roads, buildings) of what a data set says.

    Raises:
        UserError: no two whole numbers from 0 on, and no sentence that holds them.
    """
    found: Any = truth
    if isinstance(truth, str):
        found = robust_counts(truth)
    elif isinstance(truth, Mapping):
        found = [truth.get(thing, math.nan) for thing in THINGS]
    if (
        not isinstance(found, Sequence)
        or len(found) != len(THINGS)
        or not all(type(number) is int and number >= 0 for number in found)
    ):
        raise UserError(
            f"{what}: {truth!r} is no count; give (roads, buildings), "
            '{"road": r, "building": b} or the data set\'s sentence.'
        )
    return found[0], found[1]
