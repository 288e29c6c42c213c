"""Pictures with a mask of classes in a file beside each: folders of your own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from rsvlm.data.datasets.base import Entry, listed, metric_word, split_error
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.datasets.regions import Regions, bounds
from rsvlm.data.folders import is_picture
from rsvlm.data.images import BrokenImage
from rsvlm.data.palette import check_size, read_grey
from rsvlm.data.sample import Instance, Sample
from rsvlm.data.text_files import read_names
from rsvlm.errors import UserError

MASKS = ("masks", "labels", "label", "annotations")


class MaskFolder(Regions):
    """images/ and masks/ with the same file names (endings may differ), a grey value a class.

    A sample is a picture with its `semantic` map and an object for each class that is in it: its
    mask, and the box around it. Value 0 is background and value k the k-th of `classes`; a mask of
    0 and 255 (or 0 and 1) is one class. A file name without its picture, or the reverse, is told.

    Args:
        root: the folder of images/ and masks/, or of splits with these in each.
        split: `train`, `val`, `test`; `all` where there are no splits.
        classes: names of the values from 1, or a text file with one a line, relative to `root`; by
            default classes.txt where it is there, else `target`, for masks of 0 and 255.
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
        names = self._classes(classes)
        self.binary = names is None
        self.categories = names or ["target"]
        self.semantic_classes = ("background", *self.categories)  # type: ignore[misc]
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

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds the map and an object for each class in it.

        Raises:
            BrokenImage: the mask cannot be read, is of another size, or has a value of no class.
        """
        path = self.entries[index].meta["mask"]
        if path is None:
            return
        grey = read_grey(path)
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
                f"has the value {odd[0]}, and there are {len(self.categories)} classes "
                f"({listed(self.categories)}). Name the classes of the values 1, 2, ... in "
                "classes.txt, a line each, or say that a value is none: data.dataset.ignore=255.",
            )
        sample.semantic = [grey]
        for value in filter(None, values):
            mask = grey == value
            category = self.categories[value - 1]
            sample.instances.append(
                Instance(value, category, value - 1, box=bounds(mask), mask=mask)
            )


def _two_values(grey: np.ndarray) -> bool:
    values = set(np.unique(grey).tolist())
    return values <= {0, 255} or values <= {0, 1}


def _stems(folder: Path) -> dict[str, str]:
    """Name without ending -> name, of the pictures of a folder."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {Path(name).stem: name for name in names if is_picture(name)}
