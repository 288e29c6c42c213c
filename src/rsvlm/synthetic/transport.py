"""Layouts of traffic: airport, harbour, railway, interchange, bridge."""

from __future__ import annotations

import math

from rsvlm.synthetic.geometry import along, arc, band, curve, offset
from rsvlm.synthetic.nature import WATERS, banks, house, winding, woods
from rsvlm.synthetic.site import Site


def airport(site: Site) -> None:
    """Runways, taxiways, an apron with planes, a terminal."""
    d, e, r = site.dice, site.extent, site.reach
    side = d.pick((-1, 1))
    runways = d.pick((1, 1, 1, 2))
    at = 0.18 if runways == 1 else 0.12
    for k in range(runways):
        v = side * (at + 0.21 * k) * e
        stop = d.pick((1.3 * r, 0.4 * e))
        site.way("runway", [(-1.3 * r, v), (stop, v)], d.between(40, 52))
    taxi = side * (at - 0.15) * e
    site.way("taxiway", [(-1.3 * r, taxi), (1.3 * r, taxi)], 22)
    for u in d.some((-0.4, -0.2, 0.0, 0.2, 0.4), d.whole(2, 3)):
        site.way("taxiway", [(u * e, taxi), ((u + 0.06) * e, side * at * e)], 20)
    pave = d.pick(((158, 156, 150), (142, 142, 142), (170, 164, 152)))
    near, far = taxi - side * 10, taxi - side * 0.26 * e
    left, right = -d.between(0.3, 0.75) * e, d.between(0.3, 0.75) * e
    corners = [(left, near), (right, near), (right, far), (left, far)]
    site.region("apron", "concrete", pave, corners, taken=True)
    roof = site.colour("building", ("grey", "white", "blue", "brown"))
    gate = far - side * 0.05 * e
    piece = d.between(0.24, 0.4) * e
    u = left + piece / 2
    while u < right:
        site.thing("building", u, gate, piece * 0.92, 0.085 * e, height=14, colour=roof,
                   form="flat")  # fmt: skip
        u += piece * d.between(1.05, 1.6)
    size = d.between(36, 50)
    livery = d.pick(("white", "white", "white", "grey"))
    stands = [left + size * (0.7 + 1.15 * k) for k in range(int((right - left) / size / 1.15))]
    busy = d.between(0.25, 1.0)
    for u in stands:
        if d.chance(busy):
            turn = -side * math.pi / 2 + d.between(-0.05, 0.05)
            site.thing("plane", u, far + side * size * 0.62, size, size * 0.95, turn=turn,
                       height=5, colour=livery, form="jet")  # fmt: skip
    if site.scene.of("plane"):
        site.relate("plane", "on", "apron", "some")
    if d.chance(0.4):
        site.thing("plane", d.between(-0.4, 0.4) * e, taxi, size, size * 0.95,
                   turn=d.pick((0, math.pi)), height=5, colour=livery, form="jet")  # fmt: skip
    if site.scene.of("building"):
        site.relate("building", "beside", "apron")
    if runways == 1:
        site.relate("taxiway", "beside", "runway", "one")
    road = gate - side * 0.1 * e
    if site.way("road", [(-r, road), (r, road)], 10):
        site.traffic([(-r, road), (r, road)], 10, 80)
    if d.chance(0.4):
        site.trees(d.whole(20, 90), (3, 5))


def harbour(site: Site) -> None:
    """Water with quays or jetties, ships or boats beside them."""
    d, e, r = site.dice, site.extent, site.reach
    shore = d.between(0.05, 0.25) * e
    water = d.pick(((44, 74, 88), (36, 62, 84), (64, 88, 92), (52, 84, 98)))
    site.region("water", "sea", water, [(-r, -r), (r, -r), (r, shore), (-r, shore)], taken=True)
    pave = d.pick(((150, 146, 138), (132, 132, 130), (166, 158, 144)))
    inland = shore + d.between(0.18, 0.4) * e
    site.region("quay", "concrete", pave, [(-r, shore), (r, shore), (r, inland), (-r, inland)])
    marina = d.chance(0.5)
    count = d.whole(2, 5)
    pitch = 1.0 * e / count
    length = d.between(0.3, 0.5) * e
    hull = d.pick(("white", "white", "red", "blue", "grey"))
    kind = "boat" if marina else "ship"
    for k in range(count):
        u = (k - (count - 1) / 2) * pitch + d.between(-0.1, 0.1) * pitch
        site.way("pier", [(u, shore), (u, shore - length)], 3.5 if marina else 12)
        for sign in (-1, 1):
            step = 6.5 if marina else 0.24 * e
            long_, wide = (d.between(11, 14), 4.2) if marina else (0.2 * e, 0.034 * e)
            v = shore - step
            while v > shore - length:
                if d.chance(0.7):
                    gap = (1.75 + long_ / 2 + 0.8) if marina else (6 + wide / 2 + 2)
                    turn = (0 if sign > 0 else math.pi) if marina else math.pi / 2
                    colour = hull if not marina or d.chance(0.8) else d.pick(("white", "blue"))
                    site.thing(kind, u + sign * gap, v + (0 if marina else step / 2), long_, wide,
                               turn=turn, height=2 if marina else 9, colour=colour,
                               form=kind)  # fmt: skip
                v -= step
    if site.scene.of(kind):
        site.relate(kind, "beside", "pier", "some")
    if d.chance(0.6) and shore - length > -0.34 * e:
        site.thing(kind, d.between(-0.4, 0.4) * e, -0.42 * e, 13 if marina else 0.16 * e,
                   4.5 if marina else 0.03 * e, turn=d.between(0, 3.1), height=4, colour=hull,
                   form=kind)  # fmt: skip
    if marina:
        house_row(site, inland - 14, site.colour("building", ("red", "white", "grey")))
    else:
        depth = inland - shore
        if d.chance(0.7):
            containers(site, shore + depth * 0.35, depth * 0.42)
        colour = site.colour("building", ("grey", "blue", "white", "brown"))
        for k in range(d.whole(1, 4)):
            site.thing("building", (k - 1.5) * 0.3 * e, inland - 0.01 * e, 0.22 * e, 0.1 * e,
                       height=10, colour=colour, form="hall")  # fmt: skip
    if site.scene.of("building"):
        site.relate("building", "on" if marina else "beside", "quay")
    if site.way("road", [(-r, inland + 14), (r, inland + 14)], 9):
        site.traffic([(-r, inland + 14), (r, inland + 14)], 9, 40)
    site.trees(d.whole(5, 60), (2.4, 4))


def house_row(site: Site, v: float, colour: str) -> None:
    """Build some sheds behind a marina."""
    d, e = site.dice, site.extent
    for k in range(d.whole(1, 5)):
        house(site, (k - 2) * 0.2 * e + d.between(-8, 8), v, 0, colour)


def containers(site: Site, v: float, depth: float) -> None:
    """Stack containers on a quay."""
    d, e = site.dice, site.extent
    for k in range(d.whole(2, 5)):
        u = (k - 2) * 0.2 * e
        for a in range(3):
            for b in range(int(depth / 3.2)):
                if d.chance(0.75):
                    site.thing("container", u + a * 13.2, v - depth / 2 + b * 3.2, 12.2, 2.6,
                               height=5, colour=d.pick(("red", "blue", "orange", "green", "white")),
                               form="box")  # fmt: skip
    if site.scene.of("container"):
        site.relate("container", "on", "quay")


def railway(site: Site) -> None:
    """Parallel tracks, trains, a station."""
    d, e, r = site.dice, site.extent, site.reach
    tracks = d.whole(2, 7)
    gap = d.between(5.2, 6.4)
    bend = d.between(-0.1, 0.1) * e
    axis = curve([(-r, bend), (0, 0), (r, bend)])
    width = tracks * gap
    bed = d.pick(((118, 108, 100), (132, 122, 112), (104, 98, 94)))
    site.region("railway", "ballast", bed, band(axis, width + 6), taken=True)
    for k in range(tracks):
        site.way("railway", offset(axis, (k - (tracks - 1) / 2) * gap), 3.2)
    for k in d.some(range(tracks), d.pick((0, 1, 1, 2))):
        line = offset(axis, (k - (tracks - 1) / 2) * gap)
        livery = d.pick(("white", "red", "blue", "grey", "green", "yellow"))
        start, cars = d.whole(2, 6), d.whole(4, 9)
        places = along(line, 21.0, 10.5)
        for (u, v), turn in places[start : start + cars]:
            site.thing("wagon", u, v, 20, 3.1, turn=turn, height=4, colour=livery, form="wagon")
    if site.scene.of("wagon"):
        site.relate("wagon", "on", "railway")
    side = d.pick((-1, 1))
    if d.chance(0.55):
        v = side * (width / 2 + 9)
        walk = [(-0.3 * e, v - 4), (0.3 * e, v - 4), (0.3 * e, v + 4), (-0.3 * e, v + 4)]
        site.region("platform", "concrete", (168, 164, 156), walk, taken=True)
        site.relate("platform", "beside", "railway")
        colour = site.colour("building", ("red", "grey", "white", "blue", "brown"))
        site.thing("building", d.between(-0.15, 0.15) * e, v + side * 18, 0.34 * e, 18,
                   height=10, colour=colour, form="hall")  # fmt: skip
        if site.scene.of("building"):
            site.relate("building", "beside", "railway", "one")
    what = d.pick(("building", "tree", "road", "building"))
    for sign in (-1, 1):
        edge = sign * (width / 2 + 0.2 * e)
        if what == "building":
            colour = site.colour("building", ("brown", "grey", "red", "orange"))
            for row in range(2):
                for k in range(-6, 7):
                    u, v = k * 20 + d.between(-2, 2), edge + sign * row * 26
                    if d.chance(0.8) and site.free(u, v, 9):
                        house(site, u, v, d.pick((0, 1.57)), colour)
        elif what == "road" and site.way("road", [(-r, edge), (r, edge)], 9):
            site.relate("road", "beside", "railway")
            site.traffic([(-r, edge), (r, edge)], 9, 26)
    site.trees(d.whole(25, 130), (2.2, 4.2))


def interchange(site: Site) -> None:
    """Two highways, one above the other, with ramps between them."""
    d, e, r = site.dice, site.extent, site.reach
    wide = d.between(20, 26)
    lean = d.between(-0.25, 0.25)
    low = [(-1.3 * r, 0.0), (1.3 * r, 0.0)]
    high = [(-1.3 * r * lean, -1.3 * r), (1.3 * r * lean, 1.3 * r)]
    inner = d.between(0.15, 0.2) * e
    loops = d.some(range(4), d.pick((2, 4, 4)))
    for q in loops:
        su, sv = ((1, 1), (-1, 1), (-1, -1), (1, -1))[q]
        cu, cv = su * (inner + wide * 0.25), sv * (inner + wide * 0.25)
        ring = arc(cu + lean * cv, cv, inner, 0, 2 * math.pi, 22)
        site.way("ramp", ring, 8)
    for q in range(4):
        su, sv = ((1, 1), (-1, 1), (-1, -1), (1, -1))[q]
        if d.chance(0.85):
            reach = d.between(0.46, 0.62) * e
            pts = [(su * (reach + 0.3 * e), sv * 4), (su * reach, sv * wide * 0.5),
                   (su * reach * 0.52 + lean * 9, sv * reach * 0.52),
                   (su * wide * 0.5 + lean * sv * reach, sv * reach),
                   (su * 4 + lean * sv * (reach + 0.3 * e), sv * (reach + 0.3 * e))]  # fmt: skip
            site.way("ramp", curve(pts), 8)
    site.way("highway", low, wide)
    site.way("highway", high, wide, level=1)
    site.traffic(low, wide * 1.3, 26)
    site.traffic(high, wide * 1.3, 26)
    site.relate("highway", "over", "highway")
    if d.chance(0.4):
        colour = site.colour("building", ("red", "grey", "brown", "white"))
        for _ in range(40):
            u, v = d.between(-0.6, 0.6) * e, d.between(-0.6, 0.6) * e
            if math.hypot(u, v) > 0.3 * e and site.free(u, v, 14):
                house(site, u, v, d.pick((0, 1.57)), colour)
    site.trees(d.whole(20, 150), (2.6, 5))


def bridge(site: Site) -> None:
    """A road across a river."""
    d, e, r = site.dice, site.extent, site.reach
    width = d.between(0.24, 0.42) * e
    line = winding(d, 1.1 * r, 0.05 * e)
    site.region("bank", "soil", site.shade((150, 132, 104), 14), band(line, width * 1.12))
    site.region("river", "water", d.pick(WATERS), band(line, width), taken=True)
    road = d.between(9, 16)
    lean = d.between(-0.2, 0.2)
    across = [(-lean * 1.2 * r, -1.2 * r), (lean * 1.2 * r, 1.2 * r)]
    half = 0.54 * width
    site.way("road", across, road)
    site.way("bridge", [(-lean * half, -half), (lean * half, half)], road + 3, level=1)
    if d.chance(0.25):
        gap = d.between(0.16, 0.3) * e
        shifted = [(u + gap, v) for u, v in across]
        site.way("road", shifted, road)
        site.way(
            "bridge", [(gap - lean * half, -half), (gap + lean * half, half)], road + 3, level=1
        )
        site.traffic(shifted, road, 34)
    site.traffic(across, road, 26)
    site.relate("bridge", "over", "river")
    what = d.pick(("banks", "forest", "banks"))
    if what == "banks":
        banks(site, line, width)
    else:
        side = d.pick((-1, 1))
        near = offset(line, side * width * 0.62)
        woods(site, [*near, (near[-1][0], side * 1.6 * r), (near[0][0], side * 1.6 * r)])
    for _ in range(d.pick((0, 0, 1, 2))):
        u = d.pick((-1, 1)) * d.between(0.15, 0.45) * e
        site.thing("boat", u, d.between(-0.25, 0.25) * width, d.between(12, 22), 5.5,
                   turn=d.between(-0.3, 0.3), height=2, form="boat",
                   colour=d.pick(("white", "red", "blue")))  # fmt: skip
    site.trees(d.whole(5, 60), (2.6, 4.5))
