"""A piece of the generated world as a map and as imagery: OpenStreetMap's PBF beside GeoTIFFs.

Scenes lie side by side, a raster each, and what is drawn on them stands in the map as people map
such things; so that a pipeline which joins both can be held against what is known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.errors import extra
from rsvlm.synthetic.dataset import Scenes
from rsvlm.synthetic.draw import draw
from rsvlm.synthetic.geometry import Point
from rsvlm.synthetic.world import Scene, Thing

THINGS: dict[str, dict[str, str]] = {
    "building": {"building": "yes"},
    "tree": {"natural": "tree"},
    "tank": {"man_made": "storage_tank"},
    "court": {"leisure": "pitch", "sport": "tennis"},
    "soccer field": {"leisure": "pitch", "sport": "soccer"},
    "running track": {"leisure": "track", "sport": "running"},
    "stadium": {"leisure": "stadium"},
    "solar panel": {"power": "generator", "generator:source": "solar"},
    "swimming pool": {"leisure": "swimming_pool"},
}
WAYS: dict[str, dict[str, str]] = {
    "road": {"highway": "residential"},
    "highway": {"highway": "motorway"},
    "path": {"highway": "footway"},
    "railway": {"railway": "rail"},
    "runway": {"aeroway": "runway"},
    "taxiway": {"aeroway": "taxiway"},
    "pier": {"man_made": "pier"},
    "river": {"waterway": "river"},
}
REGIONS: dict[str, dict[str, str]] = {
    "lake": {"natural": "water", "water": "lake"},
    "pond": {"natural": "water", "water": "pond"},
    "field": {"landuse": "farmland"},
    "circular field": {"landuse": "farmland"},
    "forest": {"natural": "wood"},
    "lawn": {"landuse": "grass"},
    "beach": {"natural": "beach"},
    "sand": {"natural": "sand"},
    "parking lot": {"amenity": "parking", "parking": "surface"},
}
#: What maps hold beside, and nobody sees from above.
UNSEEN: tuple[dict[str, str], ...] = (
    {"addr:housenumber": "12", "addr:street": "High Street"},
    {"amenity": "post_box", "ref": "A7"},
    {"boundary": "administrative", "admin_level": "8", "name": "Old Town"},
)
#: Where the region lies: UTM zone 32 north, metres.
CRS, ORIGIN = "EPSG:32632", (500_000.0, 5_250_000.0)


@dataclass(frozen=True)
class Mapped:
    """One object of the map.

    Attributes:
        id: as `curate.skyscript.osm` calls it.
        tags: of it.
        scene: number of the scene that it lies in, from 0.
        points: its nodes, metres in `CRS`.
        closed: whether it is a surface.
    """

    id: str
    tags: dict[str, str]
    scene: int
    points: tuple[Point, ...]
    closed: bool


def write_region(
    out: Path, scenes: int = 4, *, size: int = 512, seed: int = 0, labels: Sequence[str] = ()
) -> list[Mapped]:
    """Writes `region.osm.pbf` and `imagery/<number>_2019-07-<day>.tif`.

    Args:
        out: the folder.
        scenes: how many lie in a row from west to east.
        size: side of a scene's raster, pixels.
        seed: which world.
        labels: scene classes; all where none are named.

    Returns:
        What the map holds, but for what nobody sees.

    Raises:
        UserError: an extra is not installed.
    """
    with extra("rasters"):
        import rasterio
        from rasterio.transform import from_origin

    world = Scenes(n=scenes, seed=seed, size=size, classes=labels or None)
    found: list[Mapped] = []
    (out / "imagery").mkdir(parents=True, exist_ok=True)
    east = ORIGIN[0]
    for number in range(scenes):
        scene = world.scene(number)
        step = scene.extent / size
        pixels = np.moveaxis(np.asarray(draw(scene, size).image), -1, 0)
        day = 1 + number % 28
        with rasterio.open(
            out / "imagery" / f"{number:02d}_2019-07-{day:02d}.tif",
            "w",
            driver="GTiff",
            width=size,
            height=size,
            count=3,
            dtype="uint8",
            crs=CRS,
            transform=from_origin(east, ORIGIN[1], step, step),
            photometric="RGB",
            compress="deflate",
        ) as file:
            file.write(pixels)
        found += _mapped(scene, number, east, len(found))
        # A gap, so that a picture shows one scene alone.
        east += scene.extent + 50
    _write_pbf(out / "region.osm.pbf", found)
    return found


def _mapped(scene: Scene, number: int, east: float, first: int) -> list[Mapped]:
    """A scene's objects, in the order in which the map numbers them."""
    parts: list[tuple[dict[str, str], Sequence[Point], bool]] = []
    parts += [(REGIONS[r.name], r.outline, True) for r in scene.regions if r.name in REGIONS]
    parts += [(WAYS[w.kind], w.line, False) for w in scene.ways if w.kind in WAYS]
    for thing in scene.things:
        if tags := THINGS.get(thing.kind):
            point = "natural" in tags
            parts.append((tags, [(thing.x, thing.y)] if point else _corners(thing), not point))
    with extra("curate"):
        from shapely import LineString, Polygon, box

    frame = box(0, 0, scene.extent, scene.extent)
    out: list[Mapped] = []
    for tags, points, closed in parts:
        inside = [p for p in points if 0 <= p[0] <= scene.extent and 0 <= p[1] <= scene.extent]
        if closed and len(inside) < len(points):
            seen = Polygon(points).buffer(0).intersection(frame)
            inside = list(seen.exterior.coords)[:-1] if seen.geom_type == "Polygon" else []
        elif len(points) > 1 and len(inside) < len(points):
            part = LineString(points).intersection(frame)
            inside = list(part.coords) if part.geom_type == "LineString" else []
        if len(inside) < (3 if closed else min(2, len(points))):
            continue
        at = tuple((east + x, ORIGIN[1] - y) for x, y in inside)
        serial = first + len(out) + 1
        kind = f"a{2 * serial}" if closed else f"{'n' if len(at) == 1 else 'w'}{serial}"
        out.append(Mapped(kind, dict(tags), number, at, closed))
    return out


def _corners(thing: Thing) -> list[Point]:
    cos, sin = math.cos(thing.turn), math.sin(thing.turn)
    half = [(a * thing.length / 2, b * thing.width / 2) for a, b in _SIGNS]
    return [(thing.x + x * cos - y * sin, thing.y + x * sin + y * cos) for x, y in half]


_SIGNS = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def _write_pbf(path: Path, mapped: Sequence[Mapped]) -> None:
    with extra("curate"):
        import osmium
    with extra("rasters"):
        from rasterio.warp import transform

    path.unlink(missing_ok=True)  # osmium overwrites none
    writer = osmium.SimpleWriter(str(path))
    make: Any = osmium.osm.mutable
    nodes: list[tuple[tuple[float, float], dict[str, str], int]] = []
    ways: list[tuple[int, list[int], dict[str, str]]] = []
    # Nodes of ways are numbered behind all objects.
    spare = len(mapped) + 1
    for serial, one in enumerate(mapped, start=1):
        xs, ys = zip(*one.points, strict=True)
        lon, lat = transform(CRS, "EPSG:4326", xs, ys)
        if len(one.points) == 1:
            nodes.append(((lon[0], lat[0]), one.tags, serial))
            continue
        refs = list(range(spare, spare + len(lon)))
        spare += len(lon)
        nodes += [(place, {}, ref) for place, ref in zip(zip(lon, lat, strict=True), refs)]  # noqa: B905
        ways.append((serial, [*refs, *refs[: int(one.closed)]], one.tags))
    lon, lat = transform(CRS, "EPSG:4326", [ORIGIN[0] + 5], [ORIGIN[1] - 5])
    for tags in UNSEEN:
        nodes.append(((lon[0], lat[0]), tags, spare))
        spare += 1
    with writer:
        for place, tags, ref in sorted(nodes, key=lambda node: node[2]):
            writer.add_node(make.Node(id=ref, location=place, tags=tags))
        for ref, refs, tags in ways:
            writer.add_way(make.Way(id=ref, nodes=refs, tags=tags))
