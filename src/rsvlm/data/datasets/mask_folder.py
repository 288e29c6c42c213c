"""Pictures with a mask of classes in a file beside each: folders of your own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from rsvlm.data.datasets.base import Entry, listed, metric_word, split_error
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.datasets.regions import Regions, bounds
from rsvlm.data.folders import is_picture
from rsvlm.data.images import BrokenImage
from rsvlm.data.palette import RGB, check_size, read_grey, read_palette
from rsvlm.data.sample import Instance, Sample
from rsvlm.data.text_files import read_names
from rsvlm.errors import UserError

#: A class and its colour: `building 255 0 0`, also with commas or a colon.
_COLOUR = re.compile(r"(.*?\S)\s*[\s,:=]\s*[(\[]?(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[)\]]?")
MASKS = ("masks", "labels", "label", "annotations")


class MaskFolder(Regions):
    """images/ and masks/ with the same file names (endings may differ), a grey value a class.

    A sample is a picture with its `semantic` map and an object for each class that is in it: its
    mask, and the box around it. Value 0 is background and value k the k-th of `classes`; a mask of
    0 and 255 (or 0 and 1) is one class. Of a palette the indices count. Masks in colours are read
    where each class has its colour behind its name, as `building 255 0 0`; black is background,
    unless it is a class's. A file name without its picture, or the reverse, is told.

    Args:
        root: the folder of images/ and masks/, or of splits with these in each.
        split: `train`, `val`, `test`; `all` where there are no splits.
        classes: names of the values from 1, or a text file with one a line, relative to `root`; by
            default classes.txt where it is there, else `target`, for masks of 0 and 255. Each may
            have a colour behind it.
        ignore: a value that is no class, such as 255 of unlabelled ground; needs `classes`.
        missing: what becomes of pictures without a mask (`datasets/missing.py`).
        name: word for metric names; by default the folder's name.
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no such folders, a picture without a mask, an unknown split.
    """

    title: ClassVar[str] = "A folder of masks"
    layout: ClassVar[str] = (
        "  {root}/images/<name>.jpg   {root}/masks/<name>.png   or in {root}/<split>/ each\n"
        "  {root}/classes.txt         a class a line, for the values 1, 2, ...; without it a mask\n"
        "                             is of one class, 0 and 255"
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | str | None = None,
        ignore: int | None = None,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or metric_word(self.root.resolve().name)
        names, self.palette = _coloured(self._classes(classes))
        self.binary = names is None
        self.categories = names or ["target"]
        self.semantic_classes = ("background", *self.categories)  # type: ignore[misc]
        if self.categories[0].lower() == "background":
            self.problems.append(
                "the first class is background, which is value 1 here, as 0 is of no class: leave "
                "it out of the classes if it is your value 0."
            )
        self.ignore = ignore
        if ignore is not None and self.binary:
            raise UserError(
                "data.dataset.ignore= needs the classes: name them in classes.txt, a line each."
            )
        folder = self._folder()
        masks = next((folder / word for word in MASKS if (folder / word).is_dir()), None)
        if masks is None:
            raise self.not_found(f"there is no masks/ in {folder}.")
        pictures, labels = _stems(folder / "images"), _stems(masks)
        for place in (folder / "images", masks):
            twice = _same_stem(place)
            if twice:
                self.problems.append(
                    f"{place} holds names that differ in their ending alone, of which the last "
                    f"is read: {listed(twice)}."
                )
        bare = [name for stem, name in pictures.items() if stem not in labels]
        problem = report_missing(
            bare, len(pictures), str(masks), missing, what="masks", kept="Their pictures were kept."
        )
        self.problems += [problem] if problem else []
        spare = [name for stem, name in labels.items() if stem not in pictures]
        if spare:
            self.problems.append(f"{len(spare)} mask(s) have no picture: {listed(spare)}.")
        for stem, picture in pictures.items():
            if stem not in labels and missing == "skip":
                continue
            mask = str(masks / labels[stem]) if stem in labels else None
            self.add(Entry(picture, str(folder / "images" / picture), meta={"mask": mask}), [])
        if not self.entries:
            raise self.not_found(f"there is no picture in {folder / 'images'}.")
        self.tell()

    def _folder(self) -> Path:
        """The folder of the split."""
        parts = {
            each.name: len(_stems(each / "images"))
            for each in sorted(self.root.iterdir())
            if (each / "images").is_dir()
        }
        if self.split in parts:
            return self.root / self.split
        if (self.root / "images").is_dir():
            if self.split != "all":
                raise UserError(
                    f"{self.root} has images/ and no folder {self.split}/. Lay the pictures into "
                    "train/, val/ and test/, or read all of them: data.splits.train=all "
                    "data.splits.val=null data.splits.test=null."
                )
            return self.root
        if parts:
            raise split_error(self.split, parts, str(self.root))
        raise self.not_found("there is no images/.")

    def _classes(self, given: Sequence[str] | str | None) -> list[str] | None:
        if given is None:
            file = self.root / "classes.txt"
            return read_names(file) if file.is_file() else None
        if not isinstance(given, str):
            return [str(name) for name in given]
        file = self.root / given
        if not file.is_file():
            raise UserError(f"data.dataset.classes={given}: there is no file {file}.")
        return read_names(file)

    def _numbers(self, path: str) -> np.ndarray:
        """[H, W] uint8: number of a class at each pixel, 0 for none."""
        if not self.palette:
            return read_grey(path)
        ids = read_palette(path, self.palette)
        return ids if "background" in self.palette else ids + np.uint8(1)

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds the map and an object for each class in it.

        Raises:
            BrokenImage: the mask cannot be read, is of another size, or has a value of no class.
        """
        path = self.entries[index].meta["mask"]
        if path is None:
            return
        grey = self._numbers(path)
        check_size(path, grey, sample.images[0])
        if self.binary:
            grey = (grey > 0).astype(np.uint8) if _two_values(grey) else grey
        elif self.ignore is not None:
            grey = np.where(grey == self.ignore, 0, grey).astype(np.uint8)
        values = np.unique(grey).tolist()
        odd = [value for value in values if value > len(self.categories)]
        if odd:
            raise BrokenImage(
                path,
                f"has the value {odd[0]}, and there {_are(len(self.categories))} "
                f"({listed(self.categories)}). Name the classes of the values 1, 2, ... in "
                "classes.txt, a line each, or say that a value is none: "
                f"data.dataset.ignore={odd[-1]}.",
            )
        sample.semantic = [grey]
        for value in filter(None, values):
            mask = grey == value
            category = self.categories[value - 1]
            sample.instances.append(
                Instance(value, category, value - 1, box=bounds(mask), mask=mask)
            )


def _are(count: int) -> str:
    return "is 1 class" if count == 1 else f"are {count} classes"


def _coloured(lines: list[str] | None) -> tuple[list[str] | None, dict[str, RGB]]:
    """Names, and the palette of masks in colours; none where no line has a colour behind it.

    Raises:
        UserError: some lines have a colour and some have none, or two have one and the same.
    """
    found = [_COLOUR.fullmatch(line) for line in lines or ()]
    if not lines or not any(found):
        return lines, {}
    bare = [line for line, match in zip(lines, found, strict=True) if match is None]
    if bare:
        raise UserError(f"classes: {listed(bare)} lack a colour behind the name, as 255 0 0.")
    colours = {m[1]: (int(m[2]), int(m[3]), int(m[4])) for m in found if m is not None}
    if len(set(colours.values())) < len(lines) or max(map(max, colours.values())) > 255:
        raise UserError(
            f"classes: {listed(lines, 30)}: each class once, each colour once, bands from 0 to 255."
        )
    ground = colours.pop("background", (0, 0, 0))
    first = {} if ground in colours.values() else {"background": ground}
    return list(colours), first | colours


def _two_values(grey: np.ndarray) -> bool:
    values = set(np.unique(grey).tolist())
    return values <= {0, 255} or values <= {0, 1}


def _stems(folder: Path) -> dict[str, str]:
    """Name without ending -> name, of the pictures of a folder."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {Path(name).stem: name for name in names if is_picture(name)}


def _same_stem(folder: Path) -> list[str]:
    """Names of pictures that differ in their ending alone, joined with `and`."""
    names: dict[str, list[str]] = {}
    for name in sorted(filter(is_picture, os.listdir(folder))) if folder.is_dir() else ():
        names.setdefault(Path(name).stem, []).append(name)
    return [" and ".join(some) for some in names.values() if len(some) > 1]
