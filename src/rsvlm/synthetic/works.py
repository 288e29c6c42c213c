"""Layouts of work: factories, tanks, solar farm."""

from __future__ import annotations

import math

from rsvlm.synthetic.geometry import rectangle
from rsvlm.synthetic.nature import woods
from rsvlm.synthetic.site import Site


def industrial(site: Site) -> None:
    """Large halls on paved yards, lorries, a few tanks."""
    d, e, r = site.dice, site.extent, site.reach
    yard = d.pick(((148, 144, 138), (128, 126, 124), (162, 152, 138)))
    site.region("yard", "concrete", yard, [(-r, -r), (r, -r), (r, r), (-r, r)])
    step = d.between(0.36, 0.5) * e
    start = d.between(-0.25, 0) * e
    lines = [start + step * k for k in range(-2, 4)]
    road = d.between(9, 13)
    for v in lines:
        if site.way("road", [(-r, v), (r, v)], road):
            site.traffic([(-r, v), (r, v)], road, 60)
    if d.chance(0.7):
        u = d.between(-0.2, 0.2) * e
        if site.way("road", [(u, -r), (u, r)], road):
            site.traffic([(u, -r), (u, r)], road, 60)
    else:
        u = 9 * e
    palette = ("white", "blue", "grey", "brown", "grey", "red")
    main = site.colour("building", palette)
    single = d.chance(0.4) or bool(site.require)
    for v in lines:
        at = -r + d.between(0, 0.1) * e
        while at < r:
            length = d.between(0.2, 0.46) * e
            middle = at + length / 2
            if abs(middle - u) > length / 2 + road * 0.6:
                depth = (step - road) * d.between(0.5, 0.84)
                colour = main if single else site.colour("building", palette)
                site.thing("building", middle, v + step / 2, length * 0.94, depth, height=10,
                           colour=colour, form=d.pick(("hall", "hall", "flat", "saw")))  # fmt: skip
            at += length + d.between(0.015, 0.12) * e
    if site.scene.of("building"):
        site.relate("building", "beside", "road")
    colour = site.colour("tank", ("white", "grey", "brown"))
    for _ in range(d.pick((0, 0, 3, 6))):
        u, v, radius = d.between(-0.45, 0.45) * e, d.between(-0.45, 0.45) * e, d.between(6, 9)
        if site.free(u, v, radius + 2):
            site.thing("tank", u, v, 2 * radius, 2 * radius, height=9, colour=colour,
                       form="tank")  # fmt: skip
    for _ in range(d.whole(0, 30)):
        u, v = d.between(-0.5, 0.5) * e, d.between(-0.5, 0.5) * e
        if site.free(u, v, 6):
            if d.chance(0.5):
                site.car(u, v, d.pick((0, math.pi / 2)), long=True)
            else:
                site.thing("container", u, v, 12.2, 2.6, turn=d.pick((0, math.pi / 2)), height=3,
                           colour=d.pick(("red", "blue", "orange", "green", "white")),
                           form="box")  # fmt: skip
    if d.chance(0.5):
        site.trees(d.whole(10, 60), (2, 3.4))


def storage_tanks(site: Site) -> None:
    """A grid of round tanks behind low walls, pipes, a pump house."""
    d, e, r = site.dice, site.extent, site.reach
    if d.chance(0.5):
        yard = d.pick(((150, 144, 132), (166, 152, 130), (132, 130, 126)))
        name, material = d.pick((("yard", "concrete"), ("gravel", "soil")))
        site.region(name, material, yard, rectangle(0, 0, 1.1 * e, 0.95 * e, 0))
    columns, rows = d.whole(1, 4), d.whole(1, 4)
    if columns * rows < 2:
        columns = 3
    pitch = min(0.9 * e / max(columns, rows), d.between(46, 70))
    radius = pitch * d.between(0.28, 0.4)
    colour = site.colour("tank", ("white", "white", "grey", "brown", "black"))
    missing = d.between(0, 0.25)
    site.region("yard", "concrete", (148, 142, 132), rectangle(
        0, 0, columns * pitch + 8, rows * pitch + 8, 0), taken=False)  # fmt: skip
    for j in range(rows):
        for i in range(columns):
            u = (i - (columns - 1) / 2) * pitch
            v = (j - (rows - 1) / 2) * pitch
            outer = rectangle(u, v, pitch * 0.97, pitch * 0.97, 0)
            inner = rectangle(u, v, pitch * 0.93, pitch * 0.93, 0)
            site.region("wall", "concrete", (188, 182, 170), outer, spread=2)
            site.region("basin", "soil", (142, 130, 110), inner, spread=4, taken=True)
            if not d.chance(missing):
                r_ = radius * d.between(0.92, 1.0)
                site.thing("tank", u, v, 2 * r_, 2 * r_, height=d.between(9, 15), colour=colour,
                           form="tank")  # fmt: skip
    side = d.pick((-1, 1))
    v = side * (rows * pitch / 2 + 14)
    if site.way("road", [(-r, v), (r, v)], 8):
        site.relate("road", "beside", "tank")
        site.traffic([(-r, v), (r, v)], 8, 60)
    roof = site.colour("building", ("grey", "white", "red", "brown"))
    for k in range(d.whole(0, 3)):
        u = -columns * pitch / 2 - 26
        w = -side * (k * 30 - 20)
        if site.free(u, w, 8):
            site.thing("building", u, w, 22, 13, height=6, colour=roof, form="flat")
    if site.scene.of("building"):
        site.relate("building", "beside", "tank")
    if d.chance(0.25):
        site.region("water", "sea", (48, 74, 86), [(-r, -side * 0.42 * e), (r, -side * 0.42 * e),
                    (r, -side * 2 * r), (-r, -side * 2 * r)], taken=True)  # fmt: skip
        if rows * pitch > 0.6 * e:
            site.relate("tank", "beside", "water", "some")
    elif d.chance(0.5):
        site.trees(d.whole(10, 70), (2.4, 4.5))


def solar_farm(site: Site) -> None:
    """Long rows of panels, all facing one way."""
    d, e, r = site.dice, site.extent, site.reach
    blocks = d.pick((1, 2, 4))
    split = d.between(8, 14)
    pitch, wide = d.between(7.5, 11), d.between(3.6, 4.8)
    site.region("fenced area", "soil" if site.scene.ground == "bare soil" else "meadow",
                site.shade((132, 124, 96), 14), rectangle(0, 0, 0.98 * e, 0.94 * e, 0))  # fmt: skip
    span = 0.46 * e
    for half_u in (-1, 1) if blocks > 1 else (0,):
        for half_v in (-1, 1) if blocks == 4 else (0,):
            u0, u1 = (-span, span) if half_u == 0 else sorted((half_u * split / 2, half_u * span))
            v0, v1 = (-span, span) if half_v == 0 else sorted((half_v * split / 2, half_v * span))
            v0, v1 = v0 * d.between(0.85, 1.0), v1 * d.between(0.85, 1.0)
            v = v0 + wide
            while v < v1 - wide / 2:
                site.thing("solar panel", (u0 + u1) / 2, v, u1 - u0, wide, height=2.2,
                           colour="blue", rgb=(48, 58, 92), form="panel")  # fmt: skip
                v += pitch
    if blocks > 1:
        site.way("path", [(0, -r), (0, r)], 5, taken=False)
    v = d.pick((-1, 1)) * 0.5 * e
    if d.chance(0.6) and site.way("road", [(-r, v), (r, v)], 7):
        site.relate("road", "beside", "solar panel")
        site.traffic([(-r, v), (r, v)], 7, 120)
    for _ in range(d.whole(0, 2)):
        u = d.between(-0.4, 0.4) * e
        site.thing("building", u, -0.95 * v, 9, 6, height=4, form="flat",
                   colour=site.colour("building", ("white", "grey")))  # fmt: skip
    if d.chance(0.35):
        side = 1 if v < 0 else -1
        woods(
            site,
            [(-r, side * 0.49 * e), (r, side * 0.49 * e), (r, side * 2 * r), (-r, side * 2 * r)],
        )
        site.relate("forest", "beside", "solar panel")
    else:
        site.trees(d.whole(0, 60), (2.6, 4.6))
