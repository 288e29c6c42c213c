"""What data sets of boxes and masks share: regions held as found, turned into instances on reading.

Faults of the annotations are gathered while a data set opens and told once each, with a count and
the first few places; nothing is left out because of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from rsvlm.data import rle
from rsvlm.data.datasets.base import Entry, FileDataset, listed
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.geometry import identity
from rsvlm.data.images import BrokenImage
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.transforms import sides
from rsvlm.errors import UserError

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Region:
    """One object as the annotations give it.

    Attributes:
        id: unique within its sample.
        category: class name.
        category_id: index of the class in `Regions.categories`.
        phrase: a referring expression for it.
        box: (x0, y0, x1, y1), pixels of the annotations' frame.
        angle: see `Instance.angle`.
        mask: a COCO run-length mask, or polygons as COCO has them.
    """

    id: int
    category: str
    category_id: int | None = None
    phrase: str | None = None
    box: Box | None = None
    angle: float | None = None
    mask: Mapping[str, Any] | Sequence[Sequence[float]] | None = None


class Regions(FileDataset):
    """Pictures with objects in them; subclasses fill `entries` and, in step, `regions`.

    Where a camera's tag turns a picture and its annotations (`frames`) are of the turned one, it is
    turned. Where it is of another size than its annotations, boxes and masks are scaled to it,
    masks by the nearest pixel, and `meta["annotated_size"]` (height, width) tells. An object with
    a phrase also is a question and its answer in `turns`.

    Attributes:
        categories: names of the classes, in the order of `Instance.category_id`.
        regions: [entries] the objects of each sample.
        frames: [entries] height and width of the picture that was annotated, None if unknown.
        notes: what a user may want to know and is not amiss, one sentence each.
    """

    def __init__(self, root: str | Path, split: str, *, convert: bool = False) -> None:
        super().__init__(root, split, convert=convert)
        self.categories: list[str] = []
        self.regions: list[tuple[Region, ...]] = []
        self.frames: list[tuple[int, int] | None] = []
        self.notes: list[str] = []
        self._faults: dict[str, list[str]] = {}
        self._absent: set[str] = set()

    def add(
        self, entry: Entry, regions: Sequence[Region], frame: tuple[int, int] | None = None
    ) -> None:
        """Appends a sample."""
        self.entries.append(entry)
        self.regions.append(tuple(regions))
        self.frames.append(frame)

    def instances(self, index: int) -> list[Instance]:
        """The objects of a sample with their boxes, without reading picture or masks."""
        return [
            Instance(r.id, r.category, r.category_id, r.phrase, r.box, r.angle)
            for r in self.regions[index]
        ]

    def image(self, index: int) -> Image.Image:
        """Reads the picture as it was annotated: turned, where a camera's tag says so.

        Raises:
            BrokenImage: it cannot be used, or has other proportions than its annotations say.
        """
        return self.as_annotated(super().image(index), index)

    def as_annotated(self, picture: Image.Image, index: int) -> Image.Image:
        """The picture of a sample, turned by its orientation tag if it was annotated so.

        Args:
            picture: as stored.
            index: which sample.

        Raises:
            BrokenImage: other proportions than those that were annotated, so that boxes would lie
                on other ground.
        """
        frame = self.frames[index]
        if frame is None:
            return picture
        stored = sides(picture)
        if _sideways(picture) and alike(frame, stored[::-1]) and not alike(frame, stored):
            return ImageOps.exif_transpose(picture)
        if not alike(frame, stored):
            raise BrokenImage(
                self.entries[index].path,
                f"is {stored[1]} x {stored[0]}, its annotations are of {frame[1]} x {frame[0]}: "
                "other proportions, so that boxes would lie on other ground. Is it another "
                "picture, a crop, or was it turned?",
            )
        return picture

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds objects, with their masks, and a question for each phrase.

        Raises:
            MaskError: a mask cannot be drawn.
        """
        frame = self.frames[index]
        # A picture that is known not to be there can be counted all the same.
        size = frame if self.entries[index].path in self._absent else sides(sample.images[0])
        where = frame or size
        for instance, region in zip(self.instances(index), self.regions[index], strict=True):
            if region.mask is not None and where is not None:
                instance.mask = self.drawn(region, where, sample.meta["id"])
            if where is not None and size is not None:
                instance = self._scaled(instance, where, size)
            sample.instances.append(instance)
            if instance.phrase is not None:
                sample.turns += [
                    Turn("user", instance.phrase, (0,), kind="refer"),
                    Turn("assistant", instance.phrase, (), (instance.id,), kind="refer"),
                ]
        if frame is not None and frame != size:
            sample.meta["annotated_size"] = frame

    def _scaled(
        self, instance: Instance, frame: tuple[int, int], size: tuple[int, int]
    ) -> Instance:
        if frame != size and instance.box is not None:
            moved = identity(*frame).resize(*size)
            if instance.angle is None:
                instance.box = moved.box(instance.box, clip=False)
            else:
                instance.box, instance.angle = moved.oriented(instance.box, instance.angle)
        if instance.mask is not None and instance.mask.shape != size:
            high, wide = instance.mask.shape
            instance.mask = identity(high, wide).resize(*size).map(instance.mask)
        return instance

    def drawn(self, region: Region, frame: tuple[int, int], who: str) -> np.ndarray:
        """[H, W] bool: the mask of a region.

        Raises:
            MaskError: it cannot be read; names the object.
        """
        try:
            if isinstance(region.mask, Mapping):
                return rle.decode(region.mask)
            return rle.polygons(region.mask or (), *frame)
        except rle.MaskError as error:
            raise rle.MaskError(f"object {region.id} of {who} in {self.title}: {error}") from error

    def fault(self, what: str, who: str) -> None:
        """Notes that something is amiss; `what` is a phrase after a number."""
        self._faults.setdefault(what, []).append(who)

    def tell(self) -> None:
        """Turns what was noted into `problems`; the last thing that opening does.

        Raises:
            UserError: all boxes are smaller than a pixel, so that they are shares of pictures.
        """
        boxes = [region.box for regions in self.regions for region in regions if region.box]
        if boxes and max(map(max, boxes)) <= 1.5:
            raise UserError(
                f"{self.root}: none of {len(boxes)} boxes reaches beyond the first pixel, the "
                f"first is {', '.join(f'{value:g}' for value in boxes[0])}. They seem to be shares "
                "of their pictures, as YOLO has them; here they are pixels: multiply x by the "
                "picture's width and y by its height."
            )
        for what, where in self._faults.items():
            self.problems.append(f"{len(where)} {what}: {listed(where)}.")
        self._faults = {}

    def box(self, values: Any, who: str, frame: tuple[int, int] | None = None) -> Box | None:
        """Four numbers as a box; notes what is wrong with them.

        Args:
            values: x0, y0, x1, y1.
            who: the object, for the note.
            frame: height and width of the picture, if known.

        Returns:
            The box as given, also where it reaches beyond the picture; None if it is none.
        """
        try:
            x0, y0, x1, y1 = map(float, values)
        except (TypeError, ValueError):
            self.fault("object(s) have a box that is not four numbers, and are without one", who)
            return None
        if not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
            self.fault("object(s) have a box without an inside, and are without one", who)
            return None
        if min(x0, y0) < 0 or (frame is not None and (x1 > frame[1] or y1 > frame[0])):
            self.fault("box(es) reach beyond their picture, and were left as they are", who)
        return x0, y0, x1, y1

    def mask(self, stored: Any, who: str, frame: tuple[int, int] | None) -> Any:
        """A stored mask if it can be drawn, else None; notes what is wrong with it.

        Args:
            stored: run lengths, a list with one of them, or polygons.
            who: the object, for the note.
            frame: height and width of the picture, if known.
        """
        if isinstance(stored, list) and len(stored) == 1 and isinstance(stored[0], Mapping):
            stored = stored[0]
        try:
            if isinstance(stored, Mapping):
                size = rle.area(stored)
                other = frame is not None and tuple(map(int, stored["size"])) != frame
                if other:
                    self.fault(
                        "mask(s) are of another size than their picture, and are scaled to it", who
                    )
            else:
                size = sum(len(rle.corners(o)) for o in stored or ())
        except (rle.MaskError, TypeError) as error:
            self.fault(f"mask(s) cannot be read ({error}), and are left out", who)
            return None
        if not size:
            self.fault("mask(s) are empty", who)
        return stored

    def located(
        self, folders: Sequence[Path], names: Sequence[str], missing: Missing
    ) -> dict[str, str]:
        """Looks for pictures.

        Args:
            folders: where they may lie.
            names: their names, relative to a folder; one may stand there often.
            missing: what becomes of those that are not there.

        Returns:
            Name → path, in the order of the names; without those that are skipped.

        Raises:
            UserError: pictures are missing, and that is an error, or none is left.
        """
        check_missing(missing)
        unique = list(dict.fromkeys(names))
        place = find_folders(folders, unique).tolist()
        lost = [name for name, at in zip(unique, place, strict=True) if at < 0]
        problem = report_missing(lost, len(unique), folders, missing)
        if problem:
            self.problems.append(problem.replace("captions were kept", "objects were kept"))
        paths = {
            name: str(folders[max(at, 0)] / name)
            for name, at in zip(unique, place, strict=True)
            if at >= 0 or missing != "skip"
        }
        if unique and not paths:
            raise self.not_found("no picture of the annotations is there.")
        self._absent |= {paths[name] for name in lost if name in paths}
        return paths


def alike(frame: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether two sizes have the same proportions, but for rounding and a few rows.

    Released sets hold pictures that lack some rows of what was annotated (RRSIS-D has 800 x 787 for
    800 x 800), and their annotations are scaled to them.
    """
    (high, wide), (height, width) = frame, size
    one, other = high * width, wide * height
    return abs(one - other) <= max(high + wide, height + width, 0.05 * max(one, other))


def _sideways(picture: Image.Image) -> bool:
    return picture.getexif().get(ExifTags.Base.Orientation, 1) >= 5


def bounds(mask: np.ndarray) -> Box | None:
    """The box around a mask's pixels; None if it has none."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def box_convention(boxes: Sequence[Any]) -> str:
    """Whether boxes are two corners or a corner and a size, where nothing says so.

    Read as two corners, hardly a box may have its second corner left of or above the first; of a
    corner and a size, most do.

    Args:
        boxes: four numbers each; others are passed over.

    Returns:
        `xyxy`, or `xywh` where more than one in twenty cannot be two corners.
    """
    whole = [box for box in boxes if box is not None and len(box) == 4 and None not in box]
    turned = sum(box[2] <= box[0] or box[3] <= box[1] for box in whole)
    return "xywh" if turned > 0.05 * len(whole) else "xyxy"
