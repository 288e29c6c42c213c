"""How rows of a knowledge base are chosen: filters, scores, lexical search, fusion, diversity."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_records import KnowledgeRecord
from rsvlm.retrieval.knowledge_version import Floats, Ints, Version

Scores = npt.NDArray[np.float64]

_WORD = re.compile(r"\w+")
#: Of reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009.
RRF_K = 60
#: Okapi BM25's usual values.
_K1, _B = 1.2, 0.75
_EARTH = 6371.0  # km


@dataclass(frozen=True)
class Filter:
    """Which records may be found; a field that is None takes all.

    Attributes:
        categories: classes, in any case.
        place: a text within name, location, address or area, in any case.
        near: (latitude, longitude, km): records with a position no farther off.
        since: ISO date; records of an earlier date, or of none, are left out.
        until: ISO date; likewise.
        splits: splits of the data set.
        exclude: ids or names of pictures that are left out.
        records: ids; no other record is found.
    """

    categories: Sequence[str] | None = None
    place: str | None = None
    near: tuple[float, float, float] | None = None
    since: str | None = None
    until: str | None = None
    splits: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    records: Sequence[str] | None = None

    def takes(self, record: KnowledgeRecord) -> bool:
        """Whether a record may be found."""
        if self.exclude and {record.id, record.image, record.image.rpartition("/")[2]} & {
            *self.exclude
        }:
            return False
        if self.records is not None and record.id not in self.records:
            return False
        if self.categories is not None:
            wanted = {name.casefold() for name in self.categories}
            if record.category.casefold() not in wanted:
                return False
        if self.place is not None:
            held = [record.name, record.location]
            held += [str(record.world.get(key, "")) for key in ("Address", "Area")]
            if not any(self.place.casefold() in text.casefold() for text in held):
                return False
        if self.near is not None:
            here = record.position
            if here is None or distance(here, self.near[:2]) > self.near[2]:
                return False
        if self.splits is not None and record.split not in self.splits:
            return False
        # ISO dates of several lengths compare by what both say.
        if self.since is not None and (
            not record.date or record.date < self.since[: len(record.date)]
        ):
            return False
        return self.until is None or bool(
            record.date and record.date[: len(self.until)] <= self.until
        )


def distance(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Kilometres along the sphere between two (latitude, longitude) in degrees."""
    phi, psi = math.radians(a[0]), math.radians(b[0])
    dphi, dlam = psi - phi, math.radians(b[1] - a[1])
    h = math.sin(dphi / 2) ** 2 + math.cos(phi) * math.cos(psi) * math.sin(dlam / 2) ** 2
    return 2 * _EARTH * math.asin(min(1.0, math.sqrt(h)))


def rows_of(version: Version, types: Sequence[str] | None, where: Filter | None) -> Ints:
    """The rows of some chunk types whose records a filter takes, in the base's order."""
    groups = [span for kind, span in version.groups.items() if types is None or kind in types]
    parts = [np.arange(a, b, dtype=np.int64) for a, b in groups]
    rows = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
    if where is None or where == Filter():
        return rows
    taken = np.array([where.takes(record) for record in version.records], dtype=bool)
    return rows[taken[version.record_of[rows]]] if len(rows) else rows


def cosines(vectors: Floats, query: Floats, rows: Ints) -> Scores:
    """Inner products of unit vectors, exact: rows of a memory-mapped [N, D] with a query [D]."""
    import torch

    if not len(rows):
        return np.zeros(0)
    asked = torch.from_numpy(np.ascontiguousarray(query, dtype=np.float32))
    found = torch.empty(len(rows))
    # Rows of a group stand together: those are read where they lie, others are gathered.
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = np.split(np.arange(len(rows)), cuts) if len(cuts) < 64 else []
    for run in runs:
        a, b = int(rows[run[0]]), int(rows[run[-1]]) + 1
        torch.mv(torch.from_numpy(vectors[a:b]), asked, out=found[run[0] : run[-1] + 1])
    if not runs:
        torch.mv(torch.from_numpy(vectors[rows]), asked, out=found)
    return found.numpy().astype(np.float64)


def released_cosines(vectors: Floats, query: Floats, rows: Ints) -> Scores:
    """Cosines as `TASKS/answer_utils.py` has them: float64, the denominator + 1e-8."""
    held, asked = vectors[rows].astype(np.float64), query.astype(np.float64)
    norms = np.linalg.norm(held, axis=1) * np.linalg.norm(asked)
    found: Scores = (held @ asked) / (norms + 1e-8)
    return found


def best(scores: Scores, count: int) -> Ints:
    """Positions of the best, highest first; equal ones in their order."""
    if count < len(scores) // 4:
        edge = -np.partition(-scores, count - 1)[count - 1]
        kept = np.flatnonzero(scores >= edge)
        found: Ints = kept[np.argsort(-scores[kept], kind="stable")][:count]
        return found
    return np.argsort(-scores, kind="stable")[:count].astype(np.int64)


def diverse(vectors: Floats, scores: Scores, count: int, weight: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

    Args:
        vectors: [P, D] of unit length, of the candidates.
        scores: [P] of them.
        count: how many are chosen.
        weight: of the score; the rest is that of the likeness to what is chosen already.

    Returns:
        Positions of the chosen, in the order of choice.
    """
    alike = vectors @ vectors.T
    left, chosen = list(range(len(scores))), list[int]()
    while left and len(chosen) < count:
        values = [
            weight * scores[i] - (1 - weight) * max((float(alike[i, j]) for j in chosen), default=0)
            for i in left
        ]
        chosen.append(left.pop(int(np.argmax(values))))
    return chosen


def reciprocal_ranks(lists: Sequence[Sequence[int]]) -> dict[int, float]:
    """Reciprocal rank fusion: row -> sum over lists of 1 / (60 + rank), best first."""
    found: dict[int, float] = {}
    for ranked in lists:
        for rank, row in enumerate(ranked, 1):
            found[row] = found.get(row, 0.0) + 1 / (RRF_K + rank)
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


class Lexicon:
    """Okapi BM25 over the texts of a version.

    Args:
        version: whose texts are read once.
    """

    def __init__(self, version: Version) -> None:
        postings: dict[str, list[tuple[int, int]]] = {}
        self.lengths = np.zeros(len(version))
        for row in range(len(version)):
            words = Counter(words_of(version.text_of(row)))
            self.lengths[row] = sum(words.values())
            for word, times in words.items():
                postings.setdefault(word, []).append((row, times))
        self.postings = {word: np.array(held).T for word, held in postings.items()}

    def scores(self, text: str, rows: Ints) -> Scores:
        """Of some rows; 0 where no word is shared."""
        found = np.zeros(len(self.lengths))
        mean = max(1.0, float(self.lengths.mean())) if len(self.lengths) else 1.0
        for word in dict.fromkeys(words_of(text)):
            if word not in self.postings:
                continue
            there, times = self.postings[word]
            rarity = math.log(1 + (len(found) - len(there) + 0.5) / (len(there) + 0.5))
            long = 1 - _B + _B * self.lengths[there] / mean
            found[there] += rarity * times * (_K1 + 1) / (times + _K1 * long)
        told: Scores = found[rows]
        return told


def words_of(text: str) -> list[str]:
    """Lower-cased words of a text, of any script that parts them."""
    return _WORD.findall(text.casefold())


def check_search(k: int, alpha: float, mmr: float | None, **asked: Any) -> None:
    """Refuses numbers that mean nothing.

    Raises:
        UserError: one of them.
    """
    if k < 1:
        raise UserError(f"k={k}: at least one chunk is asked for, as k=3.")
    for name, value in {"alpha": alpha, "mmr": mmr}.items():
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"{name}={value} lies between 0 and 1, as {name}=0.5.")
    for name, value in asked.items():
        if value is not None and value < 1:
            raise UserError(f"{name}={value} is at least 1.")
