"""From a picture to the uint8 tensor that a model takes.

Tensors stay uint8 up to the device, where the model scales and normalises them.

Every transform has two faces: called with one picture it gives one tensor; `see` takes all pictures
of a sample and gives their tensors and the `Geometry` of each, by which maps, masks and boxes move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.sample import Picture, SampleError
from rsvlm.errors import UserError, near

Interpolation = Literal["bicubic", "bilinear"]

_RESAMPLE = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def to_tensor(image: Picture) -> torch.Tensor:
    """The pixels as uint8 [3, H, W], in contiguous memory."""
    if isinstance(image, torch.Tensor):
        return image.contiguous()
    return torch.from_numpy(np.ascontiguousarray(np.asarray(_checked(image)).transpose(2, 0, 1)))


def to_pil(image: Picture) -> Image.Image:
    """The same pixels as a Pillow image."""
    if isinstance(image, torch.Tensor):
        return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    return _checked(image)


def sides(image: Picture) -> tuple[int, int]:
    """Height and width."""
    if isinstance(image, torch.Tensor):
        return int(image.shape[1]), int(image.shape[2])
    return image.size[1], image.size[0]


def _checked(image: Image.Image) -> Image.Image:
    if image.mode != "RGB":
        raise SampleError(
            f"a transform takes RGB pictures, got mode {image.mode!r}; read the file with "
            "rsvlm.data.images.read_image(path, convert=True)."
        )
    return image


def _choose(what: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        raise UserError(f"{what}={value!r} is not known. {near(str(value), map(str, known))}")


@dataclass(frozen=True)
class Preprocess:
    """The evaluation transform: resize with Pillow, crop the centre.

    Gives torchvision's `Resize` (of Pillow images) and `CenterCrop` bit for bit, and thereby
    open_clip's evaluation transform before its normalisation.

    Args:
        size: side of the square result, in pixels.
        interpolation: filter of the resize.
        resize: `shorter` scales the shorter side to `size`; `squash` scales both, without regard
            to the aspect ratio.
        crop: `center`, or None to keep all of a picture that is not square.
    """

    size: int
    _: KW_ONLY
    interpolation: Interpolation = "bicubic"
    resize: Literal["shorter", "squash"] = "shorter"
    crop: Literal["center"] | None = "center"

    def __post_init__(self) -> None:
        _choose("interpolation", self.interpolation, ("bicubic", "bilinear"))
        _choose("resize", self.resize, ("shorter", "squash"))
        _choose("crop", self.crop, ("center", None))

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> torch.Tensor:
        """Returns uint8 [3, size, size]; `rng` is accepted so that it can stand for `Augment`."""
        picture, size = to_pil(image), self.size
        wide, high = target = self._target(*picture.size)
        if picture.size != target:
            picture = picture.resize(target, _RESAMPLE[self.interpolation])
        if self.crop and target != (size, size):
            left, top = _middle(wide, size), _middle(high, size)
            picture = picture.crop((left, top, left + size, top + size))
        return to_tensor(picture)

    def geometry(self, high: int, wide: int) -> Geometry:
        """Where the pixels of a picture of this size go."""
        wide_to, high_to = self._target(wide, high)
        moved, size = identity(high, wide).resize(high_to, wide_to), self.size
        if self.crop and (wide_to, high_to) != (size, size):
            moved = moved.crop(_middle(high_to, size), _middle(wide_to, size), size, size)
        return moved

    def apply_with_geometry(
        self, images: Sequence[Picture], rng: np.random.Generator | None = None
    ) -> tuple[list[torch.Tensor], list[Geometry]]:
        """All pictures of a sample, each by its own size; draws nothing."""
        return [self(image) for image in images], [self.geometry(*sides(i)) for i in images]

    def _target(self, wide: int, high: int) -> tuple[int, int]:
        size = self.size
        if self.resize == "squash":
            return size, size
        if wide <= high:
            return size, int(size * high / wide)
        return int(size * wide / high), size


def _middle(side: int, size: int) -> int:
    # Rounds halves to even, as torchvision does.
    return round((side - size) / 2.0)


class Squash(Preprocess):
    """Scales both sides to `size` with Pillow's bicubic filter, without regard to the aspect ratio.

    MiniGPT-v2 and SkyEyeGPT (448), DeltaVLM and other LAVIS models (224).

    Args:
        size: side of the square result, in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size, resize="squash", crop=None)


@dataclass(frozen=True)
class Pad:
    """Pads to a square, the picture in the middle, and scales to `size` (Pillow, bicubic).

    LLaVA-1.5's `image_aspect_ratio=pad`, which transformers' processor does not do, and the
    geometry of EarthGPT's boxes.

    Args:
        size: side of the square result, in pixels.
        fill: colour of the margin; by default CLIP's mean, as LLaVA rounds it.
    """

    size: int
    _: KW_ONLY
    fill: tuple[int, int, int] = (122, 116, 104)

    def __call__(self, image: Picture, rng: np.random.Generator | None = None) -> torch.Tensor:
        """Returns uint8 [3, size, size]; `rng` is accepted so that it can stand for `Augment`."""
        picture = to_pil(image)
        wide, high = picture.size
        side = max(wide, high)
        if wide != high:
            square = Image.new("RGB", (side, side), tuple(self.fill))
            square.paste(picture, ((side - wide) // 2, (side - high) // 2))
            picture = square
        if side != self.size:
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC)
        return to_tensor(picture)

    def geometry(self, high: int, wide: int) -> Geometry:
        """Where the pixels of a picture of this size go."""
        side = max(high, wide)
        padded = identity(high, wide).crop(-((side - high) // 2), -((side - wide) // 2), side, side)
        return padded.resize(self.size, self.size)

    def apply_with_geometry(
        self, images: Sequence[Picture], rng: np.random.Generator | None = None
    ) -> tuple[list[torch.Tensor], list[Geometry]]:
        """All pictures of a sample, each by its own size; draws nothing."""
        return [self(image) for image in images], [self.geometry(*sides(i)) for i in images]


@dataclass(frozen=True)
class Colour:
    """A draw of colour jitter: factors of brightness, contrast, saturation, and their order."""

    factors: tuple[float, float, float]
    order: tuple[int, int, int]


@dataclass(frozen=True)
class Drawn:
    """What `Augment` drew for one picture.

    Attributes:
        source: height and width of the picture.
        window: top, left, height and width of the crop.
        hflip: mirror left and right.
        vflip: mirror top and bottom.
        colour: the jitter, or None.
        quarters: quarter turns, counter-clockwise.
        degrees: rotation by any angle, or None.
    """

    source: tuple[int, int]
    window: tuple[int, int, int, int]
    hflip: bool = False
    vflip: bool = False
    colour: Colour | None = None
    quarters: int = 0
    degrees: float | None = None

    def geometry(self, size: int) -> Geometry:
        """Where the pixels go, in a square of `size`."""
        top, left, high, wide = self.window
        moved = identity(*self.source).crop(top, left, high, wide).resize(size, size)
        moved = moved.hflip() if self.hflip else moved
        moved = moved.vflip() if self.vflip else moved
        moved = moved.turn(self.quarters)
        return moved if self.degrees is None else moved.rotate(self.degrees)

    def over(self, high: int, wide: int) -> Drawn:
        """The same part of a picture of another size."""
        if (high, wide) == self.source:
            return self
        y, x = high / self.source[0], wide / self.source[1]
        top, left, h, w = self.window
        h, w = min(high, max(1, round(h * y))), min(wide, max(1, round(w * x)))
        window = (min(round(top * y), high - h), min(round(left * x), wide - w), h, w)
        return replace(self, source=(high, wide), window=window)


@dataclass(frozen=True)
class Augment:
    """The training transform, a pure function of the picture and a random generator.

    Crop, resize, flips, colour jitter, rotation, in this order; draws are made in it too, and
    only for what is switched on. The published recipes in these words:

    - RS5M (GeoRSCLIP): `scale=(0.9, 1), hflip=True, rotation="any"`. Corners that turn in are
      black and the rotation takes the nearest pixel, as published (inference_tool.py).
    - SkyScript: `scale=(0.67, 1), ratio=(0.5, 2), hflip=False, color_jitter=0.4,
      rotation="quarter"`.
    - RemoteCLIP: `hflip=True, rotation="quarter"`.

    The resize is torch's uint8 kernel, which takes a third of the time of Pillow's. Most often one
    value in two hundred differs from Pillow's, for some widths one in four, by at most 2 of 255.
    JPEG is decoded in full: Pillow's draft mode, which decodes at a half or a quarter, is off by 2
    levels on average and 35 at worst.

    All pictures of a sample share one draw, so that two dates stay aligned. Flips and turns move
    what a text calls left or top: leave them out where texts speak of places.

    Args:
        size: side of the square result, in pixels.
        scale: least and largest part of the area that a crop keeps.
        ratio: least and largest aspect ratio of a crop, drawn on a logarithmic scale.
        hflip: mirror left and right, half of the time.
        vflip: mirror top and bottom, half of the time.
        rotation: `quarter` turns by 0, 90, 180 or 270 degrees, without loss; `any` by 0 to 360.
        color_jitter: brightness, contrast and saturation are scaled by factors from
            1 - color_jitter to 1 + color_jitter, in random order.
        jitter_each: draw the colour jitter anew for each further picture of a sample, such as the
            second date.
        interpolation: filter of the resize.
    """

    size: int
    _: KW_ONLY
    scale: tuple[float, float] = (0.9, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    hflip: bool = True
    vflip: bool = False
    rotation: Literal["none", "quarter", "any"] = "none"
    color_jitter: float = 0.0
    jitter_each: bool = False
    interpolation: Interpolation = "bicubic"

    def __post_init__(self) -> None:
        _choose("interpolation", self.interpolation, ("bicubic", "bilinear"))
        _choose("rotation", self.rotation, ("none", "quarter", "any"))
        low, high = self.scale
        if not 0 < low <= high <= 1:
            raise UserError(f"scale={tuple(self.scale)}: it must hold 0 < least <= largest <= 1.")
        low, high = self.ratio
        if not 0 < low <= high:
            raise UserError(f"ratio={tuple(self.ratio)}: it must hold 0 < least <= largest.")
        if not 0 <= self.color_jitter <= 1:
            raise UserError(f"color_jitter={self.color_jitter} must lie between 0 and 1.")

    def __call__(self, image: Picture, rng: np.random.Generator) -> torch.Tensor:
        """Returns uint8 [3, size, size]."""
        return self.apply(image, self.draw(*sides(image), rng))

    def apply_with_geometry(
        self, images: Sequence[Picture], rng: np.random.Generator
    ) -> tuple[list[torch.Tensor], list[Geometry]]:
        """All pictures of a sample under one draw; of other sizes, the same part of each."""
        tensors: list[torch.Tensor] = []
        geometries: list[Geometry] = []
        first: Drawn | None = None
        for image in images:
            if first is None:
                drawn = first = self.draw(*sides(image), rng)
            else:
                drawn = first.over(*sides(image))
                if self.color_jitter and self.jitter_each:
                    drawn = replace(drawn, colour=self._colour(rng))
            tensors.append(self.apply(image, drawn))
            geometries.append(drawn.geometry(self.size))
        return tensors, geometries

    def draw(self, high: int, wide: int, rng: np.random.Generator) -> Drawn:
        """Draws for a picture of this size, in the documented order."""
        window = self.window(high, wide, rng)
        hflip = self.hflip and rng.random() < 0.5
        vflip = self.vflip and rng.random() < 0.5
        colour = self._colour(rng) if self.color_jitter else None
        quarters = int(rng.integers(4)) if self.rotation == "quarter" else 0
        degrees = float(rng.uniform(0.0, 360.0)) if self.rotation == "any" else None
        return Drawn((high, wide), window, hflip, vflip, colour, quarters, degrees)

    def apply(self, image: Picture, drawn: Drawn) -> torch.Tensor:
        """The picture under a draw: uint8 [3, size, size]."""
        if isinstance(image, torch.Tensor):
            pixels = image
        else:
            pixels = torch.from_numpy(np.array(_checked(image))).permute(2, 0, 1)
        top, left, high, wide = drawn.window
        pixels = pixels[:, top : top + high, left : left + wide]
        if pixels.shape[1:] != (self.size, self.size):
            pixels = F.interpolate(
                pixels[None],
                size=(self.size, self.size),
                mode=self.interpolation,
                align_corners=False,
                antialias=True,
            )[0]
        array = pixels.numpy()
        if drawn.hflip:
            array = array[:, :, ::-1]
        if drawn.vflip:
            array = array[:, ::-1]
        if drawn.colour is not None:
            array = _jitter(array, drawn.colour)
        array = np.rot90(array, drawn.quarters, axes=(1, 2))
        if drawn.degrees is not None:
            array = np.asarray(_pil(array).rotate(drawn.degrees)).transpose(2, 0, 1)
        # A copy where the array is a view, so that the tensor owns exactly its pixels.
        return torch.from_numpy(np.array(array, order="C"))

    def window(self, high: int, wide: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Draws a crop by torchvision's rule: ten tries, then the largest fitting centre.

        Args:
            high: height of the picture.
            wide: width of the picture.
            rng: the generator to draw from.

        Returns:
            Top, left, height and width of the crop, in pixels.
        """
        low, top = self.ratio
        for _ in range(10):
            area = high * wide * rng.uniform(*self.scale)
            ratio = math.exp(rng.uniform(math.log(low), math.log(top)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= wide and 0 < h <= high:
                return int(rng.integers(high - h + 1)), int(rng.integers(wide - w + 1)), h, w
        w, h = wide, high
        if wide / high < low:
            h = min(high, round(wide / low))
        elif wide / high > top:
            w = min(wide, round(high * top))
        return (high - h) // 2, (wide - w) // 2, h, w

    def _colour(self, rng: np.random.Generator) -> Colour:
        low, high = 1 - self.color_jitter, 1 + self.color_jitter
        one, two, three = (float(f) for f in rng.uniform(low, high, 3))
        first, second, third = (int(i) for i in rng.permutation(3))
        return Colour((one, two, three), (first, second, third))


def _jitter(array: np.ndarray, colour: Colour) -> np.ndarray:
    picture = _pil(array)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for i in colour.order:
        picture = enhancers[i](picture).enhance(colour.factors[i])
    return np.asarray(picture).transpose(2, 0, 1)


def _pil(array: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
