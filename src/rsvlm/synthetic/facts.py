"""What may be said of a scene: counts, colours, cover, places, relations.

A `Claim` is one checkable statement; captions, questions and answers carry the claims they make,
and `holds` decides any of them from the description alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from rsvlm.synthetic.geometry import band, rectangle
from rsvlm.synthetic.world import GROUNDS, Relation, Scene, Thing

_RASTER = 64
_LEAST = 0.004
"""Least share of the picture for a region to be spoken of."""

_ALSO: dict[str, tuple[str, ...]] = {
    "boat": ("ship",),
    "building": ("stadium",),
    "road": ("highway", "ramp", "bridge", "path", "driveway", "runway", "taxiway", "parking lot"),
    "path": ("driveway", "road"),
    "pond": ("lake", "river", "stream", "sea", "water", "swimming pool"),
    "tree": ("forest", "island"),
    "vehicle": ("wagon", "container", "parking lot"),
}
"""What else might be meant by a name: it must be absent too before `no boats` is said."""

CELLS: tuple[str, ...] = (
    "top-left", "top-center", "top-right",
    "center-left", "center-center", "center-right",
    "bottom-left", "bottom-center", "bottom-right",
)  # fmt: skip
"""The 3×3 grid, under ChangeChat's names."""


class Claim(NamedTuple):
    """One statement about a scene.

    Attributes:
        kind: `class`, `count`, `least`, `colour`, `cover`, `place`, `relation`, `more`, `absent`,
            `ground`.
        what: the arguments; see `Facts.holds`.
    """

    kind: str
    what: tuple[Any, ...]


@dataclass
class Facts:
    """Everything that is true of one scene, worked out on demand."""

    scene: Scene

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of things and ways of each kind."""
        counts = Counter(t.kind for t in self.scene.things)
        counts.update(w.kind for w in self.scene.ways if w.kind != "driveway")
        return counts

    @cached_property
    def colours(self) -> dict[str, Counter[str]]:
        """Number of things of each kind and colour."""
        out: dict[str, Counter[str]] = {}
        for thing in self.scene.things:
            out.setdefault(thing.kind, Counter())[thing.colour] += 1
        return out

    @cached_property
    def _raster(self) -> tuple[list[float], dict[str, float]]:
        """Shares of the picture by region and by kind of way or thing, as seen from above."""
        scene = self.scene
        raster = Image.new("I", (_RASTER, _RASTER))
        pen = ImageDraw.Draw(raster)
        k = _RASTER / scene.extent
        for number, region in enumerate(scene.regions):
            pen.polygon([(x * k, y * k) for x, y in region.outline], fill=number)
        first = len(scene.regions)
        kinds: dict[str, int] = {}
        for way in scene.ways:
            number = kinds.setdefault(way.kind, first + len(kinds))
            pen.polygon([(x * k, y * k) for x, y in band(way.line, way.width)], fill=number)
        for thing in scene.things:
            if thing.length * k > 1.2:
                number = kinds.setdefault(thing.kind, first + len(kinds))
                body = rectangle(thing.x, thing.y, thing.length, thing.width, thing.turn)
                pen.polygon([(x * k, y * k) for x, y in body], fill=number)
        counts = np.bincount(np.asarray(raster).ravel(), minlength=first + len(kinds))
        shares = (counts / _RASTER**2).tolist()
        return shares[:first], {kind: shares[number] for kind, number in kinds.items()}

    @property
    def shares(self) -> list[float]:
        """Share of the picture that each region shows, less what stands on it."""
        return self._raster[0]

    @cached_property
    def cover(self) -> dict[str, float]:
        """Share of the picture of each name of region, way or thing."""
        out: dict[str, float] = {}
        for region, share in zip(self.scene.regions, self.shares, strict=False):
            out[region.name] = out.get(region.name, 0.0) + share
        for kind, share in self._raster[1].items():
            out[kind] = out.get(kind, 0.0) + share
        return out

    @cached_property
    def regions(self) -> Counter[str]:
        """Number of visible regions of each name."""
        return Counter(
            region.name
            for region, share in zip(self.scene.regions, self.shares, strict=False)
            if share > _LEAST
        )

    @cached_property
    def relations(self) -> list[Relation]:
        """The relations whose two sides can be seen."""
        free = {"desert", *GROUNDS}
        return [
            r
            for r in self.scene.relations
            if self.present(r.subject) and (r.object in free or self.present(r.object))
        ]

    def present(self, name: str) -> bool:
        """Tell whether a thing, way or region of this name can be seen."""
        return bool(self.counts.get(name) or self.regions.get(name))

    def absent(self, name: str) -> bool:
        """Tell whether nothing can be seen that a person might call by this name."""
        named = {w.kind for w in self.scene.ways} | {r.name for r in self.scene.regions}
        return not any(self.present(n) or n in named for n in (name, *_ALSO.get(name, ())))

    def number(self, name: str) -> int:
        """Return how many there are of a thing, way or region."""
        return self.counts.get(name) or self.regions.get(name, 0)

    def colour_of(self, kind: str) -> tuple[str, ...]:
        """Return the colours of a kind, the commonest first, or of the fields."""
        if kind in self.colours:
            return tuple(c for c, _ in self.colours[kind].most_common())
        tints = Counter(
            region.colour
            for region, share in zip(self.scene.regions, self.shares, strict=False)
            if region.name == kind and region.colour and share > _LEAST
        )
        return tuple(c for c, _ in tints.most_common() if c)

    def cell(self, thing: Thing) -> str:
        """Return the cell of the 3×3 grid in which a thing's centre lies."""
        third = self.scene.extent / 3
        row, column = min(2, int(thing.y / third)), min(2, int(thing.x / third))
        return CELLS[3 * row + column]

    def holds(self, claim: Claim) -> bool:
        """Decide a claim.

        Arguments by kind: `class` (label,); `count` (name, colours or None, number); `least`
        (name, colours or None, number); `colour` (kind, colours): all of them and no other;
        `cover` (name, low, high); `place` (kind, colour or None, cell): the only one of its kind
        (and colour); `relation` (subject, relation, object); `more` (name, than); `absent`
        (name,); `ground` (key of `GROUNDS`,).
        """
        what = claim.what
        match claim.kind:
            case "class":
                return bool(self.scene.label == what[0])
            case "count" | "least":
                name, colours, number = what
                if colours and not self._only(name, colours):
                    return False
                have = self.number(name)
                return bool(have == number if claim.kind == "count" else have >= number)
            case "colour":
                return self._only(*what)
            case "cover":
                name, low, high = what
                return bool(low <= self.cover.get(name, 0.0) <= high)
            case "place":
                kind, colour, cell = what
                some = [t for t in self.scene.of(kind) if colour in (None, t.colour)]
                return len(some) == 1 and self.cell(some[0]) == cell
            case "relation":
                return Relation(*what) in self.relations
            case "more":
                return self.number(what[0]) > self.number(what[1])
            case "absent":
                return self.absent(what[0])
            case "ground":
                return self.scene.ground == what[0] and self.cover.get("ground", 0.0) > 0.2
        raise ValueError(f"no claim is of kind {claim.kind!r}")

    def _only(self, kind: str, colours: tuple[str, ...]) -> bool:
        return set(self.colour_of(kind)) == set(colours)
