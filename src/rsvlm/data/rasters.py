"""Rasters as pictures: which bands are shown and how their values become eight bits, by name.

A GeoTIFF of 16 bits, of floats or of thirteen bands is no picture until somebody says which bands
stand for red, green and blue and which values for black and white. Both change what a model sees,
so both are words of the configuration: `data.raster.bands=[4,3,2] data.raster.stretch=percentile`.
Pixels alone: places on the ground are another room's matter.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

from rsvlm.data.folders import existing
from rsvlm.data.images import BrokenImage
from rsvlm.errors import UserError, extra, near

#: `minmax`: each band's least and greatest value of a picture. `percentile`: its 2nd and 98th, or
#: others. `range`: two fixed values, the same for every picture. `uint8`: eight bits as they are.
Stretch = Literal["minmax", "percentile", "range", "uint8"]
ENDINGS = (".tif", ".tiff", ".jp2")


@dataclass(frozen=True, slots=True)
class Sensor:
    """Where a sensor's red, green and blue stand in a stack of its bands, and its usual range.

    Attributes:
        bands: their numbers from 1 in the usual order of a stack.
        names: their names, by which a file's band descriptions are searched first.
        count: bands of the smallest stack that has this order.
        range: file values that become black and white; None of a sensor whose files are 8 bits.
    """

    bands: tuple[int, int, int]
    names: tuple[str, str, str]
    count: int
    range: tuple[float, float] | None = None


#: Ranges show reflectance 0 to 0.3: Sentinel-2 L1C and L2A as value / 10000, without the offset of
#: 1000 that processing baseline 04.00 adds (then range=[1000,4000]); Landsat Collection 2 Level-2
#: as value * 0.0000275 - 0.2; PlanetScope SR as value / 10000. NAIP has 8 bits.
SENSORS: dict[str, Sensor] = {
    "sentinel2": Sensor((4, 3, 2), ("B4", "B3", "B2"), 12, (0, 3000)),
    "landsat8": Sensor((4, 3, 2), ("B4", "B3", "B2"), 7, (7273, 18182)),
    "landsat9": Sensor((4, 3, 2), ("B4", "B3", "B2"), 7, (7273, 18182)),
    "landsat7": Sensor((3, 2, 1), ("B3", "B2", "B1"), 6, (7273, 18182)),
    "naip": Sensor((1, 2, 3), ("red", "green", "blue"), 3),
    "planetscope": Sensor((3, 2, 1), ("red", "green", "blue"), 4, (0, 3000)),
    "planetscope8": Sensor((6, 4, 2), ("red", "green", "blue"), 8, (0, 3000)),
    "worldview": Sensor((5, 3, 2), ("red", "green", "blue"), 8, (0, 3000)),
}


def is_raster(path: str) -> bool:
    """Whether a file's name is that of a raster."""
    return os.path.splitext(path)[1].lower() in ENDINGS


@dataclass(frozen=True)
class Rasters:
    """Reads rasters as 8-bit RGB. With nothing said it reads none, and `active` is false.

    Pixels without data (the file's no-data value in all bands that are shown, its mask, or a value
    that is no number) become black and count for no stretch.

    Args:
        bands: red, green and blue, or one for a grey picture: numbers from 1, or names that the
            file's bands are described by; by default the sensor's, else those that the file itself
            calls red, green and blue, else its only band.
        sensor: a word of `SENSORS`, which gives bands and a range.
        stretch: see `Stretch`; by default `range` where one is given or the sensor has one, and
            `uint8` for files of eight bits. Others must be named.
        range: file values that become black and white.
        percentiles: of `percentile`.
        nodata: a value that stands for no data, where the file does not say it.

    Raises:
        UserError: unknown words, or a range that is none.
    """

    bands: Sequence[int | str] | None = None
    sensor: str | None = None
    stretch: str | None = None
    range: Sequence[float] | None = None
    percentiles: Sequence[float] = (2, 98)
    nodata: float | None = None

    def __post_init__(self) -> None:
        for what, word, known in (
            ("sensor", self.sensor, tuple(SENSORS)),
            ("stretch", self.stretch, get_args(Stretch)),
        ):
            if word is not None and word not in known:
                raise UserError(f"data.raster.{what}={word!r} is not known. {near(word, known)}")
        if self.bands is not None and len(self.bands) not in (1, 3):
            raise UserError(
                f"data.raster.bands={list(self.bands)}: three bands for red, green and blue, as "
                "[4,3,2], or one."
            )
        for what, pair in (("range", self.range), ("percentiles", self.percentiles)):
            if pair is not None and not (len(pair) == 2 and pair[0] < pair[1]):
                raise UserError(
                    f"data.raster.{what}={list(pair)}: two numbers, the smaller first, as "
                    f"{'[0,3000]' if what == 'range' else '[2,98]'}."
                )
        if self.stretch == "range" and self.limits is None:
            raise UserError(
                "data.raster.stretch=range needs data.raster.range=[0,3000], the values that "
                "become black and white, or data.raster.sensor= with one of its own."
            )

    @property
    def active(self) -> bool:
        """Whether anything is said, so that rasters are read here."""
        return any(
            getattr(self, each.name) is not None
            for each in fields(self)
            if each.name != "percentiles"
        )

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values that become black and white, where they are fixed."""
        if self.range is not None:
            return float(self.range[0]), float(self.range[1])
        return SENSORS[self.sensor].range if self.sensor else None

    def read(self, path: str) -> Image.Image:
        """A raster as a picture.

        Args:
            path: the file.

        Raises:
            BrokenImage: it is no raster, lacks a band, holds no data, or no stretch is named.
            UserError: rasterio is not there.
        """
        with extra("rasters"):
            import rasterio
            from rasterio.errors import NotGeoreferencedWarning, RasterioError
        found = path if os.path.lexists(path) else existing(path)
        if not os.path.isfile(found):
            raise BrokenImage(path, "cannot be opened (no such file).")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                # The driver by name: a file of another kind could name further files.
                driver = "JP2OpenJPEG" if path.lower().endswith(".jp2") else "GTiff"
                with rasterio.open(found, driver=driver) as file:
                    _check_size(path, file.width, file.height)
                    colours = [each.name for each in file.colorinterp]
                    chosen = self._chosen(path, file.count, file.descriptions, colours)
                    values = file.read(chosen)
                    seen = self._seen(file, chosen, values)
        except RasterioError as error:
            raise BrokenImage(path, f"is no raster that can be read ({error}).") from error
        return Image.fromarray(self.picture(values, seen, path))

    def picture(self, values: np.ndarray, seen: np.ndarray, name: str) -> np.ndarray:
        """Bands as eight bits.

        Args:
            values: [1 or 3, H, W] numbers.
            seen: [H, W] where there is data.
            name: what errors call it.

        Returns:
            [H, W, 3] uint8; black where there is no data.

        Raises:
            BrokenImage: no data, or no stretch for such values.
        """
        if not seen.any():
            raise BrokenImage(name, "holds no data: every pixel is without.")
        stretch = self.stretch or ("range" if self.limits is not None else None)
        if stretch is None and values.dtype == np.uint8:
            stretch = "uint8"
        if stretch is None or (stretch == "uint8" and values.dtype != np.uint8):
            raise BrokenImage(
                name,
                f"has values of {values.dtype}, from {values[:, seen].min():g} to "
                f"{values[:, seen].max():g}: say which become black and white, with "
                "data.raster.stretch=percentile (or minmax), or data.raster.range=[0,3000].",
            )
        out = np.stack([self._band(band, seen, stretch) for band in values], -1)
        out[~seen] = 0
        return np.repeat(out, 3, -1) if out.shape[-1] == 1 else out

    def _band(self, band: np.ndarray, seen: np.ndarray, stretch: str) -> np.ndarray:
        if stretch == "uint8":
            return band.copy()
        data = band[seen].astype(np.float64)
        if stretch == "range":
            assert self.limits is not None
            low, high = self.limits
        elif stretch == "percentile":
            low, high = np.percentile(data, list(self.percentiles))
        else:
            low, high = data.min(), data.max()
        if high <= low:  # one value alone: neither black nor white
            return np.full(band.shape, 128, np.uint8)
        scaled = (np.where(seen, band, low).astype(np.float64) - low) / (high - low)
        return np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)

    def _seen(self, file: Any, chosen: Sequence[int], values: np.ndarray) -> np.ndarray:
        """[H, W] where there is data."""
        if self.nodata is not None:
            seen = (values != self.nodata).any(0)
        else:
            seen = (file.read_masks(list(chosen)) > 0).any(0)
        if np.issubdtype(values.dtype, np.floating):
            seen &= np.isfinite(values).all(0)
        if np.issubdtype(values.dtype, np.complexfloating):
            raise BrokenImage(file.name, "has complex values: write their magnitude first.")
        return seen

    def of_array(self, values: np.ndarray, names: Sequence[str | None], name: str) -> Image.Image:
        """Bands in memory as a picture, as `read` makes it of a file.

        Args:
            values: [C, H, W] numbers.
            names: of the bands, where they have any.
            name: what errors call it.

        Raises:
            BrokenImage: see `read`.
        """
        chosen = self._chosen(name, len(values), names, [])
        shown = values[[number - 1 for number in chosen]]
        seen = np.isfinite(shown).all(0)
        if self.nodata is not None:
            seen &= (shown != self.nodata).any(0)
        return Image.fromarray(self.picture(shown, seen, name))

    def _chosen(
        self, path: str, count: int, names: Sequence[str | None], colours: Sequence[str]
    ) -> list[int]:
        """Numbers of the bands to show."""
        described = {str(text).lower(): i for i, text in enumerate(names, 1) if text}
        if self.bands is not None:
            return [self._number(path, band, count, described) for band in self.bands]
        if self.sensor is not None:
            sensor = SENSORS[self.sensor]
            named = [_described(name, described) for name in sensor.names]
            if all(named):
                return [number for number in named if number]
            if count < sensor.count:
                raise BrokenImage(
                    path,
                    f"has {count} band(s), and {self.sensor} a stack of {sensor.count} or "
                    "more: name the bands for red, green and blue by their number in the file, as "
                    "data.raster.bands=[3,2,1].",
                )
            return list(sensor.bands)
        if all(colour in colours for colour in ("red", "green", "blue")):
            return [colours.index(colour) + 1 for colour in ("red", "green", "blue")]
        if count == 1:
            return [1]
        raise BrokenImage(
            path,
            f"has {count} bands ({', '.join(described) or 'without names'}) and does not say "
            "which are red, green and blue: data.raster.bands=[3,2,1], or data.raster.sensor= one "
            f"of {', '.join(SENSORS)}.",
        )

    def _number(self, path: str, band: int | str, count: int, described: dict[str, int]) -> int:
        if isinstance(band, str) and not band.isdecimal():
            number = _described(band, described)
            if number is None:
                raise BrokenImage(
                    path,
                    f"has no band {band!r}; it has {', '.join(described) or 'bands without names'}."
                    " Give numbers: data.raster.bands=[3,2,1].",
                )
            return number
        if not 1 <= int(band) <= count:
            raise BrokenImage(
                path,
                f"has {count} band(s) and no number {band}: data.raster.bands= counts the bands of "
                "the file from 1.",
            )
        return int(band)


def _described(name: str, described: dict[str, int]) -> int | None:
    """The band of a name; `B4` is also found as `B04`."""
    lower = name.lower()
    return described.get(lower) or described.get(f"{lower[0]}0{lower[1:]}")


def _check_size(path: str, width: int, height: int) -> None:
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > 2 * most:
        raise BrokenImage(
            path, f"is too large to read whole ({width} x {height}). Cut it into tiles first."
        )


def use_rasters(dataset: Any, rasters: Rasters) -> None:
    """Lets a data set read its rasters so; what it says of itself tells it.

    Raises:
        UserError: the data set's pictures are in no files.
    """
    if not rasters.active:
        return
    if not hasattr(dataset, "raster"):
        raise UserError(
            f"data.raster= says how rasters in files are read, and {type(dataset).__name__} has "
            "none: leave it out."
        )
    dataset.raster = rasters
    said = [
        f"{each.name} {value if isinstance(value, str | int | float) else list(value)}"
        for each in fields(rasters)
        if (value := getattr(rasters, each.name)) is not None
        and (each.name != "percentiles" or rasters.stretch == "percentile")
    ]
    text = f"rasters (.tif, .jp2) are read with {', '.join(said)}."
    dataset.notes = [*getattr(dataset, "notes", ()), text]
