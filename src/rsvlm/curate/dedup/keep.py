"""Which record of a group of duplicates stays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rsvlm.curate.record import Dropped, Record, rng


@dataclass(frozen=True)
class KeepRule:
    """The best value of a field stays; of several, one that is drawn, or the first.

    Across splits, `by="split", best=["test", "val", "train"]` takes what is tested out of what
    is trained on. Capital letters make no difference. RS5M: laioncoco goes first, then laion2b,
    laion400m and coyo700m stay where there is one, else one is drawn.

    Attributes:
        by: a field of the record; empty ranks all alike.
        best: values from the best on; the others come behind them.
        worst: values that come behind the others.
        groups: values of `best` that are alike, as [laion2b, laion400m]; they get the rank of the
            first.
        draw: whether one of the best is drawn; else the first in the order of the input stays.
        seed: of the draw.
    """

    by: str = ""
    best: Sequence[str] = ()
    worst: Sequence[str] = ()
    groups: Sequence[Sequence[str]] = ()
    draw: bool = False
    seed: int = 0

    def rank(self, record: Record) -> int:
        """0 is best."""
        if not self.by:
            return 0
        # LAION's own files say laion2B.
        value = str(record.get(self.by, "")).lower()
        groups = [[word.lower() for word in group] for group in self.groups]
        best, worst = ([word.lower() for word in words] for words in (self.best, self.worst))
        same = next((group[0] for group in groups if value in group), value)
        if same in best:
            return best.index(same)
        if same in worst:
            return len(best) + 1 + worst.index(same)
        return len(best)

    def decisions(
        self, ids: Sequence[str], ranks: Sequence[int], groups: Sequence[Sequence[int]], reason: str
    ) -> list[Mapping[str, Any] | Dropped]:
        """Of each record nothing to add, or that it is a duplicate of which one."""
        found: list[Mapping[str, Any] | Dropped] = [{} for _ in ids]
        for group in groups:
            best = min(ranks[i] for i in group)
            among = [i for i in group if ranks[i] == best]
            kept = among[0]
            if self.draw and len(among) > 1:
                names = sorted(ids[i] for i in among)
                drawn = names[int(rng(self.seed, "keep", *names).integers(len(names)))]
                kept = next(i for i in among if ids[i] == drawn)
            for i in group:
                if i != kept:
                    found[i] = Dropped(reason, f"as {ids[kept]}")
        return found


def groups_by(values: np.ndarray) -> list[list[int]]:
    """Positions of equal values, two and more, by the first of each."""
    _, first, place = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first[place], kind="stable")
    cuts = np.flatnonzero(np.diff(place[order])) + 1
    return [part.tolist() for part in np.split(order, cuts) if len(part) > 1]
