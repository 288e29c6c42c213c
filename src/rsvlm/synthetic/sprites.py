"""How each kind of thing is painted."""

from __future__ import annotations

import math
from collections.abc import Callable

from rsvlm.synthetic.geometry import Point, Polygon, disc, inset, mix, oval, racetrack, rectangle
from rsvlm.synthetic.painter import Painter
from rsvlm.synthetic.world import RGB, Thing


def _body(thing: Thing) -> Polygon:
    return rectangle(thing.x, thing.y, thing.length, thing.width, thing.turn)


def _scaled(rgb: RGB, factor: float) -> tuple[float, ...]:
    return tuple(c * factor for c in rgb)


def _look(thing: Thing) -> int:
    """Return a number that varies between things and stays with each of them."""
    return (thing.id * 7919 + sum(thing.rgb) * 31) % 997


def _place(thing: Thing, points: list[Point], length: float, width: float) -> Polygon:
    """Return unit coordinates placed on the thing."""
    c, s = math.cos(thing.turn), math.sin(thing.turn)
    return [
        (thing.x + c * u * length - s * v * width, thing.y + s * u * length + c * v * width)
        for u, v in points
    ]


def building(p: Painter, thing: Thing) -> None:
    """A roof of one of six forms, with its shadow."""
    body = _body(thing)
    a, b, c, d = body
    p.throw(body, thing.height)
    side = thing.turn + math.pi / 2
    if thing.form in ("gable", "hip"):
        inner = 0.0 if thing.form == "gable" else 0.5 * thing.width / thing.length
        e, f = (
            mix(mix(a, d, 0.5), mix(b, c, 0.5), inner),
            mix(mix(a, d, 0.5), mix(b, c, 0.5), 1 - inner),
        )
        p.polygon([a, b, f, e], p.lit(thing.rgb, side + math.pi, 0.24), "tile")
        p.polygon([d, c, f, e], p.lit(thing.rgb, side, 0.24), "tile")
        if inner:
            p.polygon([a, e, d], p.lit(thing.rgb, thing.turn + math.pi, 0.24), "tile")
            p.polygon([b, f, c], p.lit(thing.rgb, thing.turn, 0.24), "tile")
        if _look(thing) % 3 == 0 and p.scale > 1.5:  # a chimney
            x, y = mix(mix(a, b, 0.3), mix(d, c, 0.3), 0.36)
            p.polygon(rectangle(x, y, 1.4, 1.4, thing.turn), (94, 76, 70), "roof")
        return
    if thing.form in ("hall", "saw"):
        pieces = 2 if thing.form == "hall" else 2 * max(2, round(thing.length / 14))
        if thing.form == "hall":
            m, n = mix(a, d, 0.5), mix(b, c, 0.5)
            p.polygon([a, b, n, m], p.lit(thing.rgb, side + math.pi, 0.08), "roof")
            p.polygon([d, c, n, m], p.lit(thing.rgb, side, 0.08), "roof")
            if _look(thing) % 2:
                count = max(2, int(thing.length / 12))
                for k in range(count):
                    x, y = mix(mix(a, b, (k + 0.5) / count), mix(d, c, (k + 0.5) / count), 0.5)
                    light = rectangle(x, y, 2.2, thing.width * 0.7, thing.turn)
                    p.polygon(light, _mixed(thing.rgb, (225, 228, 228), 0.4), "roof")
        else:
            for k in range(pieces):
                q = [mix(a, b, k / pieces), mix(a, b, (k + 1) / pieces),
                     mix(d, c, (k + 1) / pieces), mix(d, c, k / pieces)]  # fmt: skip
                p.polygon(q, p.lit(thing.rgb, thing.turn + math.pi * (k % 2), 0.2), "roof")
        return
    p.polygon(body, _scaled(thing.rgb, 1.1), "roof")
    rim = min(0.25, 1.6 / max(thing.width, 1.0))
    p.polygon(inset(body, rim), _scaled(thing.rgb, 0.97), "roof")
    look = _look(thing)
    if thing.form == "tower":
        top = inset(body, 0.45)
        p.throw(top, 3.5)
        p.polygon(top, _scaled(thing.rgb, 1.04), "roof")
    if thing.length > 12 and p.scale > 1.0:
        for k in range(look % 5):
            x, y = mix(mix(a, b, 0.15 + (look * (k + 3) % 71) / 100),
                       mix(d, c, 0.15 + (look * (k + 3) % 71) / 100),
                       0.2 + (look * (k + 7) % 61) / 100)  # fmt: skip
            unit = rectangle(x, y, 2.6 + look % 3, 2.2, thing.turn)
            p.throw(unit, 1.6)
            p.polygon(unit, (186, 186, 184) if look % 2 else (112, 112, 114), "roof")


def _mixed(a: RGB, b: RGB, t: float) -> tuple[float, ...]:
    return tuple(x + (y - x) * t for x, y in zip(a, b, strict=True))


def tree(p: Painter, thing: Thing) -> None:
    """A crown: dark below, bright towards the sun."""
    r = thing.length / 2
    look = _look(thing)
    corners = 8 if r * p.scale < 5 else 12
    crown = disc(thing.x, thing.y, r, corners)
    if corners == 12:  # an uneven outline
        crown = [
            mix((thing.x, thing.y), q, 0.84 + 0.3 * ((look * (k + 5)) % 13) / 13)
            for k, q in enumerate(crown)
        ]
    p.dim(crown, thing.height)
    p.sunlit(crown)
    p.polygon(crown, _scaled(thing.rgb, 0.82), "tree")
    if r * p.scale > 1.5:
        sx, sy = p.sun
        x, y = thing.x + sx * r * 0.2, thing.y + sy * r * 0.2
        p.polygon(disc(x, y, r * 0.72, 8), _scaled(thing.rgb, 1.12), "tree")
        if r * p.scale > 4:
            x, y = thing.x + sx * r * 0.36, thing.y + sy * r * 0.36
            p.polygon(disc(x, y, r * 0.36, 8), _scaled(thing.rgb, 1.45), "tree")


def vehicle(p: Painter, thing: Thing) -> None:
    """A car or lorry."""
    body = _body(thing)
    p.dim(body, thing.height)
    p.sunlit(body)
    a, b, c, d = body
    p.polygon(body, thing.rgb, "vehicle")
    if p.scale > 1.8:
        if thing.form == "lorry":
            cut = [mix(a, b, 0.76), mix(a, b, 0.8), mix(d, c, 0.8), mix(d, c, 0.76)]
            p.polygon(cut, (52, 54, 58), "vehicle")
        else:
            for lo, hi in ((0.2, 0.34), (0.66, 0.8)):
                glass = [mix(a, b, lo), mix(a, b, hi), mix(d, c, hi), mix(d, c, lo)]
                p.polygon(glass, (50, 56, 64), "vehicle")


def wagon(p: Painter, thing: Thing) -> None:
    """A railway car."""
    body = _body(thing)
    p.throw(body, thing.height)
    p.polygon(body, thing.rgb, "vehicle")
    a, b, c, d = body
    roof = [mix(a, d, 0.3), mix(b, c, 0.3), mix(b, c, 0.7), mix(a, d, 0.7)]
    p.polygon(roof, _scaled(thing.rgb, 1.16), "vehicle")


def container(p: Painter, thing: Thing) -> None:
    """A shipping container."""
    body = _body(thing)
    p.throw(body, thing.height)
    p.polygon(body, thing.rgb, "cargo")


def tank(p: Painter, thing: Thing) -> None:
    """A round tank: wall, roof, the shadow of the rim inside it."""
    r = thing.length / 2
    rim = disc(thing.x, thing.y, r, 32)
    p.throw(rim, thing.height)
    p.polygon(rim, _scaled(thing.rgb, 1.12), "metal")
    sx, sy = p.sun
    roof = disc(thing.x, thing.y, r * 0.92, 32)
    p.polygon(roof, _scaled(thing.rgb, 0.78), "metal")
    shift = r * 0.1
    inner = disc(thing.x - sx * shift, thing.y - sy * shift, r * 0.84, 32)
    p.polygon(inner, _scaled(thing.rgb, 1.0), "metal")
    if p.scale * r > 10:
        p.polygon(disc(thing.x, thing.y, r * 0.12, 8), _scaled(thing.rgb, 0.86), "metal")
        end = (thing.x + math.cos(thing.turn) * r * 0.9, thing.y + math.sin(thing.turn) * r * 0.9)
        shade = tuple(int(c * 0.8) for c in thing.rgb)
        p.line([(thing.x, thing.y), end], shade, "metal", 0.5)  # type: ignore[arg-type]


_FUSELAGE: list[Point] = [
    (0.5, 0.0), (0.47, 0.028), (0.4, 0.045), (-0.3, 0.045), (-0.5, 0.012),
    (-0.5, -0.012), (-0.3, -0.045), (0.4, -0.045), (0.47, -0.028),
]  # fmt: skip
_WINGS: list[Point] = [
    (0.14, 0.03), (-0.14, 0.5), (-0.2, 0.5), (-0.07, 0.03),
    (-0.07, -0.03), (-0.2, -0.5), (-0.14, -0.5), (0.14, -0.03),
]  # fmt: skip
_TAIL: list[Point] = [
    (-0.36, 0.02), (-0.46, 0.18), (-0.5, 0.18), (-0.46, 0.02),
    (-0.46, -0.02), (-0.5, -0.18), (-0.46, -0.18), (-0.36, -0.02),
]  # fmt: skip


def plane(p: Painter, thing: Thing) -> None:
    """A jet seen from above."""
    size = (thing.length, thing.width)
    parts = [_place(thing, part, *size) for part in (_WINGS, _TAIL, _FUSELAGE)]
    for part in parts:
        p.dim(part, thing.height)
    for part, shade in zip(parts, (0.93, 0.9, 1.08), strict=True):
        p.sunlit(part)
        p.polygon(part, _scaled(thing.rgb, shade), "plane")
    for v in (0.17, -0.17):
        pod = [(0.1, v - 0.018), (0.1, v + 0.018), (0.0, v + 0.018), (0.0, v - 0.018)]
        p.polygon(_place(thing, pod, *size), (120, 122, 126), "plane")


_HULL: list[Point] = [
    (0.5, 0.0), (0.4, 0.3), (0.26, 0.48), (-0.44, 0.5), (-0.5, 0.36),
    (-0.5, -0.36), (-0.44, -0.5), (0.26, -0.48), (0.4, -0.3),
]  # fmt: skip


def ship(p: Painter, thing: Thing) -> None:
    """A freighter or a small boat."""
    size = (thing.length, thing.width)
    hull = _place(thing, _HULL, *size)
    p.throw(hull, thing.height * 0.6)
    p.polygon(hull, thing.rgb, "ship")
    if thing.form == "ship":
        p.polygon(_place(thing, [(u * 0.94, v * 0.8) for u, v in _HULL], *size),
                  _mixed(thing.rgb, (150, 118, 100), 0.55), "ship")  # fmt: skip
        look = _look(thing)
        for k in range(5):
            u = -0.18 + 0.12 * k
            hatch = [(u, -0.3), (u + 0.09, -0.3), (u + 0.09, 0.3), (u, 0.3)]
            shade = ((150, 70, 58), (70, 100, 140), (170, 150, 110), (110, 112, 114))
            tone = shade[(look + k * (look % 3)) % 4]
            p.polygon(_place(thing, hatch, *size), tone, "ship")
        house = [(-0.42, -0.4), (-0.3, -0.4), (-0.3, 0.4), (-0.42, 0.4)]
        p.polygon(_place(thing, house, *size), (226, 226, 222), "ship")
    elif p.scale > 1.2:
        deck = [(0.2, -0.26), (0.2, 0.26), (-0.3, 0.3), (-0.3, -0.3)]
        p.polygon(_place(thing, deck, *size), _scaled(thing.rgb, 0.72), "ship")


def court(p: Painter, thing: Thing) -> None:
    """A hard court: surround, field, lines."""
    body = _body(thing)
    p.polygon(body, _scaled(thing.rgb, 0.8), "court")
    field = inset(body, 0.18)
    p.polygon(field, _scaled(thing.rgb, 1.06), "court")
    a, b, c, d = field
    white = (224, 224, 218)
    p.line([*field, a], white, "court", 0.2)
    p.line([mix(a, b, 0.5), mix(d, c, 0.5)], white, "court", 0.2)
    if thing.form == "tennis":
        p.line([mix(a, d, 0.15), mix(b, c, 0.15)], white, "court", 0.1)
        p.line([mix(a, d, 0.85), mix(b, c, 0.85)], white, "court", 0.1)
    else:
        ring = disc(thing.x, thing.y, thing.width * 0.12, 12)
        p.line([*ring, ring[0]], white, "court", 0.1)


def _pitch(
    p: Painter, x: float, y: float, length: float, width: float, turn: float, rgb: RGB
) -> None:
    """A mown football pitch with its lines."""
    stripes = 10
    a, b, c, d = rectangle(x, y, length, width, turn)
    for k in range(stripes):
        lo, hi = k / stripes, (k + 1) / stripes
        piece = [mix(a, b, lo), mix(a, b, hi), mix(d, c, hi), mix(d, c, lo)]
        p.polygon(piece, _scaled(rgb, 1.05 if k % 2 else 0.94), "pitch")
    white = (216, 220, 208)
    a, b, c, d = inset([a, b, c, d], 0.06)
    p.line([a, b, c, d, a], white, "pitch", 0.3)
    p.line([mix(a, b, 0.5), mix(d, c, 0.5)], white, "pitch", 0.3)
    ring = disc(x, y, width * 0.13)
    p.line([*ring, ring[0]], white, "pitch", 0.3)
    for lo, hi in ((0.0, 0.16), (0.84, 1.0)):
        m, n = mix(a, b, lo), mix(a, b, hi)
        q, r = mix(d, c, hi), mix(d, c, lo)
        p.line([mix(m, r, 0.2), mix(n, q, 0.2), mix(n, q, 0.8), mix(m, r, 0.8), mix(m, r, 0.2)],
               white, "pitch", 0.3)  # fmt: skip


def soccer(p: Painter, thing: Thing) -> None:
    """A football pitch without a track."""
    _pitch(p, thing.x, thing.y, thing.length, thing.width, thing.turn, thing.rgb)


def track(p: Painter, thing: Thing) -> None:
    """A running track around a football pitch."""
    x, y, turn, length, width = thing.x, thing.y, thing.turn, thing.length, thing.width
    p.polygon(racetrack(x, y, length, width, turn), thing.rgb, "court")
    lane = width * 0.115
    for k in range(1, 5):
        ring = racetrack(x, y, length - k * lane * 0.42, width - k * lane * 0.42, turn)
        p.line([*ring, ring[0]], _bright(thing.rgb), "court", 0.15)
    inner = racetrack(x, y, length - 2 * lane, width - 2 * lane, turn)
    p.polygon(inner, (92, 124, 68), "pitch")
    _pitch(p, x, y, (length - width) * 1.06, (width - 2 * lane) * 0.82, turn, (90, 130, 66))


def _bright(rgb: RGB) -> RGB:
    return (min(255, rgb[0] + 42), min(255, rgb[1] + 42), min(255, rgb[2] + 42))


def stadium(p: Painter, thing: Thing) -> None:
    """Stands with a roof around a pitch."""
    x, y, turn, length, width = thing.x, thing.y, thing.turn, thing.length, thing.width
    outer = oval(x, y, length, width, turn)
    p.throw(outer, thing.height)
    n = len(outer)
    ring = oval(x, y, length * 0.8, width * 0.76, turn)
    seats = oval(x, y, length * 0.62, width * 0.56, turn)
    for k in range(n):  # roof and tiers, lit by the direction in which they face
        j = (k + 1) % n
        out = math.atan2(outer[k][1] - y, outer[k][0] - x)
        rib = 1.0 if k % 2 else 0.95
        lit = p.lit(thing.rgb, out, 0.14)
        p.polygon([outer[k], outer[j], ring[j], ring[k]], tuple(c * rib for c in lit), "roof")
        tone = p.lit(_tier(thing), out + math.pi, 0.24)
        p.polygon([ring[k], ring[j], seats[j], seats[k]], tone, "roof")
    p.line([*ring, ring[0]], (96, 94, 92), "roof", 0.8)
    floor = (154, 78, 62) if thing.form == "bowl with track" else (104, 124, 78)
    p.polygon(seats, floor, "court" if thing.form == "bowl with track" else "pitch")
    _pitch(p, x, y, length * 0.47, width * 0.36, turn, (84, 130, 64))


def _tier(thing: Thing) -> RGB:
    """Return the colour of the seats."""
    return ((122, 124, 130), (96, 110, 150), (150, 96, 90), (132, 128, 118))[_look(thing) % 4]


def panel(p: Painter, thing: Thing) -> None:
    """A row of solar panels."""
    body = _body(thing)
    p.throw(body, thing.height)
    p.polygon(body, thing.rgb, "panel")
    a, b, c, d = body
    frame = (112, 122, 150)
    if p.scale * thing.width > 5:
        p.line([mix(a, d, 0.5), mix(b, c, 0.5)], frame, "panel")
        count = int(thing.length / 8)
        for k in range(1, count):
            p.line([mix(a, b, k / count), mix(d, c, k / count)], frame, "panel")


def pool(p: Painter, thing: Thing) -> None:
    """A swimming pool with its rim."""
    current, p.current = p.current, 0  # the rim is pavement, not pool
    rim = rectangle(thing.x, thing.y, thing.length + 2, thing.width + 2, thing.turn)
    p.polygon(rim, (204, 200, 190), "concrete")
    p.current = current
    p.polygon(_body(thing), thing.rgb, "water")


def umbrella(p: Painter, thing: Thing) -> None:
    """A parasol."""
    top = disc(thing.x, thing.y, thing.length / 2, 8)
    p.throw(top, thing.height)
    p.polygon(top, thing.rgb, "cargo")


SPRITES: dict[str, Callable[[Painter, Thing], None]] = {
    "building": building,
    "tree": tree,
    "vehicle": vehicle,
    "wagon": wagon,
    "container": container,
    "tank": tank,
    "plane": plane,
    "ship": ship,
    "boat": ship,
    "court": court,
    "soccer field": soccer,
    "running track": track,
    "stadium": stadium,
    "solar panel": panel,
    "swimming pool": pool,
    "umbrella": umbrella,
}
