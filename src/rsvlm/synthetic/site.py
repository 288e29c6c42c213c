"""The building site: where a layout puts things while it describes a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from PIL import Image, ImageDraw

from rsvlm.synthetic.geometry import Dice, Point, Polygon, band, rectangle
from rsvlm.synthetic.world import (
    COLOURS,
    GROUNDS,
    HELD_OUT,
    RGB,
    Region,
    Relation,
    Scene,
    Thing,
    Way,
)

_CELLS = 96


class Site:
    """A scene under construction, in its own turned frame.

    Layouts speak in (u, v): metres from the middle of the picture, turned by a random angle, so
    that no class has a preferred direction. Objects whose centre falls outside of the picture are
    not built, so that what is described can be counted; areas and ways may reach across the edge.
    """

    def __init__(
        self, scene: Scene, dice: Dice, *, require: tuple[str, str] | None, turn: float
    ) -> None:
        self.scene = scene
        self.dice = dice
        self.require = require
        self.extent = scene.extent
        self.reach = 0.75 * scene.extent
        self.turn = turn
        self._cos, self._sin = math.cos(turn), math.sin(turn)
        self._middle = scene.extent / 2
        taken = Image.new("L", (_CELLS, _CELLS))
        self._draw = ImageDraw.Draw(taken)
        self._taken = taken.load()
        self._scale = _CELLS / scene.extent

    def at(self, u: float, v: float) -> Point:
        """Return the picture coordinates of a point of the frame."""
        return (
            self._middle + self._cos * u - self._sin * v,
            self._middle + self._sin * u + self._cos * v,
        )

    def back(self, x: float, y: float) -> Point:
        """Return the frame coordinates of a point of the picture."""
        x, y = x - self._middle, y - self._middle
        return self._cos * x + self._sin * y, self._cos * y - self._sin * x

    def inside(self, x: float, y: float, margin: float = 0.0) -> bool:
        """Tell whether a picture point lies in the picture, at least `margin` from its edge."""
        return margin <= x < self.extent - margin and margin <= y < self.extent - margin

    def free(self, u: float, v: float, clearance: float = 0.0) -> bool:
        """Tell whether nothing has been built at a point, nor at four points around it."""
        x, y = self.at(u, v)
        k, taken = self._scale, self._taken
        assert taken is not None
        for dx, dy in ((0, 0), (clearance, 0), (-clearance, 0), (0, clearance), (0, -clearance)):
            i, j = int((x + dx) * k), int((y + dy) * k)
            if 0 <= i < _CELLS and 0 <= j < _CELLS and taken[i, j]:
                return False
            if not clearance:
                break
        return True

    def take(self, outline: Polygon) -> None:
        """Mark a polygon of picture coordinates as built."""
        k = self._scale
        self._draw.polygon([(x * k, y * k) for x, y in outline], fill=1, outline=1)

    def colour(self, kind: str, options: Sequence[str]) -> str:
        """Return a colour for the things of a kind; held-out ones only where asked for."""
        if self.require and self.require[0] == kind:
            return self.require[1]
        return self.dice.pick([c for c in options if (kind, c) not in HELD_OUT])

    def shade(self, rgb: RGB, spread: float = 7) -> RGB:
        """Return a colour a little off, brighter or darker and warmer or colder."""
        d = self.dice
        light, warm = d.between(-spread, spread), d.between(-spread, spread) / 3
        return (
            min(255, max(0, round(rgb[0] + light + warm))),
            min(255, max(0, round(rgb[1] + light))),
            min(255, max(0, round(rgb[2] + light - warm))),
        )

    def region(
        self,
        name: str,
        material: str,
        rgb: RGB,
        outline: Sequence[Point],
        *,
        rows: tuple[float, float] | None = None,
        colour: str | None = None,
        taken: bool = False,
        spread: float = 7,
    ) -> Region:
        """Lay a land cover over an outline given in the frame."""
        corners = [self.at(u, v) for u, v in outline]
        turned = None if rows is None else (rows[0] + self.turn, rows[1])
        piece = Region(name, material, self.shade(rgb, spread), corners, turned, colour)
        self.scene.regions.append(piece)
        if taken:
            self.take(corners)
        return piece

    def lawn(self, outline: Sequence[Point], name: str = "lawn") -> Region:
        """Lay fresh grass."""
        return self.region(name, "grass", (92, 122, 62), outline)

    def way(
        self,
        kind: str,
        points: Sequence[Point],
        width: float,
        *,
        level: int = 0,
        taken: bool = True,
    ) -> Way | None:
        """Build a way along points of the frame; None if it hardly shows in the picture."""
        line = [self.at(u, v) for u, v in points]
        seen = 0.0
        for (ax, ay), (bx, by) in pairwise(line):
            hits = sum(
                self.inside(ax + (bx - ax) * t, ay + (by - ay) * t)
                for t in (0.1, 0.3, 0.5, 0.7, 0.9)
            )
            seen += hits / 5 * math.hypot(bx - ax, by - ay)
        if seen < min(0.2 * self.extent, 3 * width):
            return None
        way = Way(kind, line, width, level)
        self.scene.ways.append(way)
        if taken:
            self.take(band(line, width * 1.1))
        return way

    def thing(
        self,
        kind: str,
        u: float,
        v: float,
        length: float,
        width: float,
        *,
        turn: float = 0.0,
        height: float = 0.0,
        colour: str = "grey",
        rgb: RGB | None = None,
        form: str = "",
        taken: bool = True,
    ) -> Thing | None:
        """Build an object centred at (u, v); None if that lies outside of the picture."""
        x, y = self.at(u, v)
        if not self.inside(x, y):
            return None
        things = self.scene.things
        turn += self.turn
        thing = Thing(
            len(things),
            kind,
            x,
            y,
            length,
            width,
            turn,
            height,
            colour,
            self.shade(rgb or COLOURS[colour]),
            form,
        )
        things.append(thing)
        if taken:
            self.take(rectangle(x, y, length, width, turn))
        return thing

    def tree(self, u: float, v: float, radius: float) -> None:
        """Plant one tree."""
        tree = GROUNDS[self.scene.ground].tree
        self.thing(
            "tree", u, v, 2 * radius, 2 * radius, height=1.6 * radius, colour="green",
            rgb=self.shade(tree, 12), form="round", taken=False,
        )  # fmt: skip

    def trees(
        self, count: int, radius: tuple[float, float] = (2.5, 4.5), spread: float = 0.72
    ) -> None:
        """Plant up to `count` trees on free ground."""
        d, span = self.dice, self.extent * spread
        for _ in range(count):
            u, v = d.between(-span, span), d.between(-span, span)
            r = d.between(*radius)
            if self.free(u, v, r):
                self.tree(u, v, r)

    def row(
        self, points: Sequence[Point], radius: tuple[float, float], chance: float = 0.85
    ) -> int:
        """Plant trees at the given points where the ground is free; returns how many grew."""
        d, before = self.dice, len(self.scene.things)
        for u, v in points:
            if d.chance(chance) and self.free(u, v, 1.0):
                self.tree(u + d.between(-1, 1), v + d.between(-1, 1), d.between(*radius))
        return len(self.scene.things) - before

    def car(self, u: float, v: float, turn: float, *, long: bool = False) -> None:
        """Park or drive one car (or lorry)."""
        d = self.dice
        colour = d.pick(("white", "white", "grey", "black", "red", "blue", "grey"))
        length, width = (d.between(9, 14), 2.6) if long else (d.between(4.2, 5), 1.9)
        self.thing(
            "vehicle", u, v, length, width, turn=turn, height=3.2 if long else 1.5,
            colour=colour, form="lorry" if long else "car",
        )  # fmt: skip

    def traffic(self, points: Sequence[Point], width: float, spacing: float) -> None:
        """Put cars on a road, on the right of either direction."""
        d = self.dice
        for (ax, ay), (bx, by) in pairwise(points):
            length = math.hypot(bx - ax, by - ay)
            turn = math.atan2(by - ay, bx - ax)
            expected = length / spacing
            for _ in range(int(expected) + d.chance(expected % 1)):
                t, side = d.random(), d.pick((-1, 1)) * width * 0.23
                u = ax + (bx - ax) * t - math.sin(turn) * side
                v = ay + (by - ay) * t + math.cos(turn) * side
                self.car(u, v, turn, long=d.chance(0.12))

    def relate(self, subject: str, relation: str, object_: str, part: str = "all") -> None:
        """State a spatial fact that the layout has just made true of a part of its subjects."""
        fact = Relation(subject, relation, object_, part)
        if fact not in self.scene.relations:
            self.scene.relations.append(fact)
