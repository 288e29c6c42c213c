"""What filters read of a base's records, in columns: one that leaves few rows is to cost little."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rsvlm.retrieval.knowledge_records import KnowledgeRecord

if TYPE_CHECKING:
    from rsvlm.retrieval.knowledge_search import Filter

Bools = npt.NDArray[np.bool_]
EARTH = 6371.0  # km


class Columns:
    """Fields of records, each value once.

    Args:
        records: R of them.
    """

    def __init__(self, records: Sequence[KnowledgeRecord]) -> None:
        self.count = len(records)
        self.categories = _Words([record.category.casefold() for record in records])
        self.splits = _Words([record.split for record in records])
        self.dates = _Words([record.date for record in records])
        self.places = ["\n".join(place_of(record)).casefold() for record in records]
        here = [record.position or (np.nan, np.nan) for record in records]
        self.positions = np.radians(np.array(here, dtype=np.float64).reshape(-1, 2))
        self.names: dict[str, list[int]] = {}
        self.ids: dict[str, int] = {}
        for i, record in enumerate(records):
            self.ids[record.id] = i
            for name in names_of(record):
                self.names.setdefault(name, []).append(i)

    def taken(self, where: Filter) -> Bools:
        """[R] whether `where` takes each record; what `Filter.takes` says of it."""
        found = np.ones(self.count, dtype=bool)
        if where.records is not None:
            found[:] = False
            found[[self.ids[id] for id in where.records if id in self.ids]] = True
        for name in where.exclude:
            found[self.names.get(name, [])] = False
        if where.categories is not None:
            wanted = {name.casefold() for name in where.categories}
            found &= self.categories.that(lambda word: word in wanted)
        if where.splits is not None:
            found &= self.splits.that(lambda word: word in (where.splits or ()))
        if where.since is not None or where.until is not None:
            found &= self.dates.that(lambda date: within(date, where.since, where.until))
        if where.place is not None:
            sought = where.place.casefold()
            found &= np.array([sought in text for text in self.places], dtype=bool)
        if where.near is not None:
            lat, lon = np.radians(where.near[:2])
            phi, lam = self.positions.T
            h = np.sin((phi - lat) / 2) ** 2
            h += np.cos(lat) * np.cos(phi) * np.sin((lam - lon) / 2) ** 2
            # nan, of a record without a position, is no smaller than anything
            found &= 2 * EARTH * np.arcsin(np.minimum(1.0, np.sqrt(h))) <= where.near[2]
        return found


class _Words:
    def __init__(self, words: Sequence[str]) -> None:
        found, self.at = np.unique(np.array(words, dtype=object), return_inverse=True)
        self.found = found.tolist()

    def that(self, takes: Callable[[str], bool]) -> Bools:
        held: Bools = np.array([takes(word) for word in self.found], dtype=bool)[self.at]
        return held


def within(date: str, since: str | None, until: str | None) -> bool:
    """Whether an ISO date lies between two; dates of several lengths compare by what both say."""
    if since is not None and (not date or date < since[: len(date)]):
        return False
    return until is None or bool(date and date[: len(until)] <= until)


def place_of(record: KnowledgeRecord) -> list[str]:
    """Texts that say where a record is."""
    return [record.name, record.location] + [
        str(record.world.get(key, "")) for key in ("Address", "Area")
    ]


def names_of(record: KnowledgeRecord) -> set[str]:
    """What a record may be excluded by: its id, and its picture's name with its folders or not."""
    return {record.id, record.image, record.image.rpartition("/")[2]}
