"""From a picture to the uint8 tensor that a model takes.

Tensors stay uint8 up to the device, where the model scales and normalises them.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageEnhance

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
        wide, high = picture.size
        if self.resize == "squash":
            target = (size, size)
        elif wide <= high:
            target = (size, int(size * high / wide))
        else:
            target = (int(size * wide / high), size)
        if picture.size != target:
            picture = picture.resize(target, _RESAMPLE[self.interpolation])
        if self.crop and target != (size, size):
            # Rounds halves to even, as torchvision does.
            left, top = round((target[0] - size) / 2.0), round((target[1] - size) / 2.0)
            picture = picture.crop((left, top, left + size, top + size))
        return to_tensor(picture)


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

    Args:
        size: side of the square result, in pixels.
        scale: least and largest part of the area that a crop keeps.
        ratio: least and largest aspect ratio of a crop, drawn on a logarithmic scale.
        hflip: mirror left and right, half of the time.
        vflip: mirror top and bottom, half of the time.
        rotation: `quarter` turns by 0, 90, 180 or 270 degrees, without loss; `any` by 0 to 360.
        color_jitter: brightness, contrast and saturation are scaled by factors from
            1 - color_jitter to 1 + color_jitter, in random order.
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
        if isinstance(image, torch.Tensor):
            pixels = image
        else:
            pixels = torch.from_numpy(np.array(_checked(image))).permute(2, 0, 1)
        top, left, high, wide = self.window(pixels.shape[1], pixels.shape[2], rng)
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
        if self.hflip and rng.random() < 0.5:
            array = array[:, :, ::-1]
        if self.vflip and rng.random() < 0.5:
            array = array[:, ::-1]
        if self.color_jitter:
            array = self._jitter(array, rng)
        if self.rotation == "quarter":
            array = np.rot90(array, int(rng.integers(4)), axes=(1, 2))
        elif self.rotation == "any":
            turned = _pil(array).rotate(rng.uniform(0.0, 360.0))
            array = np.asarray(turned).transpose(2, 0, 1)
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

    def _jitter(self, array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        picture = _pil(array)
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        factors = rng.uniform(1 - self.color_jitter, 1 + self.color_jitter, 3)
        for i in rng.permutation(3):
            picture = enhancers[i](picture).enhance(float(factors[i]))
        return np.asarray(picture).transpose(2, 0, 1)


def _pil(array: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
