"""What data sets of image files share: a list of entries, and errors that show what to mend."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from torch.utils.data import Dataset

from rsvlm.data.columnar import cell, is_reference
from rsvlm.data.folders import Listing, printable
from rsvlm.data.images import BrokenImage, read_image
from rsvlm.data.rasters import Rasters, is_raster
from rsvlm.data.sample import Layout, Sample
from rsvlm.errors import UserError, near


@dataclass(frozen=True, slots=True)
class Entry:
    """One sample before it is read.

    Attributes:
        id: its name within the data set.
        path: the file of its image, or of the first one.
        texts: its captions.
        label: index of its scene class.
        meta: what else the source says, for `Sample.meta`.
        more: the files of further images, in order: the second date, the other frames.
    """

    id: str
    path: str
    texts: tuple[str, ...] = ()
    label: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    more: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """All its files."""
        return (self.path, *self.more)


class FileDataset(Dataset[Sample]):
    """A list of samples in image files; subclasses fill `entries`.

    What is more than captions and a class (dialogues, boxes, masks) a subclass adds in `annotate`,
    and what lies in a file an image (maps) in `read_maps`, when a sample is read;
    what can be wrong with the files it finds when it opens.

    Attributes:
        name: the word for this data set in metric names.
        title: its name in messages.
        layout: the files that `root` must hold, one a line; `{root}` is filled in.
        sample_layout: how the images of a sample belong together, `Sample.layout`.
        licence: the terms of the images and annotations.
        paper: where it was published.
        homepage: where it can be had.
        published_counts: images per split, as published.
        root: the data set's folder.
        split: the part that this object serves.
        classes: names of the scene classes, in the order of the labels.
        semantic_classes: names of the classes of its maps, in the order of their ids.
        entries: the images, in order.
        problems: what was amiss and could be passed over, one sentence each.
        division: image → split, where a table for all splits was divided.
        raster: reads pictures that are rasters; None leaves them to `read_image`.
    """

    name: str = ""
    title: ClassVar[str] = ""
    layout: ClassVar[str] = ""
    sample_layout: ClassVar[Layout] = "single"
    licence: str = "unknown"
    paper: str = ""
    homepage: str = ""
    published_counts: ClassVar[dict[str, int]] = {}
    semantic_classes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, root: str | Path, split: str, *, convert: bool = False) -> None:
        self.root = Path(os.path.normpath(Path(root).expanduser()))
        self.split = split
        self.convert = convert
        self.classes: list[str] | None = None
        self.entries: list[Entry] = []
        self.problems: list[str] = []
        self.division: dict[str, str] = {}
        self.raster: Rasters | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample.

        Raises:
            BrokenImage: its image cannot be used, or the two of a pair differ in size.
        """
        entry = self.entries[index]
        meta = {
            "id": entry.id,
            "dataset": self.name,
            "split": self.split,
            "licence": self.licence,
            "path": entry.path,
        }
        images = [self.image(index), *(self.picture(path) for path in entry.more)]
        if self.sample_layout == "before_after":
            same_size(images[0], images[-1], entry.paths[-1])
        sample = Sample(
            images=list(images),
            layout=self.sample_layout,
            texts=list(entry.texts),
            label=entry.label,
            meta=meta | self.facts(index),
        )
        self.annotate(sample, index)
        self.read_maps(sample, index)
        return sample

    def image(self, index: int) -> Image.Image:
        """Reads the image alone, or the first of several."""
        return self.picture(self.entries[index].path)

    def picture(self, path: str) -> Image.Image:
        """Reads one of its pictures, which is a file, a raster, or lies within a table.

        Raises:
            BrokenImage: it cannot be used.
        """
        if is_reference(path):
            return read_image(cell(path), self.convert, name=path)
        if self.raster is not None and is_raster(path):
            return self.raster.read(path)
        return read_image(path, self.convert)

    def facts(self, index: int) -> dict[str, Any]:
        """What the source says of a sample beside captions and class, for `Sample.meta`."""
        return self.entries[index].meta

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds dialogues or instances to the sample of entry `index`; here nothing.

        `rsvlm.data.inspection.describe` counts what it adds, with images that are opened when they
        are used.
        """

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds what lies in a file an image, as semantic maps do; here nothing."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r}, {self.split!r}): {len(self)} images"

    def not_found(self, what: str) -> UserError:
        """The error for a folder that is not this data set's, with the expected layout."""
        layout = self.layout.format(root=self.root)
        source = f" It can be had from {self.homepage}." if self.homepage else ""
        return UserError(
            f"{self.title} is not in {str(self.root)!r}: {what} Expected:\n\n{layout}\n\nSet "
            f"data.root= to the folder that holds it.{source}",
            code="no_data",
        )


def overrides(dataset: Any, method: str) -> bool:
    """Whether a data set's class has its own form of a method of `FileDataset`.

    Args:
        dataset: a data set of any kind.
        method: `facts`, `annotate` or `read_maps`.
    """
    own = getattr(type(dataset), method, None)
    return own is not None and own is not getattr(FileDataset, method)


def same_size(first: Image.Image, other: Image.Image, path: str) -> None:
    """Holds two pictures of one place against each other.

    Raises:
        BrokenImage: they differ in size.
    """
    if first.size != other.size:
        raise BrokenImage(
            path,
            f"is {other.width} x {other.height}, the first picture of its pair is {first.width} x "
            f"{first.height}. Both must show the same ground; cut or resize them alike.",
        )


def metric_word(text: str) -> str:
    """A name as metric names spell it: lower case, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_") or "dataset"


def listed(items: Iterable[str], n: int = 10) -> str:
    """The first few of a list, and how many more there are."""
    items = list(items)
    rest = f" and {len(items) - n} more" if len(items) > n else ""
    return ", ".join(map(printable, items[:n])) + rest


def split_error(split: str, known: dict[str, int], where: str) -> UserError:
    """The error for an unknown split, with those there are."""
    counts = ", ".join(f"{name} ({count})" for name, count in known.items())
    return UserError(f"{where} has no split {split!r}; it has {counts}. {near(split, known)}")


def file_and_folder(root: str | Path, given: Any, endings: Sequence[str]) -> tuple[str | Path, Any]:
    """The folder and the file of `data.root=`, where that names a file, as `my.json`.

    Args:
        root: of the data set; a file is one by its ending.
        given: the option that else names the file; stays what it is.
        endings: of such files.
    """
    path = Path(root).expanduser()
    if given is None and path.suffix.lower() in endings and path.is_file():
        return path.parent, path.name
    return root, given


def missing_files(folder: Path, names: Sequence[str]) -> list[str]:
    """The files that a folder lacks; each folder is listed once, no file is looked at."""
    listing = Listing()
    missing = []
    for name in names:
        parent, base = os.path.split(name)
        if not listing.held(os.path.join(folder, parent), base):
            missing.append(name)
    return missing
