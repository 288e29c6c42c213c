"""SAM's transform: the longest side scaled, the picture in the upper left corner of a square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from PIL import Image

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.sample import Picture
from rsvlm.data.transforms import _RESAMPLE, Interpolation, sides, to_pil, to_tensor


@dataclass(frozen=True)
class CornerPad:
    """Scales the longest side to `size` (Pillow) and fills the right or the bottom.

    LISA's and PixelLM's. SAM wants zeros behind its normalisation there, which its encoder sets.

    Args:
        size: side of the square result, in pixels.
        interpolation: filter of the resize.
        fill: colour of the margin; by default the mean that SAM normalises with, rounded.
    """

    size: int
    _: KW_ONLY
    interpolation: Interpolation = "bilinear"
    fill: tuple[int, int, int] = (124, 116, 104)

    @staticmethod
    def resized(high: int, wide: int, size: int) -> tuple[int, int]:
        """Height and width of a picture of this size on the canvas."""
        scale = size / max(high, wide)
        return max(int(high * scale + 0.5), 1), max(int(wide * scale + 0.5), 1)

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> torch.Tensor:
        """Returns uint8 [3, size, size]; `rng` is accepted so that it can stand for `Augment`."""
        picture = to_pil(image)
        high, wide = self.resized(picture.size[1], picture.size[0], self.size)
        if picture.size != (wide, high):
            picture = picture.resize((wide, high), _RESAMPLE[self.interpolation])
        if (high, wide) != (self.size, self.size):
            square = Image.new("RGB", (self.size, self.size), tuple(self.fill))
            square.paste(picture, (0, 0))
            picture = square
        return to_tensor(picture)

    def geometry(self, high: int, wide: int) -> Geometry:
        """Where the pixels of a picture of this size go."""
        target = self.resized(high, wide, self.size)
        return identity(high, wide).resize(*target).crop(0, 0, self.size, self.size)

    def apply_with_geometry(
        self, images: Sequence[Picture], rng: np.random.Generator | None = None
    ) -> tuple[list[torch.Tensor], list[Geometry]]:
        """All pictures of a sample, each by its own size; draws nothing."""
        return [self(image) for image in images], [self.geometry(*sides(i)) for i in images]
