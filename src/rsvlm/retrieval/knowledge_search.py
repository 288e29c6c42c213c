"""How rows of a knowledge base are chosen: filters, scores, lexical search, fusion, diversity."""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rsvlm.errors import UserError, near
from rsvlm.retrieval.knowledge_columns import Columns
from rsvlm.retrieval.knowledge_records import KnowledgeRecord
from rsvlm.retrieval.knowledge_version import Floats, Ints, Version

Scores = npt.NDArray[np.float64]

#: How lists become one.
FUSIONS = ("weighted", "rrf")
_WORD = re.compile(r"\w+")
#: Of reciprocal rank fusion: Cormack, Clarke and Buettcher, SIGIR 2009.
RRF_K = 60
#: Okapi BM25's usual values.
_K1, _B = 1.2, 0.75
#: Up to how many runs of rows are read one by one.
_RUNS = 64
_PIECES = 16
#: Rows that are copied as float64 at a time.
_AT_A_TIME = 8192


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
        return bool(Columns([record]).taken(self)[0])


def rows_of(version: Version, types: Sequence[str] | None, where: Filter | None) -> Ints:
    """The rows of some chunk types whose records a filter takes, in the base's order."""
    groups = [span for kind, span in version.groups.items() if types is None or kind in types]
    if where is None or where == Filter():
        parts = [np.arange(a, b, dtype=np.int64) for a, b in groups]
    else:
        taken = version.columns.taken(where)
        parts = [a + np.flatnonzero(taken[version.record_of[a:b]]) for a, b in groups]
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def cosines(vectors: Floats, query: Floats, rows: Ints) -> Scores:
    """Inner products of unit vectors, exact: rows of a memory-mapped [N, D] with a query [D]."""
    import torch

    if not len(rows):
        return np.zeros(0)
    asked = torch.from_numpy(np.ascontiguousarray(query, dtype=np.float32))
    found = torch.empty(len(rows))
    # Rows of a group stand together: those are read where they lie.
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    if len(cuts) < _RUNS:
        for run in np.split(np.arange(len(rows)), cuts):
            a, b = int(rows[run[0]]), int(rows[run[-1]]) + 1
            torch.mv(torch.from_numpy(vectors[a:b]), asked, out=found[run[0] : run[-1] + 1])
    else:
        found = _scattered(torch.from_numpy(vectors), asked, torch.from_numpy(rows))
    return found.numpy().astype(np.float64)


def _scattered(vectors: Any, asked: Any, rows: Any) -> Any:
    """Inner products of some rows: entries of a product that is sparse, so that none is copied."""
    import torch

    ends = torch.linspace(0, len(rows), _PIECES + 1, dtype=torch.int64)  # a thread takes some
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that its layout is in beta
        entries = torch.sparse_csr_tensor(
            ends,
            rows,
            torch.zeros(len(rows)),
            size=(_PIECES, len(vectors)),
            check_invariants=False,
        )
        questions = asked.expand(_PIECES, -1).contiguous()
        found = torch.sparse.sampled_addmm(entries, questions, vectors.T, beta=0.0)
    return found.values()


def released_cosines(vectors: Floats, query: Floats, rows: Ints) -> Scores:
    """Cosines as `TASKS/answer_utils.py` has them: float64, the denominator + 1e-8."""
    asked, found = query.astype(np.float64), np.zeros(len(rows))
    for start in range(0, len(rows), _AT_A_TIME):
        held = vectors[rows[start : start + _AT_A_TIME]].astype(np.float64)
        norms = np.linalg.norm(held, axis=1) * np.linalg.norm(asked)
        found[start : start + _AT_A_TIME] = (held @ asked) / (norms + 1e-8)
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


def check_search(k: int, alpha: float, mmr: float | None, fusion: str, **asked: Any) -> None:
    """Refuses numbers and words that mean nothing.

    Raises:
        UserError: one of them.
    """
    if fusion not in FUSIONS:
        raise UserError(f"fusion={fusion} is not known. {near(fusion, FUSIONS)}")
    if k < 1:
        raise UserError(f"k={k}: at least one chunk is asked for, as k=3.")
    for name, value in {"alpha": alpha, "mmr": mmr}.items():
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"{name}={value} lies between 0 and 1, as {name}=0.5.")
    for name, value in asked.items():
        if value is not None and value < 1:
            raise UserError(f"{name}={value} is at least 1.")
