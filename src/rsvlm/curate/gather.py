"""What pipelines start from, fetched once: an extract of OpenStreetMap, and aerial imagery."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rsvlm.clients.bounds import Bounds
from rsvlm.clients.overpass import Overpass
from rsvlm.clients.stac import Item, StacCatalogue
from rsvlm.clients.web import NotFetched, WebFiles
from rsvlm.curate.record import Record
from rsvlm.errors import UserError, extra
from rsvlm.files import write_text, written_whole

#: Endings of files that `osm=` reads; osmium chooses its format by them.
ENDINGS = (".osm.pbf", ".pbf", ".osm")
_ORDER = {"node": 0, "way": 1, "relation": 2}


def gather_osm(server: Overpass, bounds: Bounds, tags: Sequence[str], out: Path) -> dict[str, int]:
    """Writes the objects of a box as a file that `osm=` reads; counts them by kind.

    Args:
        server: that is asked.
        bounds: west, south, east, north in degrees.
        tags: see `Overpass.objects`.
        out: the file; one that is there is replaced.

    Raises:
        UserError: nothing was found, or the file has another ending.
    """
    with extra("curate"):
        import osmium

    if not out.name.endswith(ENDINGS):
        raise UserError(f"--out {out}: the file ends with {', '.join(ENDINGS)}.")
    found = server.objects(bounds, tags)
    if not found:
        raise UserError("there is no such object in this box: other tags, or a larger box?")
    # A file of OpenStreetMap has its nodes first, each kind by number, each object once.
    unique = {(_ORDER[one["type"]], int(one["id"])): one for one in found}
    counts = dict.fromkeys(_ORDER, 0)
    out.parent.mkdir(parents=True, exist_ok=True)
    # The file beside has not the ending yet by which the writer goes.
    form = "pbf" if out.name.endswith("pbf") else "osm"
    with (
        written_whole(out) as part,
        _room(part) as place,
        osmium.SimpleWriter(osmium.io.File(place, form), overwrite=True) as writer,
    ):
        for key in sorted(unique):
            _add(writer, unique[key])
            counts[unique[key]["type"]] += 1
    return counts


@contextmanager
def _room(path: Path) -> Iterator[str]:
    """Where osmium writes what becomes a file: memory, as it ends the process on a full disk."""
    if not hasattr(os, "memfd_create"):  # elsewhere than on Linux
        yield str(path)
        return
    with open(os.memfd_create("osm"), "r+b") as held:
        yield f"/proc/self/fd/{held.fileno()}"
        held.seek(0)
        with path.open("wb") as file:
            shutil.copyfileobj(held, file)


def _add(writer: Any, one: Mapping[str, Any]) -> None:
    with extra("curate"):
        from osmium.osm import mutable

    common: dict[str, Any] = {
        "id": int(one["id"]),
        "tags": dict(one.get("tags") or {}),
        "version": 1,
    }
    if one["type"] == "node":
        place = (float(one["lon"]), float(one["lat"]))
        writer.add_node(mutable.Node(location=place, **common))
    elif one["type"] == "way":
        writer.add_way(mutable.Way(nodes=[int(n) for n in one.get("nodes") or ()], **common))
    else:
        members = [
            (m["type"][:1], int(m["ref"]), str(m.get("role") or ""))
            for m in one.get("members") or ()
        ]
        writer.add_relation(mutable.Relation(members=members, **common))


def gather_imagery(
    catalogue: StacCatalogue,
    files: WebFiles,
    out: Path,
    *,
    collections: Sequence[str],
    bounds: Bounds,
    asset: str,
    time: str | None = None,
    limit: int | None = None,
    most_clouds: float | None = None,
    told: Callable[[str], None] = print,
) -> dict[str, int]:
    """Fetches an asset of each item of a box into a folder that `imagery=` reads.

    A file that is there is not fetched again. items.jsonl names each file's item, date and address.

    Args:
        catalogue: that is asked.
        files: what fetches.
        out: the folder.
        collections: of the catalogue.
        bounds: west, south, east, north in degrees.
        asset: the word of a GeoTIFF among an item's assets.
        time: see `StacCatalogue.items`.
        limit: most items.
        most_clouds: per cent; items that say more, or nothing, are left out.
        told: what is said of each file.

    Returns:
        `fetched`, `there`, `cloudy`, and `failed`, which are said with their reason.

    Raises:
        UserError: nothing was found, or an item has no such asset.
    """
    out.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(("fetched", "there", "cloudy", "failed"), 0)
    rows: dict[str, dict[str, Any]] = {}
    for item in catalogue.items(collections, bounds, time=time, limit=limit):
        clouds = item.properties.get("eo:cloud_cover")
        if most_clouds is not None and (clouds is None or float(clouds) > most_clouds):
            counts["cloudy"] += 1
            continue
        address = item.address(asset)
        name = _name(item, address)
        if not (out / name).is_file():
            try:
                found = files.fetch(address)
            except NotFetched as error:
                counts["failed"] += 1
                told(f"{name}: {error.reason} {error.detail}".rstrip())
                continue
            with written_whole(out / name) as part:
                part.write_bytes(found.content)
            counts["fetched"] += 1
            told(f"{name}: {len(found.content) / 1e6:.1f} MB")
        else:
            counts["there"] += 1
        rows[name] = {
            "file": name,
            "id": item.id,
            "collection": item.collection,
            "datetime": item.properties.get("datetime"),
            "bounds": list(item.bounds),
            "address": address,
        }
    if not any(counts.values()):
        raise UserError("the catalogue has no item for this box and time.")
    lines = [json.dumps(row, ensure_ascii=False) for row in (_held(out) | rows).values()]
    write_text(out / "items.jsonl", "".join(f"{line}\n" for line in lines))
    return counts


def _held(out: Path) -> dict[str, Record]:
    """What earlier calls wrote of the folder."""

    def rows() -> Iterator[Record]:
        try:
            yield from map(json.loads, (out / "items.jsonl").read_text("utf-8").splitlines())
        except FileNotFoundError:
            return

    return {str(row["file"]): row for row in rows()}


def _name(item: Item, address: str) -> str:
    """A file name that says item and day: imagery is chosen by its date."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in item.id).strip(".") or "item"
    day = str(item.properties.get("datetime") or "")[:10].replace("-", "")
    ending = ".jp2" if address.partition("?")[0].lower().endswith(".jp2") else ".tif"
    return f"{plain}{f'_{day}' if day and day not in plain else ''}{ending}"
