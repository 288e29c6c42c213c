"""Pictures as addresses that hold them: what chat endpoints take."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass

from PIL import Image

from rsvlm.errors import UserError


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """How pictures are sent.

    Args:
        max_side: a longer side is scaled down to this, pixels.
        multiple: both sides are scaled to multiples of this, pixels, where a server would do so
            itself and count its boxes there (Qwen2.5-VL: 28).
        min_pixels: a picture of fewer is scaled up to at least as many, likewise (56 * 56).
        jpeg_quality: 1 to 100; None sends PNG, which loses nothing.
        max_bytes: a picture that is larger as a file is an error.

    Raises:
        UserError: a number out of its range.
    """

    max_side: int = 2048
    multiple: int = 1
    min_pixels: int = 0
    jpeg_quality: int | None = 95
    max_bytes: int = 20_000_000

    def __post_init__(self) -> None:
        if self.max_side < self.multiple or self.multiple < 1:
            raise UserError(
                f"max_side={self.max_side} multiple={self.multiple}: multiple is at least 1, and "
                "max_side no less than it."
            )
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise UserError(f"jpeg_quality={self.jpeg_quality}: 1 to 100, or null for PNG.")

    def size(self, high: int, wide: int) -> tuple[int, int]:
        """Height and width as sent, of a picture of height and width."""
        scale = min(1.0, self.max_side / max(high, wide))
        sides = []
        for side in (high, wide):
            steps = side * scale / self.multiple
            most = self.max_side // self.multiple
            sides.append(self.multiple * min(most, max(1, round(steps))))
        if sides[0] * sides[1] < self.min_pixels:
            scale = math.sqrt(self.min_pixels / (high * wide))
            sides = [self.multiple * math.ceil(s * scale / self.multiple) for s in (high, wide)]
        return sides[0], sides[1]

    def data_url(self, picture: Image.Image) -> str:
        """A picture as `data:image/...;base64,...`.

        Raises:
            UserError: it is larger than `max_bytes`.
        """
        picture = picture.convert("RGB")
        high, wide = self.size(picture.height, picture.width)
        if (wide, high) != picture.size:
            picture = picture.resize((wide, high), Image.Resampling.LANCZOS)
        kind = "png" if self.jpeg_quality is None else "jpeg"
        out = io.BytesIO()
        options = {} if self.jpeg_quality is None else {"quality": self.jpeg_quality}
        picture.save(out, kind, **options)
        if out.tell() > self.max_bytes:
            raise UserError(
                f"a picture of {wide} x {high} is {out.tell() / 1e6:.1f} MB as {kind.upper()}, and "
                f"the limit is {self.max_bytes / 1e6:.1f}: give model.pictures.max_side=1024, "
                "model.pictures.jpeg_quality=85, or a higher model.pictures.max_bytes=."
            )
        return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
