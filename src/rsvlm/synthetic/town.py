"""Layouts of streets: houses, shops, car parks."""

from __future__ import annotations

import math

from rsvlm.synthetic.geometry import curve, rectangle
from rsvlm.synthetic.nature import WATERS, house, winding, woods
from rsvlm.synthetic.site import Site


def _street(site: Site, u0: float, v0: float, u1: float, v1: float, width: float) -> bool:
    line = [(u0, v0), (u1, v1)]
    if site.way("road", line, width) is None:
        return False
    site.traffic(line, width, 34)
    return True


def pool(site: Site, u: float, v: float) -> None:
    """Dig a swimming pool."""
    d = site.dice
    if site.free(u, v, 4):
        site.thing(
            "swimming pool", u, v, d.between(7, 10), d.between(4, 5), turn=d.pick((0, 1.57)),
            colour="blue", rgb=(72, 162, 186), form="pool",
        )  # fmt: skip


def dense_residential(site: Site) -> None:
    """Rows of houses close together along parallel streets."""
    d, e, r = site.dice, site.extent, site.reach
    main = site.colour("building", ("red", "brown", "grey", "orange"))
    mixed = d.chance(0.35)
    other = site.colour("building", ("grey", "brown", "white"))
    plot, depth = d.between(14.5, 18), d.between(17, 21)
    road = d.between(6.5, 8.5)
    block = 2 * depth + road + d.between(0, 5)
    cross = d.between(0.4, 0.7) * e
    first = -r + d.between(0, 1) * block
    streets = []
    v = first
    while v < r:
        streets.append(v)
        v += block
    cross_at = [d.between(-0.5, -0.2) * e, d.between(0.2, 0.5) * e][: d.whole(1, 2)]
    for v in streets:
        _street(site, -r, v, r, v, road)
    for u in cross_at:
        _street(site, u, -r, u, r, road)
    pools = d.chance(0.3)
    for v in streets:
        for side in (-1, 1):
            u = -r + d.between(0, plot)
            while u < r:
                if min(abs(u - c) for c in cross_at) > plot * 0.5 + road * 0.5 and d.chance(0.95):
                    colour = other if mixed and d.chance(0.35) else main
                    at = v + side * (road * 0.5 + depth * 0.46 + d.between(-1, 1))
                    house(site, u, at, d.pick((0, 0, 0, math.pi / 2)), colour)
                    if pools and d.chance(0.25):
                        pool(site, u + 4, at + side * 9)
                u += plot
    del cross
    if len(site.scene.of("building")) > 2:
        site.relate("building", "along", "road")
    site.trees(d.whole(40, 160), (1.6, 3.2))


def sparse_residential(site: Site) -> None:
    """A few houses with gardens on a winding road."""
    d, e, r = site.dice, site.extent, site.reach
    if d.chance(0.6):
        line = winding(d, r, 0.18 * e)
        kind = d.pick(("road", "road", "path"))
        way = site.way(kind, line, d.between(5, 7))
        if way:
            site.traffic(line, 6, 90)
    else:
        line, kind, way = [], "road", None
    colour = site.colour("building", ("red", "brown", "grey", "white", "orange"))
    mixed = d.chance(0.3)
    other = site.colour("building", ("grey", "brown", "white", "red"))
    wanted = d.whole(1, 8)
    near_road = 0
    for _ in range(60):
        if len(site.scene.of("building")) >= wanted:
            break
        u, v = d.between(-0.44, 0.44) * e, d.between(-0.44, 0.44) * e
        if not site.free(u, v, 17):
            continue
        house(site, u, v, d.between(0, math.pi), other if mixed and d.chance(0.5) else colour)
        if d.chance(0.25):
            pool(site, u + 14, v + 5)
        if line:
            near = min(line, key=lambda p: (p[0] - u) ** 2 + (p[1] - v) ** 2)
            if math.dist(near, (u, v)) < 45:
                near_road += 1
                site.way("driveway", [(u, v), near], 3, taken=False)
                _sink(site)
    if way and near_road == len(site.scene.of("building")) > 0:
        site.relate("building", "beside", kind)
    if d.chance(0.35):
        side = d.pick((-1, 1))
        edge = [(-r, side * 0.4 * e), (0, side * d.between(0.3, 0.45) * e), (r, side * 0.4 * e)]
        woods(site, [*curve(edge), (r, side * r * 1.4), (-r, side * r * 1.4)])
    if d.chance(0.25):
        u, v = d.between(-0.35, 0.35) * e, d.between(-0.35, 0.35) * e
        if site.free(u, v, 14):
            from_ = [(u + 13 * math.cos(k * 0.4), v + 10 * math.sin(k * 0.4)) for k in range(16)]
            site.region("pond", "water", d.pick(WATERS), from_, taken=True)
    site.trees(d.whole(30, 130), (2.4, 5))


def _sink(site: Site) -> None:
    """Draw the way built last before all others: a driveway ends at the road's edge."""
    ways = site.scene.ways
    if ways and ways[-1].kind == "driveway":
        ways.insert(0, ways.pop())


def commercial(site: Site) -> None:
    """Blocks of large buildings of many heights between wide streets."""
    d, e, r = site.dice, site.extent, site.reach
    pavement = d.pick(((150, 148, 144), (134, 134, 136), (164, 158, 148)))
    site.region("pavement", "concrete", pavement, [(-r, -r), (r, -r), (r, r), (-r, r)])
    step, road = d.between(0.36, 0.5) * e, d.between(12, 17)
    start = d.between(-0.3, 0.0) * e
    lines = [start + step * k for k in range(-2, 4)]
    for v in lines:
        _street(site, -r, v, r, v, road)
    for u in lines:
        _street(site, u, -r, u, r, road)
    palette = ("grey", "white", "brown", "blue", "orange")
    main = site.colour("building", palette)
    single = d.chance(0.35) or bool(site.require)
    for v in lines:
        for u in lines:
            inner = step - road - 8
            cu, cv = u + step / 2, v + step / 2
            if d.chance(0.12):
                half = inner / 2
                block = [
                    (cu - half, cv - half),
                    (cu + half, cv - half),
                    (cu + half, cv + half),
                    (cu - half, cv + half),
                ]
                site.lawn(block, "lawn")
                continue
            if d.chance(0.18):
                lot(site, cu, cv, inner, inner, d.between(0.4, 0.9), 0.0)
                continue
            parts = d.pick((1, 2, 2, 4, 4))
            du = inner / (2 if parts > 1 else 1)
            dv = inner / (2 if parts == 4 else 1)
            for k in range(parts):
                bu = cu - inner / 2 + du * (k % 2 + 0.5) if parts > 1 else cu
                bv = cv - inner / 2 + dv * (k // 2 + 0.5) if parts == 4 else cv
                colour = main if single else site.colour("building", palette)
                site.thing(
                    "building", bu, bv, du * d.between(0.72, 0.92), dv * d.between(0.72, 0.92),
                    height=d.pick((9, 14, 20, 30, 42)), colour=colour,
                    form=d.pick(("flat", "flat", "tower")),
                )  # fmt: skip
    if site.scene.of("building"):
        site.relate("building", "beside", "road")
    for v in lines:
        points = [(k * 12.0 - r, v + road * 0.5 + 3) for k in range(int(2 * r / 12))]
        if d.chance(0.5) and site.row(points, (1.8, 3), 0.7) > 4:
            site.relate("tree", "along", "road", "some")


def lot(
    site: Site, u: float, v: float, length: float, width: float, filled: float, turn: float
) -> None:
    """Pave a car park, mark its stalls and fill a share of them."""
    d = site.dice
    c, s = math.cos(turn), math.sin(turn)

    def at(a: float, b: float) -> tuple[float, float]:
        return u + c * a - s * b, v + s * a + c * b

    half, wide = length / 2, width / 2
    rgb = d.pick(((92, 92, 96), (112, 112, 114), (128, 126, 122)))
    corners = [at(-half, -wide), at(half, -wide), at(half, wide), at(-half, wide)]
    site.region("parking lot", "asphalt", rgb, corners, taken=True)
    b = -wide + 3.5
    lane = 0
    while b < wide - 2.5:
        shade = (rgb[0] + 6, rgb[1] + 6, rgb[2] + 6)
        row = rectangle(*at(0, b), length - 6, 5, turn)
        site.region("stalls", "asphalt", shade, row, rows=(turn + math.pi / 2, 2.7), spread=0)
        a = -half + 4.4
        while a < half - 3:
            if d.chance(filled):
                x, y = at(a, b)
                site.car(x, y, turn + math.pi / 2)
            a += 2.7
        lane += 1
        b += 5.2 if lane % 2 else 11.5


def parking_lot(site: Site) -> None:
    """Rows of parked cars, a road, often a shop."""
    d, e, r = site.dice, site.extent, site.reach
    side = d.pick((-1, 1))
    shop = d.chance(0.6)
    filled = d.pick((0.12, 0.45, 0.75, 0.95))
    length, width = d.between(0.85, 1.15) * e, d.between(0.55, 0.72) * e
    lot(site, 0, side * 0.06 * e, length, width, filled, 0.0)
    v = side * 0.06 * e + side * (width / 2 + 9)
    if site.way("road", [(-r, v), (r, v)], d.between(7, 10)):
        site.relate("road", "beside", "parking lot")
        site.traffic([(-r, v), (r, v)], 8, 22)
    if shop:
        colour = site.colour("building", ("white", "grey", "brown", "blue", "red"))
        site.thing(
            "building", d.between(-0.1, 0.1) * e, side * (0.06 * e - width / 2 - 0.13 * e),
            d.between(0.5, 0.8) * e, 0.2 * e, height=9, colour=colour, form="flat",
        )  # fmt: skip
        if site.scene.of("building"):
            site.relate("building", "beside", "parking lot")
    site.trees(d.whole(4, 50), (1.8, 3.4))
    edge = [(k * 7.0 - r, v + side * 9) for k in range(int(2 * r / 7))]
    if d.chance(0.5) and site.row(edge, (1.8, 3), 0.8) > 4:
        site.relate("tree", "along", "road", "some")
