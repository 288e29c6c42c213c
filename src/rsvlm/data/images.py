"""Pictures from files: 8-bit RGB, or an error that names the file and the reason.

A picture that is not plain RGB is refused rather than guessed at. Pillow alone would open a 4-band
TIFF or a 16-bit PNG as "RGB", dropping the near-infrared band or half of the bits without a word.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from rsvlm.data.folders import existing
from rsvlm.data.sample import SampleError

# What Pillow's decoders raise on damaged files; UnidentifiedImageError is an OSError.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
# A 16-bit picture whose values end below 4096 holds 12-bit data: its high bytes would be black.
_DARKEST = 16
_BITS = {"I": 32, "F": 32}
#: What a data set of files does about a TIFF that is no ordinary picture (data/rasters.py).
_AS_RASTER = (
    "Say which bands and values become a picture (data.raster.bands=[3,2,1] "
    "data.raster.stretch=percentile). "
)
#: Most pixels of a picture that is read to be made smaller: 1.6 GB as RGB.
LARGEST = 2**29
_READING = threading.Lock()


class BrokenImage(SampleError):
    """A picture that cannot be used.

    Attributes:
        name: the file.
        reason: what is wrong and what to do.
    """

    code = "broken_image"

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(f"{name}: {reason}" if reason else name)
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type[BrokenImage], tuple[str, str]]:
        return type(self), (self.name, self.reason)


def read_image(
    source: str | Path | bytes,
    convert: bool = False,
    *,
    name: str | None = None,
    notices: list[str] | None = None,
    shrink: bool = False,
) -> Image.Image:
    """Reads a picture as 8-bit RGB.

    Accepted as they are: 8-bit pictures with three bands, and palettes without transparency. The
    orientation tag of a camera is not applied, as in torchvision. Of an animation, the first frame
    is read. The size limit is Pillow's (twice `PIL.Image.MAX_IMAGE_PIXELS`).

    With `convert`, other pictures become RGB by one rule: of four and more bands the first three
    are kept, transparency is dropped without blending, one band is repeated three times, and of
    16-bit values the high byte is kept (65535 becomes 255). 16-bit pictures whose values all lie
    below 4096 are still refused, since their high bytes are black, and so are 32-bit ones.

    Args:
        source: a file, or its content.
        convert: turn what is not 8-bit RGB into it.
        name: what errors call the picture; the path, unless given.
        notices: gets a sentence on what `convert` or `shrink` did, where it did anything.
        shrink: make a picture beyond the size limit smaller by a whole number, to Pillow's
            `MAX_IMAGE_PIXELS`, instead of refusing it; beyond `LARGEST` it is refused all the same.

    Raises:
        BrokenImage: it is missing, empty, damaged, too large, not a picture, or not RGB.
    """
    if isinstance(source, bytes):
        data, name = source, name or "<bytes>"
    else:
        name = name or str(source)
        data = read_file(source, name)
    if not data:
        raise BrokenImage(name, "is empty (0 bytes).")
    with _damage_told(name, data), _open(io.BytesIO(data), shrink) as image:
        wide, high = image.size
        if shrink and wide * high > LARGEST:
            raise BrokenImage(
                name,
                f"is too large to read: {wide} x {high} pixels, and {LARGEST:,} are read at "
                "most. Cut it into tiles, and give their folder.",
            )
        if not (image.width and image.height):
            raise BrokenImage(name, f"has no pixels ({image.width} x {image.height}).")
        bands, bits = _bands_and_bits(image, data)
        fault = _fault(image, bands, bits)
        if fault and not convert:
            advice = (
                "Save it as 8-bit RGB, or read with convert=True, of a data set "
                "++data.dataset.convert=true"
            )
            advice = _AS_RASTER + advice if image.format == "TIFF" else advice
            raise BrokenImage(name, f"{fault[0]}. {advice} ({fault[1]}).")
        if fault and notices is not None:
            notices.append(_notice(name, fault))
        if not shrink or _factor(image.size) == 1:
            image.load()
            return _rgb(image, bits, name)
        few = tuple(side // _factor(image.size) for side in image.size)
        image.draft(None, few)  # type: ignore[arg-type]  # a JPEG's is decoded smaller
        with _unlimited():
            image.load()
        smaller = _rgb(image, bits, name)
        smaller = smaller.reduce(_factor(smaller.size, 1))
        if notices is not None:
            notices.append(
                f"{name} has {wide} x {high} pixels, too many to be kept: it was made "
                f"{smaller.width} x {smaller.height}, and boxes and masks speak of that."
            )
        return smaller


def read_values(path: str | Path) -> np.ndarray:
    """[H, W] or [H, W, bands]: the values of a label picture as stored, of a palette the indices.

    Black and white alone is 0 and 255.

    Raises:
        BrokenImage: it is missing, empty, damaged, too large or no picture.
    """
    name = str(path)
    data = read_file(path, name)
    if not data:
        raise BrokenImage(name, "is empty (0 bytes).")
    with _damage_told(name, data), Image.open(io.BytesIO(data)) as image:
        image.load()
        values = np.asarray(image)
        if image.mode == "P":
            greys = _greys(image, values)
            return values if greys is None else greys[values]
    return values.astype(np.uint8) * 255 if values.dtype == bool else values


def _greys(image: Image.Image, indices: np.ndarray) -> np.ndarray | None:
    """[256] the grey that stands for each index, where a palette's used colours are greys alone."""
    colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if used.max(initial=0) >= len(colours) or np.ptp(colours[used].astype(int), axis=1).any():
        return None
    table = np.zeros(256, np.uint8)
    table[: len(colours)] = colours[:, 0]
    return table


@contextmanager
def _damage_told(name: str, data: bytes) -> Iterator[None]:
    """What Pillow raises on a file that is none, as `BrokenImage`."""
    try:
        yield
    except Image.DecompressionBombError as error:
        raise BrokenImage(
            name, f"is too large to read whole: {error} Cut it into tiles first."
        ) from error
    except Image.UnidentifiedImageError as error:
        raise BrokenImage(name, _unknown(data)) from error
    except BrokenImage:
        raise
    except _DAMAGE as error:
        raise BrokenImage(name, f"is damaged or cut short ({error}).") from error


@contextmanager
def _unlimited() -> Iterator[None]:
    """Pillow without its size limit, which is the process's: for one picture of a known size."""
    with _READING:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _open(source: io.BytesIO | str | Path, shrink: bool = True) -> Image.Image:
    """A picture whose pixels are not read yet, with `shrink` of any size."""
    with _unlimited() if shrink else nullcontext():
        return Image.open(source)


def _factor(size: tuple[int, int], over: int = 2) -> int:
    """By which whole number a size goes into Pillow's limit; 1 up to `over` times the limit."""
    pixels, most = size[0] * size[1], Image.MAX_IMAGE_PIXELS
    return 1 if most is None or pixels <= over * most else math.ceil(math.sqrt(pixels / most))


def size_of(source: str | Path) -> tuple[int, int]:
    """Width and height of a picture of any size, of which only the head is read.

    Raises:
        OSError: it cannot be read, or is none.
    """
    with _open(source) as image:
        return image.size


def read_file(source: str | Path, name: str = "") -> bytes:
    """The bytes of a file, in whichever spelling of its accents the disk has it.

    Raises:
        BrokenImage: it cannot be opened, or is a pipe or a device, which need not ever end.
    """
    try:
        path = source if os.path.lexists(source) else existing(source)
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise BrokenImage(name or str(source), "is a pipe or a device, not a file.")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        reason = f"cannot be opened ({error.strerror or error})."
        raise BrokenImage(name or str(source), reason) from error


def _bands_and_bits(image: Image.Image, data: bytes) -> tuple[int, int]:
    """Bands and bits per band as stored; Pillow's mode alone hides both."""
    bands = len(image.getbands())
    bits = _BITS.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bands = tags.get(277, bands)
        bits = max(bits, *tags.get(258, (bits,)))
    elif image.format == "JPEG2000":
        size = data.find(b"\xff\x4f\xff\x51")  # start of codestream, then the SIZ marker segment
        if 0 <= size < len(data) - 42:
            bits = max(bits, (data[size + 42] & 0x7F) + 1)
    elif any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        bits = 16
    return bands, bits


def _fault(image: Image.Image, bands: int, bits: int) -> tuple[str, str] | None:
    """What keeps a picture from being 8-bit RGB, and what `convert` does about it."""
    if bits > 8:
        return f"has {bits} bits per band; 8 are expected", "keeps the high byte"
    if image.mode == "P":
        return ("is a palette with transparency", "drops it") if _see_through(image) else None
    if bands == 3:
        return None
    what = f"has {bands} band{'s' * (bands > 1)} ({image.mode}); 3 are expected"
    if image.mode == "CMYK":
        return what, "converts the colours"
    return what, "repeats the band" if bands < 3 else "keeps the first three"


def _see_through(image: Image.Image) -> bool:
    return "transparency" in image.info


def as_rgb(image: Image.Image, name: str = "the picture") -> tuple[Image.Image, str]:
    """A picture in memory as 8-bit RGB, by the rule of `read_image` with `convert`.

    Args:
        image: of any mode.
        name: what errors call it.

    Returns:
        The picture, and what was done to it in a sentence; "" for one that was RGB.

    Raises:
        BrokenImage: 32-bit values, or 16-bit values that end below 4096.
    """
    bits = _BITS.get(image.mode, 16 if image.mode.startswith("I;16") else 8)
    if image.mode == "RGB" and bits == 8:
        return image, ""
    fault = _fault(image, len(image.getbands()), bits)
    return _rgb(image.copy(), bits, name), _notice(name, fault)


def read_any(source: str | Path) -> tuple[Image.Image, str]:
    """Reads a picture of any mode that has a rule, and says what was done to it.

    One that is too large to be kept is made smaller, see `read_image` with `shrink`.

    Args:
        source: a file.

    Returns:
        The picture in RGB, and what was done to it in a sentence; "" for one that was RGB.

    Raises:
        BrokenImage: as `read_image` with `convert` and `shrink`.
    """
    said: list[str] = []
    return read_image(source, convert=True, notices=said, shrink=True), " ".join(said)


def _notice(name: str, fault: tuple[str, str] | None) -> str:
    return f"{name} {fault[0]}: it was made RGB ({fault[1]})." if fault else ""


def _rgb(image: Image.Image, bits: int, name: str) -> Image.Image:
    if image.mode == "RGB" and bits <= 8:
        return image
    if bits > 16:
        raise BrokenImage(
            name, f"has {bits} bits per band, whose range is unknown. Scale it to 8 bits first."
        )
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "RGBa":
        image = image.convert("RGBA")
    # A palette's transparency would otherwise be blended by some Pillow versions.
    image.info.pop("transparency", None)
    rgb = image.convert("RGB")
    if bits == 16 and np.asarray(rgb).max() < _DARKEST:
        raise BrokenImage(
            name,
            "has 16 bits per band but no value above 4095, so that its high bytes are black. "
            "Stretch its values to the full range first.",
        )
    return rgb


def _unknown(data: bytes) -> str:
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return (
            "is a TIFF whose bands Pillow cannot read (multispectral, or floating point?). "
            f"{_AS_RASTER}Write its red, green and blue bands as an 8-bit TIFF."
        )
    start = data[:12].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"{", b"<?xml")):
        return "is a text file, not a picture (an error page of a download?)."
    if data.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not a picture; run git lfs pull."
    return "is not a picture that Pillow knows."
