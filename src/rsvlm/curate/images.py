"""Pictures from the web, and whether they are pictures."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from rsvlm.clients.web import NotFetched, WebFiles
from rsvlm.curate.record import Dropped, Outcome, Record

#: What is decoded of what the web gives: Pillow hands EPS to Ghostscript, another program.
FORMATS = ("JPEG", "MPO", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF", "JPEG2000", "AVIF")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


@cache
def known_formats() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@dataclass
class DownloadFile:
    """Fetches `url` into `image` (Data-Juicer's `download_file_mapper`).

    Dropped for the words of `clients.web.NotFetched`.

    Args:
        client: fetches.
        batch_size: records that are asked for at a time.
    """

    client: WebFiles
    batch_size: int = 256
    name = "download_file_mapper"
    version = "1"

    def setup(self) -> None:
        """Nothing is loaded."""

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """See `BatchStage`."""
        found = self.client.fetch_all([record["url"] for record in records])
        return [
            Dropped(file.reason, file.detail)
            if isinstance(file, NotFetched)
            else {**record, "image": file.content}
            for record, file in zip(records, found, strict=True)
        ]


@dataclass
class ImageShapeFilter:
    """Decodes `image` and adds `width` and `height` (Data-Juicer's `image_shape_filter`).

    Dropped: `empty_file`, `html`, `not_an_image` (none of `FORMATS`), `image_bomb` (a size that is
    told before anything is decoded), `damaged`, `too_small`.

    Args:
        min_side: least pixels of the shorter side.
        max_pixels: most pixels.
    """

    min_side: int = 32
    max_pixels: int = 100_000_000
    name = "image_shape_filter"
    version = "2"

    def __call__(self, record: Record) -> Outcome:
        """See `Stage`."""
        data = record["image"]
        if not data:
            return Dropped("empty_file", "0 bytes")
        if data.lstrip()[:1] == b"<" and b"<svg" not in data[:1000].lower():
            return Dropped("html", data[:60].decode("utf-8", "replace").strip())
        try:
            with Image.open(io.BytesIO(data), formats=known_formats()) as image:
                width, height = image.size
                if width * height > self.max_pixels:
                    return Dropped("image_bomb", f"{width} x {height}")
                if min(width, height) < self.min_side:
                    return Dropped("too_small", f"{width} x {height}")
                image.load()
        except Image.DecompressionBombError as error:
            return Dropped("image_bomb", str(error)[:100])
        except Image.UnidentifiedImageError:
            return Dropped("not_an_image", data[:16].hex())
        except _DAMAGE as error:
            return Dropped("damaged", str(error)[:100])
        return {**record, "width": width, "height": height}
