"""Where roads and buildings have changed: cells of a 3 x 3 grid named in the answers."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rsvlm.data.prediction_records import image_of
from rsvlm.errors import UserError, near
from rsvlm.metrics.change.counts import THINGS
from rsvlm.metrics.change.flags import f_score, ratio
from rsvlm.metrics.gather import Id, RecordMetric, text_of
from rsvlm.metrics.intervals import Floats, Statistics, share

CELLS = tuple(
    f"{row}-{column}"
    for row in ("top", "center", "bottom")
    for column in ("left", "center", "right")
)
Places = tuple[frozenset[str], frozenset[str]]

_LIST = r"\s*(\[[^\]]*\])"
_CELL = re.compile(
    r"\b(top|upper|center|centre|middle|bottom|lower)\W{0,2}(left|center|centre|middle|right)\b"
)
_SAME = {"upper": "top", "lower": "bottom", "centre": "center", "middle": "center"}
_THING = re.compile(r"\b(road|building)s?\b")
_NO_CHANGE = re.compile(r"\bno\b[^.;]*\bchang|\bnothing\b|\bno difference")


def published_places(answer: str) -> Places | None:
    """Cells as DeltaVLM's `test-loc` notebook (6c9bd60) reads them.

    Python lists of cell names behind "roads" and "buildings", after the text processor has lowered
    the answer and put spaces for colons. Where the notebook stops (no list, no Python, another
    name), the result is None.
    """
    text = answer.lower().replace(":", " ")
    found = []
    for thing in THINGS:
        match = re.search(f"{thing}s{_LIST}", text)
        if match is None:
            return None
        try:
            names = ast.literal_eval(match.group(1))
        except (ValueError, SyntaxError):
            return None
        if not all(isinstance(name, str) and name in CELLS for name in names):
            return None
        found.append(frozenset(names))
    return found[0], found[1]


def robust_places(answer: str) -> Places | None:
    """Cells by their names behind "road" and "building", however they are punctuated.

    "middle" and "centre" are "center", "upper" and "lower" are "top" and "bottom". A kind that is
    not spoken of has none, and so have both in "no change has occurred".

    Returns:
        None where neither kind is spoken of.
    """
    text = answer.lower()
    places: dict[str, set[str]] = {thing: set() for thing in THINGS}
    nouns = list(_THING.finditer(text))
    if not nouns:
        return (frozenset(), frozenset()) if _NO_CHANGE.search(text) else None
    ends = [noun.start() for noun in nouns[1:]] + [len(text)]
    for noun, end in zip(nouns, ends, strict=True):
        for row, column in _CELL.findall(text[noun.end() : end]):
            places[noun.group(1)].add(f"{_SAME.get(row, row)}-{_SAME.get(column, column)}")
    return frozenset(places["road"]), frozenset(places["building"])


PARSERS: dict[str, Callable[[str], Places | None]] = {
    "published": published_places,
    "robust": robust_places,
}
#: What the Jaccard index of two empty sets is.
EMPTY = {"published": 0, "robust": 1}


class ChangeLocations(RecordMetric):
    """Precision, recall, F1, Jaccard, subset accuracy and Hamming loss of the cells named.

    Formula, per kind, P the cells named and T the true ones of a pair: precision, recall and F1
    over all cells of all pairs together (micro); Jaccard, the mean over pairs of |P & T| / |P | T|,
    for two empty sets the option `empty`; subset accuracy, the share of pairs with P = T; Hamming,
    the share of the nine cells told wrong. Range: 0 to 100 per cent. Higher is better (Hamming and
    loc_unparsable: lower). Protocols: published, robust. Used in: DeltaVLM's localisation table on
    ChangeChat-105k, whose Jaccard of 14.00 beside a subset accuracy of 70.92 comes from empty = 0.

    An answer that cannot be read names no cell and is wrong as a whole: its Jaccard is 0 and its
    subset is not right, even where nothing has changed; loc_unparsable counts it, and an empty
    answer is such. Answers that are no strings and truths with other names are errors, and so is a
    metric of no pairs.

    Args:
        protocol: `published` or `robust`: the reading, and what `empty` is by default.
        empty: 0 or 1, the Jaccard index of two empty sets; None takes the protocol's.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(
        self, protocol: str = "published", *, empty: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if protocol not in PARSERS:
            raise UserError(f"protocol {protocol!r} is unknown. {near(protocol, PARSERS)}")
        if empty not in (None, 0, 1):
            raise UserError(f"empty={empty!r}: the Jaccard index of two empty sets is 0 or 1.")
        self.protocol = protocol
        self.empty = EMPTY[protocol] if empty is None else int(empty)
        self._rows: tuple[list[Id], list[Tensor]] | None = None

    def update(
        self,
        answers: Sequence[Any],
        places: Sequence[Any],
        ids: Sequence[Id] | None = None,
    ) -> None:
        """Adds a batch.

        Args:
            answers: b answers.
            places: for each the truth: `{"road": [cells], "building": [cells]}`, a pair of lists,
                or the data set's own answer, which is read by the robust parser.
            ids: b positions or names; None counts, which several processes cannot.

        Raises:
            UserError: lengths that differ, answers that are no strings, truths that name no cells.
        """
        if len(answers) != len(places):
            raise UserError(f"{len(answers)} answers and {len(places)} places: give one of each.")
        self.keep(
            [id, text_of(answer, f"pair {id!r}"), *map(sorted, true_places(truth, f"pair {id!r}"))]
            for id, answer, truth in zip(
                self.name_items(len(answers), ids, "pair"), answers, places, strict=True
            )
        )

    def compute(self) -> dict[str, Tensor]:
        """Metric word -> per cent.

        Raises:
            UserError: no pairs, or one pair with two answers.
        """
        rows = self.items()
        read = [PARSERS[self.protocol](row[1]) for row in rows]
        legible = torch.tensor([one is not None for one in read])
        settings = {} if self.empty == EMPTY[self.protocol] else {"empty": self.empty}
        empty = sum(not row[1].strip() for row in rows)
        self.note([row[2:] for row in rows], empty=empty, settings=settings)
        found: dict[str, Tensor] = {}
        columns: list[Tensor] = []
        for column, thing in enumerate(THINGS):
            predicted = _cells([one[column] if one else () for one in read])
            true = _cells([row[2 + column] for row in rows])
            hits = (predicted & true).sum().double()
            precision = ratio(hits, predicted.sum().double())
            recall = ratio(hits, true.sum().double())
            either = (predicted | true).sum(1)
            jaccard = (predicted & true).sum(1) / either.clamp(min=1).double()
            jaccard[(either == 0) & legible] = self.empty
            columns += [
                *((predicted & true).sum(1), predicted.sum(1), true.sum(1), jaccard),
                *((predicted == true).all(1) & legible, (predicted != true).double().mean(1)),
            ]
            values = {
                "precision": precision,
                "recall": recall,
                "f1": f_score(precision, recall, 1.0),
                "jaccard": jaccard.mean(),
                "subset_accuracy": ((predicted == true).all(1) & legible).double().mean(),
                "hamming": (predicted != true).double().mean(),
            }
            found |= {f"{thing}_loc_{word}": 100 * value for word, value in values.items()}
        self._rows = [row[0] for row in rows], [*columns, ~legible]
        return found | {"loc_unparsable": 100 * (~legible).double().mean()}

    def statistics(self) -> Statistics:
        """Cells found, named and true of each pair, of the last `compute`.

        Raises:
            RuntimeError: before it.
        """
        if self._rows is None:
            raise RuntimeError("statistics are there after compute; call that first.")
        ids, columns = self._rows
        table = torch.stack([one.double() for one in columns], 1).numpy()
        rows = np.concatenate([table, np.ones((len(ids), 1))], 1)

        def value(sums: Floats) -> dict[str, Floats]:
            def rate(part: Floats, whole: Floats) -> Floats:
                return np.where(whole > 0, share(part, whole), 0.0)

            found: dict[str, Floats] = {}
            count = sums[..., -1]
            for n, thing in enumerate(THINGS):
                hits, predicted, true, jaccard, right, wrong = np.moveaxis(
                    sums[..., 6 * n : 6 * n + 6], -1, 0
                )
                precision, recall = rate(hits, predicted), rate(hits, true)
                values = {
                    "precision": precision,
                    "recall": recall,
                    "f1": rate(2 * precision * recall, precision + recall),
                    "jaccard": jaccard / count,
                    "subset_accuracy": right / count,
                    "hamming": wrong / count,
                }
                found |= {f"{thing}_loc_{word}": 100 * one for word, one in values.items()}
            return found | {"loc_unparsable": 100 * sums[..., -2] / count}

        return Statistics([image_of(id) for id in ids], rows, value)


def true_places(truth: Any, what: str) -> Places:
    """(road cells, building cells) of what a data set says.

    Raises:
        UserError: no two lists of cells, and no sentence that holds them.
    """
    found: Any = truth
    if isinstance(truth, str):
        found = robust_places(truth)
    elif isinstance(truth, Mapping):
        found = [truth.get(thing, truth.get(f"{thing}s")) for thing in THINGS]
    if isinstance(found, Sequence) and len(found) == len(THINGS):
        lists = [one for one in found if isinstance(one, Sequence | frozenset)]
        if len(lists) == len(THINGS) and all(set(one) <= set(CELLS) for one in lists):
            return frozenset(lists[0]), frozenset(lists[1])
    raise UserError(
        f"{what}: {truth!r} names no cells; give {{'road': [...], 'building': [...]}} of "
        f"{', '.join(CELLS)}."
    )


def _cells(sets: Sequence[Any]) -> Tensor:
    """[N, 9] bool."""
    rows = [[cell in one for cell in CELLS] for one in sets]
    return torch.tensor(rows, dtype=torch.bool).reshape(len(rows), len(CELLS))
