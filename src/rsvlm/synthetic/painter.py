"""A canvas of flat colours, with shadow and thing ids beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from rsvlm.synthetic.geometry import Point, Polygon, along, band, offset
from rsvlm.synthetic.world import MATERIAL_ID, RGB, Region, Scene, Way


class Style(NamedTuple):
    """Colours of a way; `kerb` is the total width of its edges, metres."""

    rgb: RGB
    edge: RGB
    kerb: float
    material: str


STYLES: dict[str, Style] = {
    "road": Style((98, 97, 98), (150, 146, 138), 2.4, "asphalt"),
    "bridge": Style((122, 120, 116), (196, 192, 184), 2.0, "asphalt"),
    "highway": Style((104, 104, 106), (140, 138, 130), 3.0, "asphalt"),
    "ramp": Style((112, 111, 110), (146, 142, 132), 2.0, "asphalt"),
    "runway": Style((84, 84, 88), (118, 116, 110), 6.0, "asphalt"),
    "taxiway": Style((118, 116, 114), (140, 136, 126), 4.0, "asphalt"),
    "path": Style((186, 168, 136), (186, 168, 136), 0.0, "track"),
    "driveway": Style((168, 160, 148), (168, 160, 148), 0.0, "track"),
    "pier": Style((158, 148, 132), (186, 178, 164), 0.6, "concrete"),
    "railway": Style((128, 118, 108), (128, 118, 108), 0.0, "ballast"),
}


def fineness(size: int) -> int:
    """Return how many canvas pixels a picture pixel is wide: 4 for small pictures, else 2."""
    return 4 if size <= 96 else 2


def _sweep(base: Polygon, dx: float, dy: float) -> list[Polygon]:
    """Return polygons that cover what the outline of a convex shape sweeps when moved."""
    n = len(base)
    if n > 8:  # a round thing: its widest chord is enough
        cx, cy = sum(x for x, _ in base) / n, sum(y for _, y in base) / n
        a = max(base, key=lambda p: (p[1] - cy) * dx - (p[0] - cx) * dy)
        b = (2 * cx - a[0], 2 * cy - a[1])
        return [[a, (a[0] + dx, a[1] + dy), (b[0] + dx, b[1] + dy), b]]
    out = []
    for i in range(n):
        (ax, ay), (bx, by) = base[i - 1], base[i]
        out.append([(ax, ay), (bx, by), (bx + dx, by + dy), (ax + dx, ay + dy)])
    return out


class Painter:
    """Flat colours on a fine canvas, with shadow and (if asked) thing ids beside it.

    The canvas has four bands: red, green, blue, material. It is a `CMYK` image only because that
    is PIL's four-band mode without a meaning for the fourth.
    """

    def __init__(
        self,
        scene: Scene,
        size: int,
        *,
        fine: int,
        with_ids: bool = False,
        shift: Point = (0.0, 0.0),
    ) -> None:
        side = size * fine
        self.scene = scene
        self.scale = side / scene.extent
        self.left, self.top = shift[0] * self.scale, shift[1] * self.scale
        ground = scene.regions[0]
        light = scene.light
        self._camera = (
            light.vivid * light.contrast,
            (1 - light.vivid) * light.contrast,
            *light.gain,
            118 * (1 - light.contrast),
        )
        back = self._ink(ground.rgb, ground.material)
        self.canvas = Image.new("CMYK", (side, side), back)
        self.shadow = Image.new("L", (side, side))
        self.ids = Image.new("I", (side, side)) if with_ids else None
        self._paint = ImageDraw.Draw(self.canvas)
        self._shade = ImageDraw.Draw(self.shadow)
        self._mark = ImageDraw.Draw(self.ids) if self.ids else None
        self.current = 0
        self.sun = (math.cos(light.azimuth), math.sin(light.azimuth))
        self.cast = (-self.sun[0] * light.shadow, -self.sun[1] * light.shadow)

    def _flat(self, points: Sequence[Point]) -> list[Point]:
        k, a, b = self.scale, self.left, self.top
        return [(x * k + a, y * k + b) for x, y in points]

    def _ink(self, rgb: Sequence[float], material: str) -> tuple[int, int, int, int]:
        """Return a colour as this camera records it in full light, and its material."""
        red, green, blue = rgb
        own, mean, a, b, c, base = self._camera
        grey = mean * (0.3 * red + 0.6 * green + 0.1 * blue) + base
        red, green, blue = a * (own * red + grey), b * (own * green + grey), c * (own * blue + grey)
        return (
            0 if red < 0 else 255 if red > 255 else int(red),
            0 if green < 0 else 255 if green > 255 else int(green),
            0 if blue < 0 else 255 if blue > 255 else int(blue),
            MATERIAL_ID[material],
        )

    def polygon(self, outline: Sequence[Point], rgb: tuple[float, ...], material: str) -> None:
        """Fill a polygon of scene coordinates."""
        flat = self._flat(outline)
        self._paint.polygon(flat, fill=self._ink(rgb, material))
        if self._mark:
            self._mark.polygon(flat, fill=self.current)

    def line(self, points: Sequence[Point], rgb: RGB, material: str, width: float = 0.0) -> None:
        """Draw a thin line; `width` in metres, at least one pixel of the canvas."""
        fill = self._ink(rgb, material)
        self._paint.line(self._flat(points), fill=fill, width=max(1, round(width * self.scale)))

    def sunlit(self, outline: Sequence[Point]) -> None:
        """Take the shadow off a polygon."""
        self._shade.polygon(self._flat(outline), fill=0)

    def dim(self, outline: Sequence[Point], height: float) -> None:
        """Throw the shadow of something that hovers: its outline, moved."""
        dx, dy = self.cast[0] * height, self.cast[1] * height
        self._shade.polygon(self._flat([(x + dx, y + dy) for x, y in outline]), fill=235)

    def throw(self, outline: Polygon, height: float) -> None:
        """Throw the shadow of a convex solid, leaving its own top lit."""
        k = self.scale
        dx, dy = self.cast[0] * height * k, self.cast[1] * height * k
        base = self._flat(outline)
        if math.hypot(dx, dy) > 1.5:
            for side in _sweep(base, dx, dy):
                self._shade.polygon(side, fill=255)
        self._shade.polygon([(x + dx, y + dy) for x, y in base], fill=255)
        self._shade.polygon(base, fill=0)

    def walls(self, outline: Polygon, rgb: RGB, material: str, move: Point) -> None:
        """Paint the sides of a convex solid whose top an oblique view moves by `move`."""
        tone = (rgb[0] * 0.62, rgb[1] * 0.62, rgb[2] * 0.64)
        for side in _sweep(outline, *move):
            self.polygon(side, tone, material)

    def lit(self, rgb: RGB, direction: float, strength: float = 0.2) -> tuple[float, ...]:
        """Return a colour as it looks on a slope that faces `direction` (radians)."""
        facing = math.cos(direction) * self.sun[0] + math.sin(direction) * self.sun[1]
        factor = 1 + strength * facing
        return tuple(c * factor for c in rgb)

    def region(self, region: Region) -> None:
        """Lay a land cover, with its crop rows."""
        self.polygon(region.outline, region.rgb, region.material)
        if region.rows is None:
            return
        turn, spacing = region.rows
        if spacing * self.scale < 2.4:
            return
        flat = self._flat(region.outline)
        xs, ys = [p[0] for p in flat], [p[1] for p in flat]
        k = self.scale
        left, top = max(0, int(min(xs))), max(0, int(min(ys)))
        right = min(self.canvas.width, int(max(xs)) + 1)
        bottom = min(self.canvas.height, int(max(ys)) + 1)
        if right <= left or bottom <= top:
            return
        # stripes of a darker shade on a copy, pasted back through the outline
        r, g, b = region.rgb
        stalls = region.name == "stalls"
        shift = 34 if stalls else -13 if region.name != "fairway" else 8
        last = b + (shift if stalls else shift // 2)
        fill = self._ink((r + shift, g + shift, last), region.material)
        tile = self.canvas.crop((left, top, right, bottom))
        pen = ImageDraw.Draw(tile)
        c, s = math.cos(turn), math.sin(turn)
        cx, cy = (left + right) / 2, (top + bottom) / 2
        half = math.hypot(right - left, bottom - top) / 2
        step = spacing * k
        width = 1 if stalls else max(1, round(step * 0.45))
        phase = ((flat[0][0] - cx) * -s + (flat[0][1] - cy) * c) % step
        position = -half + (phase + half) % step
        while position < half:
            mx, my = cx - s * position - left, cy + c * position - top
            pen.line((mx - c * half, my - s * half, mx + c * half, my + s * half), fill, width)
            position += step
        mask = Image.new("L", tile.size)
        ImageDraw.Draw(mask).polygon([(x - left, y - top) for x, y in flat], fill=255)
        self.canvas.paste(tile, (left, top), mask)

    def ways(self, ways: Sequence[Way]) -> None:
        """Draw a network so that its crossings join: kerbs, then surfaces, then paint."""
        for level in (0, 1):
            here = [w for w in ways if w.level == level]
            for way in here:
                style = STYLES[way.kind]
                outline = band(way.line, way.width + style.kerb)
                if level or way.kind == "pier":
                    self.dim(outline, 6.0 if level else 2.0)
                    self.sunlit(outline)
                self.polygon(outline, style.edge, style.material)
            for way in here:
                style = STYLES[way.kind]
                if style.kerb:
                    self.polygon(band(way.line, way.width), style.rgb, style.material)
            for way in here:
                self.paint(way)

    def paint(self, way: Way) -> None:
        """Draw the marks of a way: lanes, sleepers, threshold bars."""
        k = self.scale
        kind = way.kind
        white = (206, 206, 198)
        if kind in ("road", "bridge") and way.width > 5.5 and k > 1.1:
            for (x, y), turn in along(way.line, 9.0):
                c, s = math.cos(turn) * 1.6, math.sin(turn) * 1.6
                self.line([(x - c, y - s), (x + c, y + s)], (190, 190, 182), "asphalt")
        elif kind == "highway":
            self.polygon(band(way.line, 2.4), (112, 122, 88), "grass")
            for share in (-0.26, 0.26):
                for (x, y), turn in along(offset(way.line, share * way.width), 12.0):
                    c, s = math.cos(turn) * 2.5, math.sin(turn) * 2.5
                    self.line([(x - c, y - s), (x + c, y + s)], (186, 186, 180), "asphalt")
            for share in (-0.47, 0.47):
                self.line(offset(way.line, share * way.width), (178, 178, 172), "asphalt")
        elif kind == "runway":
            for (x, y), turn in along(way.line, 50.0, 70.0):
                c, s = math.cos(turn) * 15, math.sin(turn) * 15
                self.line([(x - c, y - s), (x + c, y + s)], white, "asphalt", 1.4)
            (ax, ay), (bx, by) = way.line[-2:]
            turn = math.atan2(by - ay, bx - ax)
            for lane in range(-5, 6):
                if lane:
                    u, v = -20.0, lane * way.width / 13
                    x = bx + math.cos(turn) * u - math.sin(turn) * v
                    y = by + math.sin(turn) * u + math.cos(turn) * v
                    c, s = math.cos(turn) * 14, math.sin(turn) * 14
                    self.line([(x - c, y - s), (x + c, y + s)], white, "asphalt", 1.8)
            for share in (-0.47, 0.47):
                self.line(offset(way.line, share * way.width), white, "asphalt", 0.9)
        elif kind == "taxiway":
            self.line(way.line, (186, 160, 74), "asphalt", 0.8)
        elif kind == "railway":
            if k > 1.6:
                for (x, y), turn in along(way.line, 1.9):
                    c, s = -math.sin(turn) * 1.3, math.cos(turn) * 1.3
                    self.line([(x - c, y - s), (x + c, y + s)], (92, 84, 78), "ballast")
            for rail in (-0.75, 0.75):
                self.line(offset(way.line, rail), (72, 64, 62), "ballast", 0.2)
                self.line(offset(way.line, rail + 0.35), (182, 176, 170), "ballast", 0.1)
