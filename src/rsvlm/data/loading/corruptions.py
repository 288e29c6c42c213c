"""What goes wrong between two dates: a robustness suite for models of change. It is ours.

The SECOND-CC paper reports robustness to illumination, viewpoint, blur, resolution and
registration, and neither its numbers nor its corruptions are in the released code. The suite here
goes by the same five words; what they do, and the three strengths of each, are declared below. Its
numbers compare with each other and with no publication. Each data set is renamed
(`levir_cc_blur_2`), so that no metric of it is taken for one of the clean data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from rsvlm.data.loading.sampler import rng
from rsvlm.data.loading.wrappers import WrappedDataset
from rsvlm.data.sample import Picture, Sample, SampleError
from rsvlm.data.transforms import to_pil
from rsvlm.errors import UserError, near

#: What one date becomes: the picture, and its map of class ids, which only geometry moves.
Made = tuple[Image.Image, np.ndarray | None]
SEVERITIES = (1, 2, 3)
DATES = ("after", "both")


def illumination(picture: Image.Image, map_: Any, severity: int, draw: Any) -> Made:
    """Another sun and another sensor: brightness, gamma and a colour cast.

    Brightness is multiplied by 1 +- 0.15, 0.3 or 0.45, the exponent is the inverse of it to the
    power of one half, and each channel is multiplied by a factor within 5, 10 or 15 % of one.
    """
    sign = 1 if draw.random() < 0.5 else -1
    gain = 1 + sign * 0.15 * severity
    cast = 1 + 0.05 * severity * draw.uniform(-1, 1, size=3)
    values = (np.asarray(picture, np.float32) / 255) ** (1 / np.sqrt(gain)) * gain * cast
    return Image.fromarray((values.clip(0, 1) * 255).round().astype(np.uint8)), map_


def blur(picture: Image.Image, map_: Any, severity: int, draw: Any) -> Made:
    """Motion and haze: a Gaussian of 1/256, 1/128 or 1/64 of the shorter side."""
    del draw
    radius = min(picture.size) / 256 * 2 ** (severity - 1)
    return picture.filter(ImageFilter.GaussianBlur(radius)), map_


def resolution(picture: Image.Image, map_: Any, severity: int, draw: Any) -> Made:
    """A coarser sensor: means over 2, 4 or 8 pixels, drawn at the former size (bicubic)."""
    del draw
    small = [max(1, round(side / 2**severity)) for side in picture.size]
    coarse = picture.resize((small[0], small[1]), Image.Resampling.BOX)
    return coarse.resize(picture.size, Image.Resampling.BICUBIC), map_


def viewpoint(picture: Image.Image, map_: Any, severity: int, draw: Any) -> Made:
    """An oblique view: each corner of the frame is drawn from up to 4, 8 or 12 % further inside."""
    wide, high = picture.size
    inside = 0.04 * severity * draw.uniform(0, 1, size=(4, 2))
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], float)
    seen = (corners + inside * np.where(corners == 0, 1, -1)) * (wide, high)
    rows = []
    for (x, y), (u, v) in zip(corners * (wide, high), seen, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    eight = np.linalg.solve(np.array(rows), seen.reshape(-1)).tolist()

    def warped(image: Image.Image, how: Image.Resampling) -> Image.Image:
        return image.transform(image.size, Image.Transform.PERSPECTIVE, eight, how)

    moved = None
    if map_ is not None:
        moved = np.asarray(warped(Image.fromarray(map_), Image.Resampling.NEAREST))
    return warped(picture, Image.Resampling.BILINEAR), moved


def registration(picture: Image.Image, map_: Any, severity: int, draw: Any) -> Made:
    """Dates that do not lie on each other: a shift by 1/64, 1/32 or 1/16 of the shorter side.

    It goes in any direction and by whole pixels, one at least; the border is mirrored.
    """
    reach = max(1, round(min(picture.size) / 128 * 2**severity))
    angle = draw.uniform(0, 2 * np.pi)
    right, down = round(reach * np.cos(angle)), round(reach * np.sin(angle))

    def moved(array: np.ndarray) -> np.ndarray:
        sides = ((reach, reach), (reach, reach)) + ((0, 0),) * (array.ndim - 2)
        padded = np.pad(array, sides, mode="symmetric")
        top, left = reach - down, reach - right
        return padded[top : top + array.shape[0], left : left + array.shape[1]]

    return Image.fromarray(moved(np.asarray(picture))), None if map_ is None else moved(map_)


CORRUPTIONS: dict[str, Callable[..., Made]] = {
    "illumination": illumination,
    "blur": blur,
    "resolution": resolution,
    "viewpoint": viewpoint,
    "registration": registration,
}
#: Those that move pixels; a date's map of classes moves with its picture.
MOVING = ("viewpoint", "registration")


def corrupt(
    sample: Sample,
    corruption: str,
    severity: int,
    *,
    index: int,
    seed: int = 0,
    dates: str = "after",
) -> Sample:
    """A pair with one corruption; a function of the arguments alone.

    The draws of a pair are the same at every severity. The change mask stays in the frame of the
    first date, and moves with it where `dates` is `both`.

    Args:
        sample: two dates.
        corruption: a word of `CORRUPTIONS`.
        severity: 1, 2 or 3.
        index: the pair's position in its data set.
        seed: seed of the draws.
        dates: `after` leaves the first date as it is; `both` draws for each date.

    Raises:
        SampleError: not a pair, or boxes and masks of objects, which are not moved here.
    """
    name = sample.meta.get("id", index)
    if len(sample.images) != 2:
        raise SampleError(f"sample {name!r} has {len(sample.images)} image(s): two dates wanted.")
    if corruption in MOVING and sample.instances:
        raise SampleError(
            f"sample {name!r} has boxes, which {corruption} would leave behind: take the data set "
            "without its instances."
        )
    change = CORRUPTIONS[corruption]
    images: list[Picture] = list(sample.images)
    maps: list[np.ndarray] = list(sample.semantic)
    meta = sample.meta
    word = list(CORRUPTIONS).index(corruption)
    for date in (1,) if dates == "after" else (0, 1):
        held = np.ascontiguousarray(maps[date]) if maps else None
        draw = rng(seed, 2 * word + date, index)
        picture, moved = change(to_pil(images[date]), held, severity, draw)
        images[date] = picture
        if moved is not None:
            maps[date] = moved
        mask = meta.get("change_mask")
        if date == 0 and mask is not None and corruption in MOVING:
            draw = rng(seed, 2 * word, index)
            _, mask = change(to_pil(images[0]), np.ascontiguousarray(mask), severity, draw)
            meta = meta | {"change_mask": mask}
    return replace(sample, images=images, semantic=maps, meta=meta)


class Robustness(WrappedDataset):
    """A data set of pairs whose splits may carry a corruption: `test@blur_2`.

    A split without one is the data set as it is. All other attributes are the data set's own.

    Args:
        dataset: partial of a data set of pairs, finished with `split=`.
        split: `<split>` or `<split>@<corruption>_<severity>`.
        dates: see `corrupt`.
        seed: see `corrupt`.

    Raises:
        UserError: an unknown corruption, severity or word of dates.
    """

    def __init__(
        self,
        dataset: Callable[..., Any],
        split: str = "test",
        *,
        dates: str = "after",
        seed: int = 0,
    ) -> None:
        if dates not in DATES:
            raise UserError(f"data.dataset.dates={dates!r}. {near(dates, DATES)}")
        split, _, words = split.partition("@")
        self.corruption, _, grade = words.partition("_")
        if words and self.corruption not in CORRUPTIONS:
            raise UserError(
                f"split {split}@{words}: there is no corruption {self.corruption!r}. "
                f"{near(self.corruption, CORRUPTIONS)}"
            )
        if words and grade not in map(str, SEVERITIES):
            raise UserError(f"split {split}@{words}: a severity is 1, 2 or 3, as in blur_2.")
        self.severity = int(grade or 0)
        self.dates, self.seed = dates, seed
        both = "_both" if dates == "both" else ""
        super().__init__(dataset(split=split), f"{both}_{words}" if words else "")

    def __getitem__(self, index: int) -> Sample:
        """The pair, corrupted where the split says so."""
        sample = self.dataset[index]
        if not self.corruption:
            return sample
        return corrupt(
            sample,
            self.corruption,
            self.severity,
            index=index,
            seed=self.seed,
            dates=self.dates,
        )
