"""A picture for each object, cut from georeferenced rasters that are fine enough for it."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.curate.record import Dropped, Outcome, Record, rng
from rsvlm.curate.skyscript.captions import SLACK
from rsvlm.data.images import BrokenImage
from rsvlm.data.rasters import ENDINGS, Rasters
from rsvlm.errors import UserError, extra, near

#: Metres of a degree of latitude.
_DEGREE = 111_320.0
_RGB = ("red", "green", "blue")
_DATE = re.compile(r"(?<!\d)((?:19|20)\d\d)[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")


@dataclass(frozen=True)
class Frame:
    """One raster of a folder, as far as choosing needs it.

    Attributes:
        path: the file.
        name: below the folder.
        gsd: metres a pixel, the mean of both sides.
        bounds: west, south, east, north in degrees.
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
                with rasterio.open(path, driver=_driver(str(path))) as file:
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


def _driver(path: str) -> str:
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
    if file.crs.is_geographic:
        step *= _DEGREE * math.sqrt(max(0.01, math.cos(math.radians((south + north) / 2))))
    else:
        step *= file.crs.linear_units_factor[1]
    stamp = file.tags().get("TIFFTAG_DATETIME", "").replace(":", "-")
    match = _DATE.search(path.stem) or _DATE.search(stamp)
    date = (int(match[1]), int(match[2]), int(match[3])) if match else None
    size = (file.width, file.height)
    return Frame(str(path), name, step, (west, south, east, north), date, size)


@dataclass
class ImageryCoverage:
    """Keeps the objects of which a folder has a raster that is fine enough; reads no pixels.

    Before objects are drawn, so that those that no picture can show take nobody's place.

    Dropped: `no_imagery`; `too_coarse` (all rasters that cover it are).

    Args:
        root: folder of the rasters.
        unusable: rasters without CRS, or damaged: `error`, or `skip`.
        batch_size: objects at a time.
    """

    root: str | None
    unusable: str = "error"
    batch_size: int = 1000

    name = "imagery_coverage_filter"
    version = "1"

    def setup(self) -> None:
        """Lists the rasters."""
        self._folder = _Folder(*frames(self.root, self.unusable))

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Each object, or why there is no picture of it."""
        found = [self._folder.fine(record) for record in records]
        return [f if isinstance(f, Dropped) else r for r, f in zip(records, found, strict=True)]


class _Folder:
    """The rasters of a folder, with their bounds in one array."""

    def __init__(self, found: Sequence[Frame], wrong: Sequence[str]) -> None:
        self.frames, self.wrong = found, wrong
        self.bounds = np.array([frame.bounds for frame in found])

    def fine(self, record: Record) -> list[Frame] | Dropped:
        """The rasters that cover an object and are fine enough for it."""
        lon, lat = record["lonlat"]
        west, south, east, north = self.bounds.T
        hit = (west <= lon) & (lon <= east) & (south <= lat) & (lat <= north)
        over = [self.frames[i] for i in np.flatnonzero(hit).tolist()]
        fine = [f for f in over if f.gsd <= record["max_gsd"] * SLACK]
        if fine:
            return fine
        finest = min((f.gsd for f in over), default=0.0)
        why = f"{finest:.2g} m a pixel, and {record['max_gsd']:g} are needed"
        return Dropped("too_coarse", why) if over else Dropped("no_imagery")


@dataclass
class CutImages:
    """Cuts a picture for each object, by its geometry and the distance at which it can be told.

    Of the rasters that cover the object and are as fine as its `max_gsd`, one is drawn at random. A
    point stands in the middle of `pixels` pixels, a line is shown around one of its nodes, drawn at
    random, and a polygon by the square around its bounds, at least `min_pixels` wide. Then the
    square grows by up to `jitter`, and moves, at random, as far as the object stays within.

    Adds `image` (JPEG), `gsd`, `bounds` (west, south, east, north in degrees), `raster`, `window`
    (column, row, side in its pixels), and `time` where it is known.

    Dropped: `no_imagery`; `too_coarse` (all that cover it are); `beyond_raster` (the square does
    not fit into it); `too_large` (in `max_pixels`, the picture would be too coarse); `no_data`.

    Args:
        root: folder of the rasters.
        pixels: side of the picture of a point or a line.
        min_pixels: least side of that of a polygon.
        max_pixels: a larger one is scaled down to this.
        jitter: share of the side.
        least_data: share of pixels that must hold data.
        raster: options of `data.rasters.Rasters`: bands, sensor, stretch, range, nodata.
        unusable: rasters without CRS, or damaged: `error`, or `skip`.
        quality: of the JPEG.
        seed: of the chance.
        batch_size: objects at a time.
    """

    root: str | None
    pixels: int = 256
    min_pixels: int = 96
    max_pixels: int = 768
    jitter: float = 0.2
    least_data: float = 0.95
    raster: Mapping[str, Any] = field(default_factory=dict)
    unusable: str = "error"
    quality: int = 95
    seed: int = 0
    batch_size: int = 64

    name = "imagery_cutter"
    version = "1"

    def __post_init__(self) -> None:
        if self.unusable not in ("error", "skip"):
            raise UserError(f"unusable={self.unusable!r}. {near(self.unusable, ('error', 'skip'))}")
        if not 16 <= self.min_pixels <= self.pixels <= self.max_pixels or not 0 <= self.jitter < 1:
            raise UserError(
                "16 <= min_pixels <= pixels <= max_pixels, and jitter is a share of 0 to below 1."
            )
        self._rasters = Rasters(**dict(self.raster))

    def setup(self) -> None:
        """Lists the rasters."""
        self._folder = _Folder(*frames(self.root, self.unusable))
        self._open: dict[str, Any] = {}

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Each record with its picture."""
        return [self.cut(record) for record in records]

    def cut(self, record: Record) -> Outcome:
        """One record with its picture, or why there is none."""
        fine = self._folder.fine(record)
        if isinstance(fine, Dropped):
            return fine
        dice = rng(self.seed, record["id"], self.name)
        frame = fine[int(dice.integers(len(fine)))]
        file = self._file(frame)
        col, row, side = self._square(file, record, dice)
        if side > min(frame.size):
            return Dropped("beyond_raster", f"{side} pixels of {frame.name}")
        scale = max(1.0, side / self.max_pixels)
        gsd = frame.gsd * scale
        if gsd > record["max_gsd"] * SLACK:
            return Dropped("too_large", f"{side} pixels of {frame.name}")
        col, row = (
            min(max(0, at), most - side) for at, most in zip((col, row), frame.size, strict=True)
        )
        picture = self._read(file, frame, (col, row, side), round(side / scale))
        if isinstance(picture, Dropped):
            return picture
        made = {
            "image": _jpeg(picture, self.quality),
            "gsd": round(gsd, 4),
            "bounds": _degrees(file, col, row, side),
            "raster": frame.name,
            "window": [col, row, side],
        }
        time = {"time": [*frame.date, 0, 0]} if frame.date else {}
        return record | made | time

    def _file(self, frame: Frame) -> Any:
        with extra("rasters"):
            import rasterio

        if frame.path not in self._open:
            if len(self._open) >= 16:
                self._open.pop(next(iter(self._open))).close()
            self._open[frame.path] = rasterio.open(frame.path, driver=_driver(frame.path))
        return self._open[frame.path]

    def _square(self, file: Any, record: Record, dice: np.random.Generator) -> tuple[int, int, int]:
        """First column, first row and side in pixels of the raster."""
        with extra("curate"):
            from shapely import from_wkb, get_coordinates

        shape = from_wkb(bytes.fromhex(record["geometry"]))
        nodes = get_coordinates(shape)
        if shape.area == 0:
            # A point, or a node of a line.
            nodes = nodes[[int(dice.integers(len(nodes)))]]
        at = _pixels(file, nodes)
        low, high = at.min(0), at.max(0)
        tight = math.ceil(float((high - low).max())) + 2
        side = self.pixels if shape.area == 0 else max(tight, self.min_pixels)
        side = math.ceil(side * (1 + self.jitter * dice.random()))
        # As far as it may move with the object, or the node's middle third, still within.
        slack = side / 6 if shape.area == 0 else (side - tight) / 2
        move = (2 * dice.random(2) - 1) * max(0.0, min(slack, self.jitter * side))
        col, row = np.floor((low + high) / 2 - side / 2 + move).astype(int).tolist()
        return col, row, side

    def _read(
        self, file: Any, frame: Frame, window: tuple[int, int, int], side: int
    ) -> np.ndarray | Dropped:
        with extra("rasters"):
            from rasterio.enums import Resampling
            from rasterio.windows import Window

        col, row, width = window
        at, shape = Window(col, row, width, width), (file.count, side, side)
        try:
            values = file.read(window=at, out_shape=shape, resampling=Resampling.average)
            seen = (file.read_masks(window=at, out_shape=shape) > 0).any(0)
            if self._rasters.nodata is not None:
                seen = (values != self._rasters.nodata).any(0)
            if seen.mean() < self.least_data:
                return Dropped("no_data", f"{100 * seen.mean():.0f} % of {frame.name}")
            rasters, names = self._rasters, list(file.descriptions)
            colours = [each.name for each in file.colorinterp]
            if rasters.bands is None and rasters.sensor is None and set(_RGB) <= set(colours):
                rasters, names = replace(rasters, bands=_RGB), colours
            picture = np.array(rasters.of_array(values, names, frame.name))
            picture[~seen] = 0
            return picture
        except BrokenImage as error:
            # What it advises is a word of data=; here the same options have another place.
            text = str(error).replace("data.raster.", "pipeline.stages.images.raster.")
            if self.unusable == "error":
                raise UserError(text) from error
            return Dropped("unusable_raster", text)

    def __getstate__(self) -> dict[str, Any]:
        """Without open files."""
        return {k: v for k, v in self.__dict__.items() if k != "_open"}


def _pixels(file: Any, nodes: np.ndarray) -> np.ndarray:
    """[N, 2] columns and rows of [N, 2] degrees."""
    with extra("rasters"):
        from rasterio.warp import transform

    xs, ys = transform("EPSG:4326", file.crs, nodes[:, 0], nodes[:, 1])
    back = ~file.transform
    return np.array([back * xy for xy in zip(xs, ys, strict=True)])


def _degrees(file: Any, col: int, row: int, side: int) -> list[float]:
    """West, south, east and north of a square of pixels."""
    with extra("rasters"):
        from rasterio.warp import transform

    corners = [(col, row), (col + side, row), (col, row + side), (col + side, row + side)]
    xs, ys = zip(*(file.transform * corner for corner in corners), strict=True)
    lon, lat = transform(file.crs, "EPSG:4326", xs, ys)
    return [round(v, 7) for v in (min(lon), min(lat), max(lon), max(lat))]


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()
