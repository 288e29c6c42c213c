"""How a box is written as text and read back; boxes.py lists the conventions.

A codec takes boxes in pixels of the image as stored and a `Geometry`, the map to the image that the
model sees, and writes text; it reads a model's text back into pixels of the stored image. What it
cannot read it returns as it found it: models write anything, and nothing that they write is an
error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from rsvlm.data.geometry import Box, Geometry, around, enclosing, turned, unturned

NUMBER = r"[-+]?\d{1,7}(?:\.\d{1,12})?(?:[eE][-+]?\d{1,3})?"


@dataclass(frozen=True, slots=True)
class Found:
    """A box that a text speaks of.

    Attributes:
        box: (x0, y0, x1, y1) in pixels of the stored image; of an oriented box the unturned form.
        angle: degrees, counter-clockwise, or None of an upright box.
        phrase: what the text calls it, where the convention names it (`<p>…</p>`).
        start: where in the text it begins, and
        end: where it ends.
    """

    box: Box
    angle: float | None = None
    phrase: str | None = None
    start: int = 0
    end: int = 0


@dataclass(slots=True)
class Parsed:
    """What a text holds.

    Attributes:
        boxes: in order of appearance.
        unparsable: what looks like a box and is none: too few numbers, no area.
        clipped: how many boxes reached out of the image and were cut.
    """

    boxes: list[Found] = field(default_factory=list)
    unparsable: list[str] = field(default_factory=list)
    clipped: int = 0


@dataclass(frozen=True, slots=True)
class Codec:
    """One convention.

    Attributes:
        name: its word.
        form: `corners` (x0, y0, x1, y1), `turned` (x0, y0, x1, y1, θ), `hull` (corners of the
            upright box around an oriented one, θ), `centre` (cx, cy, w, h, θ) or `point` (x, y of
            the centre); a point is read as a box without an area.
        scale: what the whole side counts: 100, 1, 1000; 0 for pixels of the image as seen.
        decimals: digits behind the point; 0 writes whole numbers.
        cut: whole numbers by cutting off (`int`) rather than by rounding.
        template: how a box is written; {0} to {4} are its numbers.
        pattern: what a box looks like; five groups where it has an angle (which may be missing).
        spoilt: what a spoilt box looks like.
        join: between several boxes of one phrase.
        preprocess: the transform that belongs to it (a word for the reader: squash, pad, crop).
        radians: the angle is written in radians.
        clockwise: the angle is written clockwise.
        yx: upright corners come as y0, x0, y1, x1.
        bins: a number counts the part of the side, from 0 to `scale` - 1, and stands for its
            middle.
        source: where it comes from.
    """

    name: str
    form: str
    scale: float
    template: str
    pattern: str
    spoilt: str
    preprocess: str
    source: str
    decimals: int = 0
    cut: bool = False
    join: str = ""
    radians: bool = False
    clockwise: bool = False
    yx: bool = False
    bins: bool = False

    @property
    def has_angle(self) -> bool:
        """Whether it writes oriented boxes."""
        return self.form not in ("corners", "point")

    @property
    def step(self) -> float:
        """The share of a side that one unit of the last digit is; of pixels, one pixel."""
        return 10.0**-self.decimals / (self.scale or 1)

    def write(self, box: Box, geometry: Geometry, angle: float | None = None) -> str:
        """A box as text.

        Args:
            box: (x0, y0, x1, y1) in pixels of the stored image.
            geometry: where the image's pixels went.
            angle: degrees, counter-clockwise, of an oriented box; without one it is upright, and
                cut at the edges of the image as seen.
        """
        high, wide = geometry.size
        x, y = (self.scale / wide, self.scale / high) if self.scale else (1.0, 1.0)
        limit_x, limit_y = (self.scale, self.scale) if self.scale else (float(wide), float(high))
        turn = 0.0
        if angle is None:
            seen = geometry.box(box, clip=False)
            assert seen is not None
        elif self.form in ("corners", "hull", "point"):
            corners = geometry.points(turned(box, angle))
            seen, turn = enclosing(corners), around(corners)[1]
        else:
            seen, turn = geometry.oriented(box, angle)
        numbers = [seen[0] * x, seen[1] * y, seen[2] * x, seen[3] * y]
        if angle is None or self.form in ("corners", "hull", "point"):
            limits = (limit_x, limit_y, limit_x, limit_y)
            numbers = [min(max(v, 0.0), top) for v, top in zip(numbers, limits, strict=True)]
        if self.form == "centre":
            x0, y0, x1, y1 = numbers
            numbers = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
        if self.form == "point":
            numbers = [(numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2]
        if self.yx:
            numbers = [numbers[i] for i in (1, 0, 3, 2)]
        if self.bins:
            numbers = [min(value, self.scale - 1) for value in numbers]
        words = [self._number(v) for v in numbers]
        if self.has_angle:
            turn = -turn if self.clockwise else turn
            turn = math.radians(turn) if self.radians else turn
            words.append(f"{turn:.2f}" if self.radians else str(round(turn)))
        return self.template.format(*words)

    def write_all(
        self, boxes: Sequence[Box], geometry: Geometry, angles: Sequence[float | None] | None = None
    ) -> str:
        """Several boxes of one phrase."""
        turns = [None] * len(boxes) if angles is None else list(angles)
        parts = [self.write(b, geometry, a) for b, a in zip(boxes, turns, strict=True)]
        return self.join.join(parts)

    def parse(self, text: str, geometry: Geometry) -> Parsed:
        """The boxes of a text in pixels of the stored image; never raises on a model's text.

        Numbers outside of the image are cut at its edges (and counted). An upright box comes back
        cut to the stored image. Corners in the wrong order are put right.

        Args:
            text: anything.
            geometry: where the image's pixels went.
        """
        out = Parsed()
        taken: list[tuple[int, int]] = []
        for match in re.finditer(self.pattern, text):
            taken.append(match.span())
            numbers = [float(g) for g in match.groups() if g is not None]
            box, angle, cut = self._read(numbers, geometry)
            if box is None:
                out.unparsable.append(match.group())
                continue
            out.clipped += cut
            out.boxes.append(Found(box, angle, _phrase(text, match.start()), *match.span()))
        for match in re.finditer(self.spoilt, text):
            if not any(a < match.end() and match.start() < b for a, b in taken):
                out.unparsable.append(match.group())
        return out

    def _number(self, value: float) -> str:
        if self.decimals:
            return f"{value:.{self.decimals}f}"
        # The small number keeps a whole number whole that arithmetic has left just below itself.
        return str(int(value + 1e-9) if self.cut else round(value))

    def _read(
        self, numbers: Sequence[float], geometry: Geometry
    ) -> tuple[Box | None, float | None, bool]:
        if not all(math.isfinite(v) and abs(v) < 1e9 for v in numbers):
            return None, None, False
        high, wide = geometry.size
        x, y = (wide / self.scale, high / self.scale) if self.scale else (1.0, 1.0)
        if self.form == "point":
            numbers = [*numbers[:2], *numbers[:2]]
        if self.yx:
            numbers = [numbers[i] for i in (1, 0, 3, 2)]
        if self.bins:
            numbers = [value + 0.5 for value in numbers]
        a, b, c, d = numbers[0] * x, numbers[1] * y, numbers[2] * x, numbers[3] * y
        if self.form == "centre":
            a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
        box = (min(a, c), min(b, d), max(a, c), max(b, d))
        angle = numbers[4] if len(numbers) > 4 else None
        if angle is not None:
            angle = math.degrees(angle) if self.radians else angle
            angle = -angle if self.clockwise else angle
        back = geometry.inverse()
        if angle is not None:
            box = unturned(box, angle) if self.form == "hull" else box
            if box[2] - box[0] <= 0 or box[3] - box[1] <= 0:
                return None, None, False
            moved, turn = back.oriented(box, angle)
            return moved, turn, False
        inside = (
            min(max(box[0], 0.0), float(wide)),
            min(max(box[1], 0.0), float(high)),
            min(max(box[2], 0.0), float(wide)),
            min(max(box[3], 0.0), float(high)),
        )
        cut = any(abs(p - q) > 1e-9 for p, q in zip(box, inside, strict=True))
        x0, y0, x1, y1 = back.box(inside, clip=False) or inside
        x0, x1 = (min(max(v, 0.0), float(back.size[1])) for v in (x0, x1))
        y0, y1 = (min(max(v, 0.0), float(back.size[0])) for v in (y0, y1))
        if self.form != "point" and (x1 <= x0 or y1 <= y0):
            return None, None, False
        return (x0, y0, x1, y1), None, cut


def _phrase(text: str, start: int) -> str | None:
    # The last <p>…</p> before a box, unless a sentence has ended between them.
    found = list(re.finditer(r"<p>(.{0,200}?)</p>", text[:start], re.DOTALL))
    if not found or re.search(r"[.!?]\s", text[found[-1].end() : start]):
        return None
    return found[-1].group(1).strip() or None
