"""Named changes to a described scene."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rsvlm.synthetic.facts import CELLS
from rsvlm.synthetic.geometry import Dice, Point, Polygon, band, centre, rectangle
from rsvlm.synthetic.site import Site
from rsvlm.synthetic.world import Region, Scene, Thing

OPEN: frozenset[str] = frozenset(
    {"ground", "field", "circular field", "forest", "lawn", "clearing", "sand", "dunes", "rough",
     "bank", "yard", "gravel", "fenced area", "pavement", "schoolyard", "square"}
)  # fmt: skip
"""Regions that may be built on."""

MOBILE: frozenset[str] = frozenset(
    {"vehicle", "wagon", "container", "plane", "ship", "boat", "umbrella"}
)
"""Things that come and go; their absence on the other date is no change."""


@dataclass(slots=True)
class Edit:
    """One change.

    Attributes:
        act: `built` or `removed`.
        name: what: `building`, `road`, `tree`, `forest`, `pond`, `court`, `tank`, ...
        count: how many.
        colour: their colour, where all share one that may be said.
        cell: where the middle of the change lies, of `facts.CELLS`.
        instead: the region that was there before (built) or that is there now (removed).
        trees: how many single trees had to go for it.
        outline: what the change covers, scene coordinates.
    """

    act: str
    name: str
    count: int
    colour: str | None
    cell: str
    instead: str | None
    trees: int
    outline: Polygon


class Editor:
    """A copy of a scene that takes changes; the original stays as it is."""

    def __init__(self, scene: Scene, dice: Dice) -> None:
        self.before = scene
        self.scene = replace(
            scene,
            regions=list(scene.regions),
            ways=list(scene.ways),
            things=list(scene.things),
            relations=list(scene.relations),
        )
        self.dice = dice
        self.edits: list[Edit] = []
        self.site = Site(self.scene, dice, require=None, turn=0.0)
        self._next = 1 + max((t.id for t in scene.things), default=-1)
        for region in scene.regions:
            if region.name not in OPEN:
                self.site.take(region.outline)
        for way in scene.ways:
            self.site.take(band(way.line, way.width + 3))
        for thing in scene.things:
            if thing.kind != "tree":
                self.site.take(
                    rectangle(thing.x, thing.y, thing.length + 3, thing.width + 3, thing.turn)
                )

    def room(self, length: float, width: float) -> tuple[Point, float] | None:
        """Look for a free rectangle; returns its centre and direction."""
        d, e = self.dice, self.scene.extent
        like = [t.turn for t in self.scene.things if t.kind == "building"]
        half = e / 2
        for _ in range(30):
            turn = d.pick(like) if like and d.chance(0.8) else d.between(0, math.pi)
            reach = 0.5 * (abs(length * math.cos(turn)) + abs(width * math.sin(turn)))
            deep = 0.5 * (abs(length * math.sin(turn)) + abs(width * math.cos(turn)))
            if 2 * max(reach, deep) > 0.96 * e:
                continue
            x, y = d.between(reach, e - reach), d.between(deep, e - deep)
            c, s = math.cos(turn), math.sin(turn)
            steps = [k / 6 - 0.5 for k in range(7)]
            if all(
                self.site.free(
                    x + c * a * length - s * b * width - half,
                    y + s * a * length + c * b * width - half,
                )
                for a in steps
                for b in steps
            ):
                return (x, y), turn
        return None

    def cell(self, point: Point) -> str:
        """Return the grid cell of a point."""
        third = self.scene.extent / 3
        row, column = (min(2, max(0, int(v / third))) for v in (point[1], point[0]))
        return CELLS[3 * row + column]

    def under(self, point: Point) -> str:
        """Return the name of the region that shows at a point."""
        for region in reversed(self.scene.regions):
            if contains(region.outline, point):
                return region.name
        return "ground"

    def fell(self, outline: Polygon) -> int:
        """Remove the trees whose crowns touch an outline; returns how many."""
        grown = [_away(p, centre(outline), 3.0) for p in outline]
        keep = [t for t in self.scene.things if t.kind != "tree" or not contains(grown, (t.x, t.y))]
        gone = len(self.scene.things) - len(keep)
        self.scene.things = keep
        return gone

    def pad(self, outline: Polygon, name: str, material: str, rgb: tuple[int, int, int]) -> None:
        """Lay a region and mark it as taken."""
        self.scene.regions.append(Region(name, material, self.site.shade(rgb), outline))
        self.site.take(outline)

    def add(self, thing: Thing) -> None:
        """Add a thing under a fresh id."""
        thing.id = self._next
        self._next += 1
        self.scene.things.append(thing)

    def note(
        self,
        act: str,
        name: str,
        outline: Polygon,
        *,
        count: int = 1,
        colour: str | None = None,
        instead: str | None = None,
        trees: int = 0,
        at: Point | None = None,
    ) -> None:
        """Record a change, in the cell of `at` or of its middle."""
        cell = self.cell(at or centre(outline))
        self.edits.append(Edit(act, name, count, colour, cell, instead, trees, outline))


def contains(outline: Polygon, point: Point) -> bool:
    """Tell whether a point lies in a polygon."""
    x, y = point
    inside = False
    for (ax, ay), (bx, by) in zip(outline, outline[1:] + outline[:1], strict=True):
        if (ay > y) != (by > y) and x < ax + (y - ay) / (by - ay) * (bx - ax):
            inside = not inside
    return inside


def _away(point: Point, middle: Point, distance: float) -> Point:
    dx, dy = point[0] - middle[0], point[1] - middle[1]
    length = math.hypot(dx, dy) or 1.0
    return point[0] + dx / length * distance, point[1] + dy / length * distance
