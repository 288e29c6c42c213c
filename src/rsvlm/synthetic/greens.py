"""Layouts on tended grass: park, golf course, playground, stadium."""

from __future__ import annotations

import math

from rsvlm.synthetic.geometry import Dice, along, blob, curve, disc, mix, oval, racetrack, rectangle
from rsvlm.synthetic.nature import WATERS, winding, woods
from rsvlm.synthetic.site import Site


def park(site: Site) -> None:
    """Lawns, winding paths, a pond, trees, a pavilion."""
    d, e, r = site.dice, site.extent, site.reach
    site.lawn([(-r, -r), (r, -r), (r, r), (-r, r)])
    paths = [winding(d, r, 0.2 * e) for _ in range(d.whole(1, 2))]
    paths += [[(v, u) for u, v in winding(d, r, 0.2 * e)] for _ in range(d.whole(1, 2))]
    for line in paths:
        site.way("path", line, d.between(2.6, 4.2))
    size = d.between(0.08, 0.16) * e
    u, v = _clear(site, size * 1.2)
    if d.chance(0.75) and site.free(u, v, size * 0.9):
        pond = blob(d, u, v, size, rough=0.3)
        site.region("lawn", "grass", (92, 122, 62), [mix((u, v), p, 1.15) for p in pond])
        site.region("pond", "water", d.pick(WATERS), pond, taken=True)
        ring = [mix((u, v), p, 1.3) for p in pond]
        if d.chance(0.6):
            site.way("path", [*ring, ring[0]], 3)
            site.relate("path", "around", "pond", "one")
        elif site.row([mix((u, v), p, 1.4) for p in pond[::2]], (2.5, 4.5)) > 3:
            site.relate("tree", "around", "pond", "some")
    if d.chance(0.5):
        u, v = d.between(-0.3, 0.3) * e, d.between(-0.3, 0.3) * e
        if site.free(u, v, 12):
            plaza = oval(u, v, 26, 26, 0)
            site.region("square", "concrete", (168, 160, 146), plaza, taken=True)
            colour = site.colour("building", ("red", "white", "brown", "green", "grey"))
            if site.thing("building", u, v, 9, 9, height=5, colour=colour, form="hip"):
                site.relate("building", "inside", "square")
    if d.chance(0.35):
        courts(site, d.between(-0.25, 0.25) * e, d.between(-0.25, 0.25) * e, d.whole(1, 3))
    for _ in range(d.whole(1, 4)):  # groves
        u, v = d.between(-0.5, 0.5) * e, d.between(-0.5, 0.5) * e
        for _ in range(d.whole(8, 26)):
            x, y = u + d.between(-0.1, 0.1) * e, v + d.between(-0.1, 0.1) * e
            radius = d.between(2.5, 5)
            if site.free(x, y, radius):
                site.tree(x, y, radius)
    for line in paths[: d.whole(0, 2)]:
        side = [(u, v + 7) for (u, v), _ in along(line, 9)]
        if site.row(side, (2.2, 3.6), 0.8) > 4:
            site.relate("tree", "along", "path", "some")
    site.trees(d.whole(5, 40), (2.2, 4.6))


def _clear(site: Site, clearance: float) -> tuple[float, float]:
    """Look for a free place near the middle; the last try is returned if there is none."""
    d, e = site.dice, site.extent
    u = v = 0.0
    for _ in range(16):
        u, v = d.between(-0.36, 0.36) * e, d.between(-0.36, 0.36) * e
        if all(site.free(*p, clearance / 3) for p in ((u, v), *disc(u, v, clearance * 0.8, 8))):
            break
    return u, v


def courts(site: Site, u: float, v: float, count: int) -> None:
    """Build a row of hard courts with their surround."""
    d = site.dice
    colour = site.colour("court", ("green", "blue", "red", "orange"))
    turn = d.pick((0.0, math.pi / 2))
    step = 20.0
    for k in range(count):
        du, dv = (0.0, (k - (count - 1) / 2) * step)
        if turn:
            du, dv = dv, du
        if not site.free(u + du, v + dv, 10):
            continue
        site.thing("court", u + du, v + dv, 34, 17, turn=turn, colour=colour, form="tennis")


def golf_course(site: Site) -> None:
    """Fairways, greens and bunkers between trees."""
    d, e, r = site.dice, site.extent, site.reach
    rough = d.pick(((84, 104, 58), (96, 112, 66), (76, 98, 56)))
    site.region("rough", "meadow", rough, [(-r, -r), (r, -r), (r, r), (-r, r)])
    lanes = d.whole(3, 4)
    for k in range(lanes):
        v = (k - (lanes - 1) / 2) * 0.34 * e + d.between(-0.03, 0.03) * e
        u0, u1 = -d.between(0.25, 0.55) * e, d.between(0.25, 0.55) * e
        if d.chance(0.5):
            u0, u1 = u1, u0
        axis = curve([(u0, v), (u0 * 0.3 + u1 * 0.2, v + d.between(-0.06, 0.06) * e), (u1, v)])
        half = d.between(0.045, 0.07) * e
        left, right = [], []
        for (u, w), turn in along(axis, 12):
            wide = half * d.between(0.85, 1.15)
            left.append((u + math.sin(turn) * wide, w - math.cos(turn) * wide))
            right.append((u - math.sin(turn) * wide, w + math.cos(turn) * wide))
        fair = site.region("fairway", "grass", (112, 144, 76), left + right[::-1], taken=True)
        fair.rows = (site.turn + math.pi / 4, 14.0)
        gu, gv = u1, v
        site.region("putting green", "crop", (134, 168, 92), blob(d, gu, gv, d.between(12, 17)))
        for _ in range(d.whole(2, 4)):
            a = d.between(0, 6.28)
            t = d.between(20, 30)
            outline = blob(
                d, gu + t * math.cos(a), gv + t * math.sin(a), d.between(5, 9), rough=0.35
            )
            site.region("bunker", "sand", (220, 206, 172), outline, taken=True)
        if d.chance(0.5):
            u = d.between(-0.2, 0.2) * e
            bunker = blob(d, u, v + half * 0.8, d.between(6, 10), rough=0.4)
            site.region("bunker", "sand", (220, 206, 172), bunker, taken=True)
    site.relate("bunker", "beside", "putting green", "some")
    for _ in range(d.pick((0, 1, 1, 2))):
        u, v = d.between(-0.4, 0.4) * e, d.between(-0.4, 0.4) * e
        pond = blob(d, u, v, d.between(0.04, 0.09) * e, rough=0.35)
        site.region("pond", "water", d.pick(WATERS), pond, taken=True)
    if d.chance(0.5):
        site.way("path", winding(d, r, 0.3 * e, 7), 3, taken=False)
    site.trees(d.whole(120, 220), (3.2, 6))
    site.relate("tree", "between", "fairway", "some")


def track(site: Site, u: float, v: float, length: float, turn: float, colour: str) -> None:
    """Build a running track around a pitch."""
    site.thing("running track", u, v, length, length * 0.52, turn=turn, colour=colour, form="track")


def playground(site: Site) -> None:
    """A sports ground: running track with pitch, or pitches and courts, beside a school."""
    d, e, r = site.dice, site.extent, site.reach
    colour = d.pick(("red", "red", "orange", "blue", "brown"))
    side = d.pick((-1, 1))
    with_track = d.chance(0.7)
    if with_track:
        length = d.between(0.62, 0.74) * e
        track(site, d.between(-0.04, 0.04) * e, 0.1 * e * side, length, 0, colour)
        low = 0.1 * e - length * 0.26
    else:
        size = d.between(0.5, 0.6) * e
        site.thing("soccer field", 0, 0.13 * e * side, size, size * 0.62, colour="green",
                   rgb=(92, 128, 66), form="soccer")  # fmt: skip
        low = 0.13 * e - size * 0.31
    edge = side * (low - 0.03 * e)
    yard = [(-r, edge), (r, edge), (r, -r * side), (-r, -r * side)]
    site.region("schoolyard", "concrete", d.pick(((150, 148, 144), (166, 156, 142))), yard)
    v = side * (low - 0.13 * e)
    if d.chance(0.75 if with_track else 1.0):
        shade = site.colour("court", ("green", "blue", "orange"))
        for k in range(d.whole(1, 4)):
            u = (k - 1.5) * 24 * e / 170
            site.thing("court", u, v, 28 * e / 170, 15 * e / 170, turn=math.pi / 2,
                       colour=shade, form=d.pick(("basketball", "tennis")))  # fmt: skip
        if site.scene.of("court"):
            site.relate("court", "beside", "running track" if with_track else "soccer field")
    roof = site.colour("building", ("grey", "red", "white", "brown"))
    for k in (-1, 1):
        if d.chance(0.75):
            site.thing("building", k * 0.27 * e, side * (low - 0.34 * e), 0.4 * e, 0.1 * e,
                       height=12, colour=roof, form="flat")  # fmt: skip
    if site.scene.of("building"):
        site.relate("building", "beside", "running track" if with_track else "soccer field")
    ring = [(t, side * (low + 0.58 * e)) for t in _range(-0.6 * e, 0.6 * e, 8)]
    if site.row(ring, (2.5, 4), 0.7) > 3:
        site.relate("tree", "beside", "running track" if with_track else "soccer field", "some")
    site.trees(d.whole(5, 40), (2, 3.6))


def _range(low: float, high: float, step: float) -> list[float]:
    return [low + k * step for k in range(int((high - low) / step) + 1)]


def stadium(site: Site) -> None:
    """An arena with stands around a pitch, car parks, roads."""
    d, e, r = site.dice, site.extent, site.reach
    around = d.pick(("concrete", "ground", "concrete"))
    if around == "concrete":
        rgb = d.pick(((150, 147, 140), (128, 128, 128), (164, 156, 144)))
        site.region("square", "concrete", rgb, blob(d, 0, 0, 0.56 * e, rough=0.08))
    length = d.between(0.6, 0.74) * e
    width = length * d.between(0.74, 0.9)
    colour = site.colour("stadium", ("grey", "white", "blue", "brown"))
    site.take(rectangle(*site.at(0, 0), length * 1.05, width * 1.1, site.turn))
    shape = d.pick(("bowl", "bowl", "bowl with track"))
    site.thing("stadium", 0, 0, length, width, height=d.between(10, 18), colour=colour, form=shape)
    if around == "concrete":
        site.relate("square", "around", "stadium")
    edge = d.pick((-1, 1))
    v = edge * 0.47 * e
    if site.way("road", [(-r, v), (r, v)], d.between(10, 16)):
        site.relate("road", "beside", "stadium")
        site.traffic([(-r, v), (r, v)], 12, 24)
    if d.chance(0.8):
        lot_v = -edge * 0.5 * e
        pad = [
            (-0.5 * e, lot_v - 15),
            (0.5 * e, lot_v - 15),
            (0.5 * e, lot_v + 15),
            (-0.5 * e, lot_v + 15),
        ]
        site.region("parking lot", "asphalt", (104, 104, 108), pad, taken=True)
        parked(site, d, lot_v)
    site.trees(d.whole(10, 90), (2.6, 4.6))
    far = racetrack(0, 0, length * 1.24, width * 1.26, 0)
    if d.chance(0.4) and site.row(far, (2.4, 3.6), 0.9) > 5:
        site.relate("tree", "around", "stadium", "some")
    if d.chance(0.25):
        corner = [(-r, -r), (-0.45 * e, -r), (-0.5 * e, r), (-r, r)]
        woods(site, corner)


def parked(site: Site, d: Dice, v: float) -> None:
    """Fill a lot beside the stadium with cars."""
    filled = d.between(0.3, 0.9)
    for row in (-9, 0, 9):
        for u in _range(-0.48 * site.extent, 0.48 * site.extent, 3.0):
            if d.chance(filled * 0.8):
                site.car(u, v + row, math.pi / 2)
    if site.scene.of("vehicle"):
        site.relate("parking lot", "beside", "stadium")
