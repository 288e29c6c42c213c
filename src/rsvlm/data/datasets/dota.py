"""DOTA: large aerial pictures, and a quadrilateral around each object."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsvlm.data.datasets.base import Entry, listed, metric_word
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.regions import Box, Region, Regions
from rsvlm.data.folders import EXTENSIONS
from rsvlm.data.geometry import enclosing, turned
from rsvlm.data.text_files import read_lines
from rsvlm.errors import UserError

#: Classes of DOTA v1.0, v1.5 (container-crane) and v2.0 (airport, helipad).
CLASSES: tuple[str, ...] = (
    "plane",
    "ship",
    "storage-tank",
    "baseball-diamond",
    "tennis-court",
    "basketball-court",
    "ground-track-field",
    "harbor",
    "bridge",
    "large-vehicle",
    "small-vehicle",
    "helicopter",
    "roundabout",
    "soccer-ball-field",
    "swimming-pool",
    "container-crane",
    "airport",
    "helipad",
)


class DOTA(Regions):
    """DOTA as published: text files of corners; a sample is a picture with all its objects.

    A line is `x1 y1 x2 y2 x3 y3 x4 y4 class difficult`, the corners clockwise from the object's
    own top left; above stand `imagesource` and `gsd`. Where the corners are those of a rectangle,
    the object has its oriented box, whose unturned form has the first side on top; where they are
    not, the upright box around them. `meta["corners"]` has all four of every object, by id,
    `meta["difficult"]` the ids of those that are hard to see.

    Args:
        root: folder of train/, val/ and test/, each with images/ and labelTxt/.
        split: one of them; `all` where `root` itself holds images/ and labelTxt/.
        tolerance: pixels that a corner may lie off and the four still are a rectangle. Published
            corners are whole pixels, so a rectangle's may be off by 0.7; by one pixel, 898 of the
            984 objects in seven pictures are rectangles, by two, 964.
        classes: names of the classes of files of your own in this format; by default DOTA's.
        name: word for metric names, where the files are your own.
        missing: what becomes of pictures that labels name and that are not there.
        convert: turn pictures that are not 8-bit RGB into it (some have one band), instead of
            refusing them.

    Raises:
        UserError: files are missing or damaged (file and line).
    """

    name = "dota"
    title: ClassVar[str] = "DOTA"
    layout: ClassVar[str] = (
        "  {root}/train/   also val/, test/\n"
        "    images/       P0000.png ...\n"
        "    labelTxt/     P0000.txt ...   or labelTxt-v1.0/, -v1.5/, -v2.0/"
    )
    licence = "academic use only (DOTA)"
    paper = (
        "G.-S. Xia et al. DOTA: A large-scale dataset for object detection in aerial images. CVPR "
        "2018. arXiv:1711.10398"
    )
    homepage = "https://captain-whu.github.io/DOTA"
    #: Of version 1.0.
    published_counts: ClassVar[dict[str, int]] = {"train": 1411, "val": 458, "test": 937}

    def __init__(
        self,
        root: str | Path,
        split: str = "val",
        *,
        tolerance: float = 1.0,
        classes: Sequence[str] | None = None,
        name: str | None = None,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        self.tolerance = tolerance
        self.categories = [str(each) for each in classes or CLASSES]
        if name or classes:
            self.name, self.licence = name or metric_word(self.root.name), "unknown"
            self.published_counts = {}  # type: ignore[misc]
        folder = self.root if split == "all" else self.root / split
        if not folder.is_dir():
            hint = ""
            if (self.root / "images").is_dir():
                hint = " The folder itself holds images/: read it with split=all."
            raise self.not_found(f"there is no folder {split}.{hint}")
        labels = self._labels(folder)
        if not labels and split != "test":
            raise self.not_found(f"there is no labelTxt/ with files in {folder.name}/.")
        images = folder / "images"
        held = sorted(path.name for path in images.glob("*")) if images.is_dir() else []
        pictures = {Path(n).stem: n for n in held if Path(n).suffix.lower() in EXTENSIONS}
        if not pictures and not labels:
            raise self.not_found("there are no pictures.")
        bare = [name for stem, name in pictures.items() if stem not in labels]
        if bare and labels:
            self.problems.append(
                f"{len(bare)} of {len(pictures)} pictures have no labels: {listed(bare)}."
            )
        stems = sorted(set(pictures) | set(labels))
        names = {stem: pictures.get(stem, f"{stem}.png") for stem in stems}
        paths = self.located([images], list(names.values()), missing)
        for stem, file in names.items():
            if file not in paths:
                continue
            regions, meta = self._read(labels[stem]) if stem in labels else ([], {})
            self.add(Entry(file, paths[file], meta=meta), regions)
        self.tell()

    def _labels(self, folder: Path) -> dict[str, Path]:
        """Name without ending → label file, from the first folder that has any."""
        places = [folder / "labelTxt"]
        for version in ("v1.0", "v1.5", "v2.0"):
            places += [folder / f"labelTxt-{version}" / "labelTxt", folder / f"labelTxt-{version}"]
        for place in places:
            held = sorted(place.iterdir()) if place.is_dir() else []
            found = [path for path in held if path.suffix.lower() == ".txt"]
            if found:
                return {path.stem: path for path in found}
        return {}

    def _read(self, path: Path) -> tuple[list[Region], dict[str, Any]]:
        meta: dict[str, Any] = {"corners": {}, "difficult": []}
        regions = []
        for line, text in enumerate(read_lines(path), 1):
            key, colon, value = text.strip().partition(":")
            if colon:
                self._head(key, value.strip(), meta)
                continue
            if not text.strip():
                continue
            region, corners, difficult = self._line(text.split(), f"{path}, line {line}", line)
            regions.append(region)
            meta["corners"][region.id] = corners
            if difficult:
                meta["difficult"].append(region.id)
        return regions, meta

    def _head(self, key: str, value: str, meta: dict[str, Any]) -> None:
        if key == "imagesource" and value:
            meta["sensor"] = value
        elif key == "gsd":
            try:
                meta["gsd"] = float(value)
            except ValueError:
                return  # `null`, where it is not known

    def _line(
        self, words: list[str], where: str, line: int
    ) -> tuple[Region, tuple[tuple[float, float], ...], bool]:
        try:
            numbers = [float(word) for word in words[:8]]
        except ValueError as error:
            raise UserError(
                f"{where}: the eight corners are not all numbers. A line is `x1 y1 x2 y2 x3 y3 x4 "
                "y4 class difficult`, with spaces between."
            ) from error
        if not 9 <= len(words) <= 10 or not all(map(math.isfinite, numbers)):
            raise UserError(
                f"{where}: {' '.join(words)[:60]!r} is not `x1 y1 x2 y2 x3 y3 x4 y4 class "
                "difficult`, with a class of one word. Was its download cut short, or is it in "
                "another format (YOLO's has five numbers)?"
            )
        who = f"{Path(where.partition(',')[0]).name} line {line}"
        category = words[8]
        if category not in self.categories:
            self.fault(f"object(s) are of a class that is not DOTA's ({category})", who)
        if len(words) == 10 and words[9] not in ("0", "1", "2"):
            self.fault("object(s) have a mark of difficulty that is not 0, 1 or 2", who)
        corners = np.array(numbers).reshape(4, 2)
        box, angle, off = rectangle(corners)
        if off > self.tolerance:
            box, angle = enclosing(corners), None
        x0, y0, x1, y1 = box
        if not (x1 > x0 and y1 > y0):
            self.fault("object(s) have corners without an inside, and are without a box", who)
        region = Region(
            line,
            category,
            self.categories.index(category) if category in self.categories else None,
            box=box if x1 > x0 and y1 > y0 else None,
            angle=angle if x1 > x0 and y1 > y0 else None,
        )
        pairs = tuple((float(x), float(y)) for x, y in corners)
        return region, pairs, len(words) == 10 and words[9] != "0"


def rectangle(corners: np.ndarray) -> tuple[Box, float | None, float]:
    """The rectangle that four corners come closest to.

    Its centre is their mean, its sides the means of opposite sides, its direction the mean of the
    directions of both, weighted by their lengths.

    Args:
        corners: [4, 2] in order around it.

    Returns:
        Its unturned form with the first side on top, its angle as `Instance.angle` in [-90, 90),
        and the farthest that a coordinate lies off.
    """
    centre = corners.mean(0)
    along = (corners[1] - corners[0] + corners[2] - corners[3]) / 2
    across = (corners[3] - corners[0] + corners[2] - corners[1]) / 2
    # Where the corners run the other way round, the second side points to the other side.
    way = 1.0 if along[0] * across[1] - along[1] * across[0] >= 0 else -1.0
    direction = along + way * np.array([across[1], -across[0]])
    length = math.hypot(*direction)
    if not length:
        return enclosing(corners), None, math.inf
    unit = direction / length
    wide = float(along @ unit)
    high = float(way * (across @ np.array([-unit[1], unit[0]])))
    box = (
        float(centre[0] - wide / 2),
        float(centre[1] - high / 2),
        float(centre[0] + wide / 2),
        float(centre[1] + high / 2),
    )
    angle = -math.degrees(math.atan2(unit[1], unit[0]))
    # A half turn gives the same rectangle, and leaves the unturned form as it is.
    angle = (angle + 90) % 180 - 90
    ideal = turned(box, -math.degrees(math.atan2(unit[1], unit[0])))
    found = corners if way > 0 else corners[[3, 2, 1, 0]]
    return box, angle, float(np.abs(ideal - found).max())
