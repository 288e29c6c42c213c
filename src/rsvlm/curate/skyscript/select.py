"""Objects drawn on a grid, so that a town's thousand houses do not stand for the whole set."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rsvlm.curate.record import Dropped, Record, rng
from rsvlm.curate.skyscript.captions import ordered
from rsvlm.errors import UserError


@dataclass
class GridSelection:
    """Draws cells of a grid at random, and objects within each; rare tags are kept everywhere.

    The paper draws 400,000 cells of 0.01 degree and asks for rare tags by name. Within a cell
    objects are taken in turn from each main tag, the rarer tag first.

    Adds `cell`, `rare`, and `split`: splits go by cells, drawn at random, so that what lies side by
    side is in one; the smaller ones are filled first and get a cell each where there are enough.

    Dropped: `cell_not_drawn`, `cell_full`.

    Args:
        cell: side, degrees.
        cells: cells that are drawn of those that hold an object; None takes all.
        per_cell: most objects of a cell, rare ones beside them.
        rare: a main tag that fewer objects have is rare.
        shares: split → share of the objects.
        seed: of the chance.
    """

    cell: float = 0.01
    cells: int | None = None
    per_cell: int = 20
    rare: int = 10
    shares: Mapping[str, float] = field(
        default_factory=lambda: {"train": 0.9, "val": 0.05, "test": 0.05}
    )
    seed: int = 0

    name = "grid_selector"
    version = "1"

    def __post_init__(self) -> None:
        if not self.cell > 0 or self.per_cell < 1 or (self.cells is not None and self.cells < 1):
            raise UserError("cell= is above 0 degrees, per_cell= and cells= are at least 1.")
        if not self.shares or abs(sum(self.shares.values()) - 1) > 1e-6:
            raise UserError(f"shares={dict(self.shares)}: they add up to 1.")

    def key(self, record: Record) -> Any:
        """Cell, main tag, and a random number of the object's own."""
        lon, lat = record["lonlat"]
        key, value = ordered((k, v) for k, v, _ in record["visible"])[0]
        draw = float(rng(self.seed, record["id"], self.name).random())
        column, row = math.floor(lon / self.cell), math.floor(lat / self.cell)
        return [f"{column}:{row}", f"{key}={value}", draw]

    def decide(self, ids: Sequence[str], keys: Any) -> Sequence[Mapping[str, Any] | Dropped]:
        """See `Barrier`."""
        often = Counter(tag for _, tag, _ in keys)
        drawn = self._drawn({cell for cell, _, _ in keys})
        out: list[Mapping[str, Any] | Dropped] = [Dropped("cell_not_drawn")] * len(ids)
        members: dict[str, list[int]] = defaultdict(list)
        for i, (cell, tag, _) in enumerate(keys):
            if often[tag] < self.rare:
                out[i] = {"cell": cell, "rare": True}
            elif cell in drawn:
                members[cell].append(i)
        for cell, found in members.items():
            kept = set(self._turns(found, keys, often))
            for i in found:
                out[i] = {"cell": cell, "rare": False} if i in kept else Dropped("cell_full")
        splits = self._splits(Counter(one["cell"] for one in out if not isinstance(one, Dropped)))
        return [o if isinstance(o, Dropped) else {**o, "split": splits[o["cell"]]} for o in out]

    def _splits(self, counts: Mapping[str, int]) -> dict[str, str]:
        """Cell → split."""
        cells = sorted(counts, key=lambda cell: (rng(self.seed, cell, "split").random(), cell))
        *small, largest = sorted(self.shares, key=lambda split: self.shares[split])
        total, out = sum(counts.values()), dict.fromkeys(cells, largest)
        for number, split in enumerate(small):
            taken = 0
            # As many cells stay as there are splits to come.
            while self.shares[split] and len(cells) > len(small) - number:
                if taken >= self.shares[split] * total:
                    break
                cell = cells.pop()
                taken += counts[cell]
                out[cell] = split
        return out

    def _drawn(self, cells: set[str]) -> set[str]:
        if self.cells is None or self.cells >= len(cells):
            return cells
        by_chance = sorted(cells, key=lambda cell: (rng(self.seed, cell, "cell").random(), cell))
        return set(by_chance[: self.cells])

    def _turns(self, found: list[int], keys: Any, often: Counter[str]) -> list[int]:
        """The objects of a cell that are taken."""
        if len(found) <= self.per_cell:
            return found
        by_tag: dict[str, list[int]] = defaultdict(list)
        for i in sorted(found, key=lambda i: (keys[i][2], i)):
            by_tag[keys[i][1]].append(i)
        tags = sorted(by_tag, key=lambda tag: (often[tag], tag))
        kept: list[int] = []
        for turn in range(max(map(len, by_tag.values()))):
            kept += [by_tag[tag][turn] for tag in tags if turn < len(by_tag[tag])]
        return kept[: self.per_cell]
