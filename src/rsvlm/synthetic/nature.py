"""Layouts without much that is built: forest, desert, water, fields, greens."""

from __future__ import annotations

import math

from rsvlm.synthetic.geometry import (
    Dice,
    Point,
    Polygon,
    along,
    band,
    blob,
    curve,
    mix,
    offset,
    oval,
)
from rsvlm.synthetic.site import Site
from rsvlm.synthetic.world import GROUNDS, RGB

WATERS: tuple[RGB, ...] = ((52, 78, 88), (62, 86, 76), (44, 66, 92), (84, 98, 88))
CROPS: dict[str, tuple[RGB, ...]] = {
    "green": ((82, 112, 58), (104, 132, 70), (68, 98, 58)),
    "yellow": ((186, 168, 92), (196, 180, 108)),
    "brown": ((128, 100, 74), (112, 88, 66)),
}


def winding(dice: Dice, reach: float, swing: float, points: int = 5) -> list[Point]:
    """Return a smooth line across the frame along u that swings by up to `swing` in v."""
    return curve(
        [
            (-reach + 2 * reach * k / (points - 1), dice.between(-swing, swing))
            for k in range(points)
        ]
    )


def woods(site: Site, outline: Polygon, name: str = "forest") -> None:
    """Lay closed canopy over an outline of the frame."""
    site.region(name, "canopy", GROUNDS[site.scene.ground].tree, outline, taken=True)


def square(site: Site) -> Polygon:
    """Return an outline that covers the whole picture."""
    r = site.reach
    return [(-r, -r), (r, -r), (r, r), (-r, r)]


def house(site: Site, u: float, v: float, turn: float, colour: str) -> None:
    """Build one family house."""
    d = site.dice
    length, width = d.between(11, 16), d.between(8, 11)
    form = d.pick(("gable", "gable", "hip"))
    site.thing(
        "building", u, v, length, width, turn=turn, height=d.between(5, 8),
        colour=colour, form=form,
    )  # fmt: skip


def forest(site: Site) -> None:
    """Closed canopy; sometimes a clearing, a track, a stream or a hut."""
    d, e, r = site.dice, site.extent, site.reach
    woods(site, square(site))
    for _ in range(d.whole(0, 3)):  # stands of another shade
        tree = GROUNDS[site.scene.ground].tree
        rgb = (tree[0] + d.whole(4, 24), tree[1] + d.whole(0, 18), tree[2] + d.whole(-6, 8))
        patch = blob(d, d.between(-0.5, 0.5) * e, d.between(-0.5, 0.5) * e, d.between(0.1, 0.3) * e)
        site.region("forest", "canopy", rgb, patch)
    extra = d.pick(("none", "none", "clearing", "track", "stream", "track", "clearing"))
    if extra == "clearing":
        u, v = d.between(-0.25, 0.25) * e, d.between(-0.25, 0.25) * e
        size = d.between(0.09, 0.17) * e
        base = GROUNDS[site.scene.ground]
        site.region("clearing", base.material, base.rgb, blob(d, u, v, size))
        site.relate("clearing", "inside", "forest")
        if d.chance(0.4):
            house(site, u, v, d.between(0, 3.1), site.colour("building", ("red", "brown", "grey")))
            site.relate("building", "inside", "clearing")
    elif extra == "track":
        site.way("path", winding(d, r, 0.25 * e), d.between(4, 6))
        site.relate("path", "through", "forest")
    elif extra == "stream":
        line = winding(d, r, 0.3 * e, 6)
        site.region("stream", "water", d.pick(WATERS), band(line, d.between(7, 13)), taken=True)
        site.relate("stream", "through", "forest")


def desert(site: Site) -> None:
    """Dunes or stony ground; sometimes a track, shrubs, rocks."""
    d, e, r = site.dice, site.extent, site.reach
    sand = d.pick(((196, 166, 122), (184, 152, 112), (206, 180, 138), (174, 140, 106)))
    dunes = d.chance(0.6)
    site.region("dunes" if dunes else "sand", "dune" if dunes else "soil", sand, square(site))
    for _ in range(d.whole(0, 2)):
        rgb = (sand[0] - d.whole(8, 30), sand[1] - d.whole(8, 26), sand[2] - d.whole(4, 20))
        u, v = d.between(-0.5, 0.5) * e, d.between(-0.5, 0.5) * e
        site.region("sand", "soil", rgb, blob(d, u, v, d.between(0.1, 0.26) * e, rough=0.4))
    if d.chance(0.35):
        for _ in range(d.whole(2, 6)):
            u, v = d.between(-0.4, 0.4) * e, d.between(-0.4, 0.4) * e
            outline = blob(d, u, v, d.between(0.02, 0.06) * e, rough=0.45)
            site.region("rocks", "rock", (122, 100, 82), outline, taken=True)
        site.relate("rocks", "on", "sand")
    if d.chance(0.4):
        line = winding(d, r, 0.2 * e)
        if d.chance(0.5):
            site.way("path", line, d.between(5, 8))
            site.relate("path", "across", "desert")
        else:
            site.way("road", line, d.between(8, 11))
            site.relate("road", "across", "desert")
            site.traffic(line, 9, 1.2 * e)
    if d.chance(0.4):
        site.trees(d.whole(6, 40), (1.6, 3.0))


def fields(site: Site, depth: int, corners: list[Point], gap: float) -> list[list[Point]]:
    """Split a quadrilateral into parcels, across the longer side, and lay a crop on each."""
    d = site.dice
    a, b, c, e = corners
    long_u = math.dist(a, b) + math.dist(e, c) > math.dist(b, c) + math.dist(a, e)
    if depth == 0 or (depth < 3 and d.chance(0.15)):
        parcel = [
            mix(p, mix(a, c, 0.5), min(0.4, gap / (1.0 + math.dist(p, mix(a, c, 0.5)))))
            for p in corners
        ]
        word = d.pick(("green", "green", "green", "yellow", "brown", "brown"))
        along_rows = math.atan2(b[1] - a[1], b[0] - a[0]) + (0 if long_u else math.pi / 2)
        rows = (along_rows, d.pick((4.0, 6.0, 9.0))) if d.chance(0.7) else None
        material = "soil" if word == "brown" else "crop"
        rgb = d.pick(CROPS[word])
        site.region("field", material, rgb, parcel, rows=rows, colour=word, spread=12)
        return [parcel]
    t, s = d.between(0.35, 0.65), d.between(-0.06, 0.06)
    if long_u:
        m, n = mix(a, b, t), mix(e, c, t + s)
        return fields(site, depth - 1, [a, m, n, e], gap) + fields(
            site, depth - 1, [m, b, c, n], gap
        )
    m, n = mix(b, c, t), mix(a, e, t + s)
    return fields(site, depth - 1, [a, b, m, n], gap) + fields(site, depth - 1, [n, m, c, e], gap)


def farmland(site: Site) -> None:
    """Parcels with tracks between them, or irrigated circles; hedges; a farm."""
    d, e, r = site.dice, site.extent, site.reach
    if d.chance(0.2):
        pitch = d.between(0.34, 0.5) * e
        for i in range(-2, 3):
            for j in range(-2, 3):
                word = d.pick(("green", "green", "green", "brown", "yellow"))
                circle = oval(i * pitch, j * pitch, 0.95 * pitch, 0.95 * pitch, 0)
                site.region(
                    "circular field", "crop", d.pick(CROPS[word]), circle, colour=word, spread=12
                )
        if d.chance(0.6):
            site.way("path", [(-r, pitch / 2), (r, pitch / 2)], 5)
            site.relate("path", "between", "circular field")
        return
    w = r * 1.02
    fields(site, d.whole(3, 5), [(-w, -w), (w, -w), (w, w), (-w, w)], d.between(1.5, 5))
    if d.chance(0.55):
        v = d.between(-0.25, 0.25) * e
        line = winding(d, r, 0.02 * e, 4)
        kind = d.pick(("path", "road", "path"))
        site.way(kind, [(u, y + v) for u, y in line], 6 if kind == "path" else 8)
        site.relate(kind, "between", "field")
        if d.chance(0.5):
            side = offset([(u, y + v) for u, y in line], 9)
            if site.row([p for p, _ in along(side, 13)], (3, 5), 0.7) > 3:
                site.relate("tree", "along", kind, "some")
    if d.chance(0.45):
        u, v = d.between(-0.3, 0.3) * e, d.between(-0.3, 0.3) * e
        yard = blob(d, u, v, d.between(32, 45), rough=0.12)
        site.region("farmyard", "soil", (150, 132, 108), yard, taken=False)
        colour = site.colour("building", ("red", "grey", "white", "brown"))
        turn = d.pick((0, math.pi / 2)) + d.between(-0.2, 0.2)
        for k in range(d.whole(1, 4)):
            du, dv = ((0, 0), (26, 4), (-3, 24), (24, 30))[k]
            size = (d.between(16, 26), d.between(10, 14))
            site.thing(
                "building", u + du - 10, v + dv - 12, *size, turn=turn + k % 2 * math.pi / 2,
                height=7, colour=colour, form="gable",
            )  # fmt: skip
        if site.scene.of("building"):
            site.relate("building", "beside", "field")


def banks(site: Site, line: list[Point], width: float) -> str:
    """Dress the two sides of a water course; returns what stands on them."""
    d, e = site.dice, site.extent
    what = d.pick(("forest", "field", "tree", "building", "forest", "none"))
    if what == "forest":
        far = 1.6 * site.reach
        for sign in (1, -1) if d.chance(0.6) else (d.pick((1, -1)),):
            near = offset(line, sign * (width * 0.5 + d.between(2, 14)))
            woods(site, [*near, (near[-1][0], sign * far), (near[0][0], sign * far)])
    elif what == "field":
        for sign in (1, -1):
            for k in range(3):
                u0, u1 = (-1.0 + 0.7 * k) * e, (-1.0 + 0.7 * (k + 1)) * e - 6
                v0 = sign * (width * 0.5 + 0.18 * e)
                word = d.pick(("green", "yellow", "brown", "green"))
                corners = [(u0, v0), (u1, v0), (u1, sign * e), (u0, sign * e)]
                site.region("field", "crop", d.pick(CROPS[word]), corners, colour=word,
                            rows=(d.pick((0, 1.57)), 6.0))  # fmt: skip
    elif what == "tree":
        for sign in (1, -1):
            side = offset(line, sign * (width * 0.5 + 8))
            if site.row([p for p, _ in along(side, 10)], (3, 5), 0.75) > 3:
                site.relate("tree", "along", "river", "some")
        site.trees(d.whole(5, 40))
    elif what == "building":
        colour = site.colour("building", ("red", "brown", "grey", "orange"))
        for sign in (1, -1):
            for (u, v), turn in along(offset(line, sign * (width * 0.5 + 34)), 26, 9):
                if d.chance(0.7) and site.free(u, v, 9):
                    house(site, u, v, turn, colour)
        if len(site.scene.of("building")) > 2:
            site.relate("building", "along", "river")
        site.trees(d.whole(10, 40))
    return what


def river(site: Site) -> None:
    """A water course across the picture."""
    d, e, r = site.dice, site.extent, site.reach
    width = d.between(0.12, 0.26) * e
    line = winding(d, 1.1 * r, 0.13 * e, d.whole(4, 6))
    shore = site.shade(GROUNDS["bare soil"].rgb, 16)
    if d.chance(0.6):
        site.region("bank", "soil", shore, band(line, width * d.between(1.1, 1.25)))
    site.region("river", "water", d.pick(WATERS), band(line, width), taken=True)
    if d.chance(0.25):
        u = d.between(-0.2, 0.2) * e
        v = min(line, key=lambda p: abs(p[0] - u))[1]
        bar = oval(u, v, width * 1.1, width * 0.34, d.between(-0.2, 0.2))
        site.region("sandbank", "sand", (190, 172, 136), bar)
        site.relate("sandbank", "inside", "river")
    what = banks(site, line, width)
    if what in ("forest", "field"):
        site.relate(what, "along", "river")
    for _ in range(d.pick((0, 0, 1, 2))):
        (u, v), turn = d.pick(along(line, 20))
        site.thing("boat", u, v, d.between(10, 18), 5, turn=turn, colour=d.pick(("white", "red")),
                   height=2, form="boat")  # fmt: skip


def lake(site: Site) -> None:
    """One closed piece of water."""
    d, e = site.dice, site.extent
    around = d.pick(("forest", "ground", "tree", "field", "forest"))
    if around == "forest":
        woods(site, square(site))
    elif around == "field":
        w = site.reach
        fields(site, 3, [(-w, -w), (w, -w), (w, w), (-w, w)], 3)
    u, v, size = d.between(-0.1, 0.1) * e, d.between(-0.1, 0.1) * e, d.between(0.2, 0.34) * e
    outline = blob(d, u, v, size, rough=d.between(0.12, 0.35))
    shore = [mix((u, v), p, 1.0 + d.between(0.03, 0.12)) for p in outline]
    base = GROUNDS[site.scene.ground]
    site.region("bank", base.material, site.shade(base.rgb, 15), shore, taken=True)
    site.region("lake", "water", d.pick(WATERS), outline, taken=True)
    if d.chance(0.3):
        island = blob(d, u + d.between(-0.2, 0.2) * size, v, size * d.between(0.14, 0.28))
        site.region("island", "canopy", base.tree, island)
        site.relate("island", "inside", "lake")
    elif d.chance(0.4):
        for _ in range(d.whole(1, 4)):
            a, t = d.between(0, 6.28), d.between(0.1, 0.5) * size
            site.thing("boat", u + t * math.cos(a), v + t * math.sin(a), d.between(8, 14), 4,
                       turn=d.between(0, 3.14), height=2, form="boat",
                       colour=d.pick(("white", "red", "blue")))  # fmt: skip
    if around != "forest":
        if d.chance(0.5):
            line = [(p[0], p[1]) for p in (mix((u, v), q, 1.28) for q in outline)]
            site.way("path", [*line, line[0]], 4)
            site.relate("path", "around", "lake")
        site.trees(d.whole(20, 90), (3, 5))
    else:
        site.relate("forest", "around", "lake")
    if around == "field":
        site.relate("field", "around", "lake")
    if d.chance(0.35):
        a = d.between(0, 6.28)
        colour = site.colour("building", ("red", "brown", "white"))
        for k in range(d.whole(1, 4)):
            t = 1.35 * size + 14
            house(site, u + t * math.cos(a + 0.3 * k), v + t * math.sin(a + 0.3 * k), a, colour)
        if site.scene.of("building"):
            site.relate("building", "beside", "lake")


def beach(site: Site) -> None:
    """Sea, surf, sand and what lies behind it."""
    d, e, r = site.dice, site.extent, site.reach
    shift = d.between(-0.15, 0.15) * e
    line = [(u, v + shift) for u, v in winding(d, 1.2 * r, 0.06 * e)]
    wide = d.between(0.12, 0.26) * e
    inner = [(u, v + wide + d.between(-2, 2)) for u, v in line]
    far = 2 * r
    sand = d.pick(((214, 194, 152), (200, 178, 138), (222, 208, 174)))
    site.region("beach", "sand", sand, line + inner[::-1], taken=False)
    sea = d.pick(((36, 92, 116), (44, 82, 108), (58, 116, 124), (40, 70, 96)))
    site.region("sea", "sea", sea, [*line, (far, -far), (-far, -far)], taken=True)
    shallow = (sea[0] + 34, sea[1] + 36, sea[2] + 24)
    site.region("sea", "sea", shallow, line + offset(line, -d.between(0.05, 0.1) * e)[::-1])
    for k in range(d.whole(1, 3)):
        at = -1.0 - k * d.between(8, 16)
        crest = offset(line, at)
        site.region(
            "surf", "foam", (218, 224, 222), crest + offset(line, at - d.between(2, 5))[::-1]
        )
    site.relate("beach", "beside", "sea")
    behind = d.pick(("forest", "ground", "building", "road", "tree"))
    if behind == "forest":
        edge = [(u, v + d.between(0, 6)) for u, v in inner]
        woods(site, [*edge, (far, far), (-far, far)])
        site.relate("forest", "behind", "beach")
    elif behind in ("road", "building"):
        road = [(u, v + 12) for u, v in inner]
        if site.way("road", road, 9):
            site.relate("road", "along", "beach")
        site.traffic(road, 9, 60)
    if behind == "building":
        colour = site.colour("building", ("white", "orange", "red", "brown"))
        for (u, v), turn in along(offset(inner, 38), 32, 10):
            site.thing("building", u, v, d.between(18, 26), d.between(12, 16), turn=turn,
                       height=d.between(8, 20), colour=colour, form="flat")  # fmt: skip
        if site.scene.of("building"):
            site.relate("building", "behind", "beach")
    if behind != "forest":
        far_side = [(u, v + d.between(14, 0.4 * e)) for u, v in inner]
        site.row([d.pick(far_side) for _ in range(d.whole(10, 45))], (2.5, 4.5), 1.0)
    if d.chance(0.5):
        for (u, v), _ in along([mix(a, b, 0.6) for a, b in zip(line, inner, strict=True)], 9, 3):
            if d.chance(0.6):
                colour = d.pick(("white", "red", "blue", "yellow"))
                site.thing("umbrella", u + d.between(-2, 2), v + d.between(-5, 5), 3.4, 3.4,
                           height=2, colour=colour, form="round")  # fmt: skip
        if site.scene.of("umbrella"):
            site.relate("umbrella", "on", "beach")
    for _ in range(d.pick((0, 0, 1, 2, 3))):
        u, v = d.between(-0.45, 0.45) * e, shift - d.between(0.16, 0.45) * e
        site.thing("boat", u, v, d.between(8, 16), 4.5, turn=d.between(0, 3.14), height=2,
                   colour=d.pick(("white", "red", "blue")), form="boat")  # fmt: skip
