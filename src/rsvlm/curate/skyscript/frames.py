"""The rasters of a folder: where each lies, how fine it is on the ground, and of which day."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.curate.record import Dropped, Record
from rsvlm.curate.skyscript.captions import SLACK
from rsvlm.data.rasters import ENDINGS
from rsvlm.errors import UserError, extra

#: A projection whose metres are off by more than this share is measured on the ground.
_STRETCHED = 0.01
#: Pixels over which it is measured.
_SPAN = 16
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True)
class Frame:
    """One raster of a folder, as far as choosing needs it.

    Attributes:
        path: the file.
        name: below the folder.
        gsd: metres a pixel on the ground, the mean of both sides.
        bounds: west, south, east, north in degrees; west above east across 180 degrees.
        date: year, month, day that the file's name or tags say; None where none does.
        size: width and height, pixels.
    """

    path: str
    name: str
    gsd: float
    bounds: tuple[float, float, float, float]
    date: tuple[int, int, int] | None
    size: tuple[int, int]


def frames(root: str | Path | None, unusable: str = "error") -> tuple[list[Frame], list[str]]:
    """The rasters of a folder, and what is wrong with those that cannot be used.

    Args:
        root: the folder; those below it are looked at too.
        unusable: `error` or `skip`.

    Raises:
        UserError: no folder, no raster, or with `error` one that cannot be used.
    """
    with extra("rasters"):
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

    if root is None:
        raise UserError("imagery= names a folder of georeferenced rasters (.tif, .jp2).")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"imagery={root}: there is no such folder (looked from {Path.cwd()}).")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    found: list[Frame] = []
    wrong: list[str] = []
    for path in paths:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                with rasterio.open(path, driver=driver_of(str(path))) as file:
                    found.append(_frame(file, path, path.relative_to(folder).as_posix()))
        except (RasterioError, ValueError, OSError) as error:
            wrong.append(f"{path.name}: {error}")
    if wrong and unusable == "error":
        raise UserError(
            f"{len(wrong)} of {len(paths)} rasters in {folder} cannot be used: "
            f"{'; '.join(wrong[:3])}. Take them away, or leave them out with "
            "pipeline.stages.images.unusable=skip."
        )
    if not found:
        raise UserError(f"{folder} holds no raster that can be used ({', '.join(ENDINGS)}).")
    return found, wrong


def driver_of(path: str) -> str:
    """By name, since a file of another kind could name further files."""
    return "JP2OpenJPEG" if path.lower().endswith(".jp2") else "GTiff"


def _frame(file: Any, path: Path, name: str) -> Frame:
    with extra("rasters"):
        from rasterio.warp import transform_bounds

    if file.crs is None:
        raise ValueError("it has no CRS: nobody knows where it lies (gdal_edit.py -a_srs names it)")
    if file.transform.is_identity:
        raise ValueError("it has no geotransform: nobody knows where it lies")
    west, south, east, north = transform_bounds(file.crs, "EPSG:4326", *file.bounds)
    step = math.sqrt(abs(file.transform.determinant))
    ground = _on_the_ground(file)
    if not file.crs.is_geographic:
        step *= file.crs.linear_units_factor[1]
        # Web maps' metres are twice the ground's at 60 degrees; most others are the ground's.
        if not math.isfinite(ground) or abs(ground / step - 1) < _STRETCHED:
            ground = step
    stamp = file.tags().get("TIFFTAG_DATETIME", "").replace(":", "-")
    match = _DATE.search(path.stem) or _DATE.search(stamp)
    date = (int(match[1]), int(match[2]), int(match[3])) if match else None
    size = (file.width, file.height)
    return Frame(str(path), name, ground, (west, south, east, north), date, size)


def _on_the_ground(file: Any) -> float:
    """Metres a pixel in the middle of a raster, on the ellipsoid."""
    col, row = file.width / 2, file.height / 2
    lon, lat = lonlat_of(file, [(col, row), (col + _SPAN, row), (col, row + _SPAN)])
    at = math.radians(lat[0])
    # Metres of a degree of the meridian and of the parallel, of WGS 84.
    north = 111_132.95 - 559.82 * math.cos(2 * at) + 1.175 * math.cos(4 * at)
    east = 111_412.84 * math.cos(at) - 93.5 * math.cos(3 * at) + 0.118 * math.cos(5 * at)
    steps = [
        (((lon[i] - lon[0] + 180) % 360 - 180) * east, (lat[i] - lat[0]) * north) for i in (1, 2)
    ]
    (ax, ay), (bx, by) = steps
    return math.sqrt(abs(ax * by - ay * bx)) / _SPAN


class RasterFolder:
    """The rasters of a folder, with their bounds in one array."""

    def __init__(self, found: Sequence[Frame], wrong: Sequence[str]) -> None:
        self.frames, self.wrong = found, wrong
        self.bounds = np.array([frame.bounds for frame in found])

    def fine(self, record: Record) -> list[Frame] | Dropped:
        """The rasters that cover an object and are fine enough for it."""
        lon, lat = record["lonlat"]
        west, south, east, north = self.bounds.T
        within = (west <= lon) & (lon <= east)
        within |= (west > east) & ((west <= lon) | (lon <= east))  # it lies across 180 degrees
        hit = within & (south <= lat) & (lat <= north)
        over = [self.frames[i] for i in np.flatnonzero(hit).tolist()]
        fine = [f for f in over if f.gsd <= record["max_gsd"] * SLACK]
        if fine:
            return fine
        finest = min((f.gsd for f in over), default=0.0)
        why = f"{finest:.2g} m a pixel, and {record['max_gsd']:g} are needed"
        return Dropped("too_coarse", why) if over else Dropped("no_imagery")


def lonlat_of(file: Any, at: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Longitudes and latitudes of columns and rows."""
    with extra("rasters"):
        from rasterio.warp import transform

    xs, ys = zip(*(file.transform * one for one in at), strict=True)
    lon, lat = transform(file.crs, "EPSG:4326", xs, ys)
    return lon, lat
