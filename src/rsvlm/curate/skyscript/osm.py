"""Objects of OpenStreetMap, from a PBF file by osmium."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsvlm.curate.record import Record
from rsvlm.errors import UserError, extra

#: Keys of lines that stay lines where they are closed, unless the object says `area=yes`.
_LINES = frozenset({"highway", "barrier", "railway", "route"})


@dataclass
class OsmObjects:
    """The tagged nodes, ways and areas of a PBF file.

    A record has `id` (n, w or a and osmium's number: an area's is twice its way's, or twice its
    relation's and one), `tags`, `geometry` (WKB in hex: point, line or polygons, in degrees; empty
    where the file lacks its nodes, as at the rim of an extract) and `lonlat` (a point on it).

    A closed way is an area, unless it is of `highway` or another key of lines without `area=yes`,
    or says `area=no`.

    Args:
        path: the file.
        imagery: the folder of pictures; only for the fingerprint, which it is part of.

    Raises:
        UserError: no file, one that is no PBF, or one that was cut short.
    """

    path: str | None
    imagery: str | None = None

    name = "osm_pbf"
    version = "1"

    def fingerprint(self) -> str:
        """A hash of the file, and of the names and sizes of the imagery."""
        total = hashlib.sha256()
        with open(self._file(), "rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
        if self.imagery is not None:
            for path in sorted(Path(self.imagery).expanduser().rglob("*.tif*")):
                total.update(f"{path.name}\0{os.path.getsize(path)}\n".encode())
        return total.hexdigest()

    def __iter__(self) -> Iterator[Record]:
        """The objects in the order of the file, areas where osmium finds them."""
        with extra("curate"):
            import osmium
            from shapely import from_wkb

        wkb = osmium.geom.WKBFactory()
        path = self._file()
        objects: Any = (
            osmium.FileProcessor(str(path))
            .with_locations()
            .with_areas()
            .with_filter(osmium.filter.EmptyTagFilter())
        )
        try:
            for one in objects:
                kind = {"Node": "n", "Way": "w", "Area": "a"}.get(type(one).__name__)
                tags = {tag.k: tag.v for tag in one.tags} if kind else {}
                if not kind or (kind == "w" and one.is_closed() and _is_area(tags)):
                    continue  # a relation, or a way that comes again as an area
                if kind == "a" and one.from_way() and not _is_area(tags):
                    continue
                try:
                    shape = from_wkb(bytes.fromhex(_shape(wkb, one, kind)))
                except (RuntimeError, ValueError):
                    shape = None  # a node that is not in the file
                where = shape.representative_point() if shape is not None else None
                yield {
                    "id": f"{kind}{one.id}",
                    "tags": tags,
                    "geometry": shape.wkb_hex if shape is not None else "",
                    "lonlat": [where.x, where.y] if where is not None else [],
                }
        except RuntimeError as error:
            raise UserError(
                f"{path} cannot be read to its end ({error}): was its download cut short, or is "
                "it no PBF file? Extracts of regions can be had from https://download.geofabrik.de."
            ) from error

    def _file(self) -> Path:
        if self.path is None:
            raise UserError("osm= names an extract of OpenStreetMap, as osm=region.osm.pbf.")
        path = Path(self.path).expanduser()
        if not path.is_file():
            raise UserError(f"osm={self.path}: there is no such file (looked from {Path.cwd()}).")
        return path


def _shape(wkb: Any, one: Any, kind: str) -> str:
    if kind == "n":
        return str(wkb.create_point(one))
    if kind == "w":
        return str(wkb.create_linestring(one))
    return str(wkb.create_multipolygon(one))


def _is_area(tags: dict[str, str]) -> bool:
    """Whether a closed way with these tags is a surface."""
    if "area" in tags:
        return tags["area"] != "no"
    return not any(key in _LINES for key in tags) or "building" in tags or "landuse" in tags
