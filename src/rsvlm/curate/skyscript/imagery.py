"""A picture for each object, cut from georeferenced rasters that are fine enough for it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.curate.record import Dropped, Outcome, Record, rng
from rsvlm.curate.skyscript.captions import SLACK
from rsvlm.curate.skyscript.frames import Frame, RasterFolder, driver_of, frames, lonlat_of
from rsvlm.data.images import BrokenImage
from rsvlm.data.rasters import Rasters
from rsvlm.errors import UserError, extra, near

_RGB = ("red", "green", "blue")


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
    version = "2"

    def setup(self) -> None:
        """Lists the rasters."""
        self._folder = RasterFolder(*frames(self.root, self.unusable))

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Each object, or why there is no picture of it."""
        found = [self._folder.fine(record) for record in records]
        return [f if isinstance(f, Dropped) else r for r, f in zip(records, found, strict=True)]


@dataclass
class CutImages:
    """Cuts a picture for each object, by its geometry and the distance at which it can be told.

    Of the rasters that cover the object and are as fine as its `max_gsd`, one is drawn at random,
    and another one where that gives no picture. A point stands in the middle of `pixels` pixels, a
    line is shown around one of its nodes in the raster, drawn at random, and a polygon by the
    square around its bounds, at least `min_pixels` wide. Then the square grows by up to `jitter`,
    and moves, at random, as far as the object stays within.

    Adds `image` (JPEG), `gsd`, `bounds` (west, south, east, north in degrees), `raster`, `window`
    (column, row, side in its pixels), and `time` where it is known.

    Dropped: `no_imagery`; `too_coarse` (all that cover it are); `beyond_raster` (object or square
    do not fit into it); `too_large` (in `max_pixels`, the picture would be too coarse); `no_data`;
    `across_180` (the picture lies on both sides of 180 degrees, which bounds cannot say).

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
    version = "2"

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
        self._folder = RasterFolder(*frames(self.root, self.unusable))
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
        drawn = int(dice.integers(len(fine)))
        found = [self._cut(record, fine[drawn], dice)]
        for frame in (*fine[drawn + 1 :], *fine[:drawn]):
            if not isinstance(found[-1], Dropped):
                break
            found.append(self._cut(record, frame, dice))
        return found[0] if isinstance(found[-1], Dropped) else found[-1]

    def _cut(self, record: Record, frame: Frame, dice: np.random.Generator) -> Record | Dropped:
        file = self._file(frame)
        square = self._square(file, record, dice)
        if square is None:
            return Dropped("beyond_raster", f"it goes over the rim of {frame.name}")
        col, row, side = square
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
        bounds = _degrees(file, col, row, side)
        if bounds[2] - bounds[0] > 180:
            return Dropped("across_180", f"{side} pixels of {frame.name}")
        made = {
            "image": _jpeg(picture, self.quality),
            "gsd": round(gsd, 4),
            "bounds": bounds,
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
            self._open[frame.path] = rasterio.open(frame.path, driver=driver_of(frame.path))
        return self._open[frame.path]

    def _square(
        self, file: Any, record: Record, dice: np.random.Generator
    ) -> tuple[int, int, int] | None:
        """First column, first row and side in pixels of the raster; None where it lacks a part."""
        with extra("curate"):
            from shapely import from_wkb, get_coordinates

        shape = from_wkb(bytes.fromhex(record["geometry"]))
        at = _pixels(file, get_coordinates(shape))
        inside = ((at >= -1) & (at <= np.array([file.width, file.height]) + 1)).all(axis=1)
        if not (inside.any() if shape.area == 0 else inside.all()):
            return None
        if shape.area == 0:
            # A point, or a node of a line.
            at = at[inside]
            at = at[[int(dice.integers(len(at)))]]
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
    corners = [(col, row), (col + side, row), (col, row + side), (col + side, row + side)]
    lon, lat = lonlat_of(file, corners)
    return [round(v, 7) for v in (min(lon), min(lat), max(lon), max(lat))]


def _jpeg(picture: np.ndarray, quality: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", quality=quality)
    return out.getvalue()
