"""AIR-SLT: 22 large aerial images, 59 sentences, and the regions that each speaks of."""

from __future__ import annotations

import math
import os
import warnings
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from rsvlm.data.datasets.base import Entry, FileDataset
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import EXTENSIONS, check_names
from rsvlm.data.sample import Instance, Sample
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError


class AIRSLT(FileDataset):
    """AIR-SLT, the test set of semantic localisation: a sample is a sentence about an image.

    An image has several samples; `meta["image"]` is its name, by which an evaluation encodes it
    once. `meta["polygons"]` are the sentence's regions, [[x, y], ...] in pixels as stored, and
    `instances` their upright boxes. There are no masks: at up to 10,000 x 10,000 pixels they are
    drawn where they are needed (`rsvlm.metrics.selo_image_ops.fill_polygons`).

    Args:
        root: folder of anno.json (or annotations/anno.json) and imgs/.
        split: `test`, the only one.
        images: the images' folder, relative to `root`. An image may have another ending than the
            annotations say (.tif for .jpg).
        missing: what becomes of images that are not there (`datasets/missing.py`); the default
            keeps the sentences, since images and annotations are published apart.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no annotations, or one that is malformed (by position).
    """

    name = "airslt"
    title: ClassVar[str] = "AIR-SLT"
    layout: ClassVar[str] = (
        "  {root}/\n    annotations/anno.json   or anno.json\n    imgs/   0.jpg ... 22 images"
    )
    licence = "no licence text; for research (Google Earth)"
    paper = (
        "Z. Yuan, W. Zhang, C. Li, Z. Pan, Y. Mao, J. Chen, S. Li, H. Wang, X. Sun. Learning to "
        "evaluate performance of multimodal semantic localization. IEEE TGRS 60, 2022. "
        "arXiv:2209.06515"
    )
    homepage = "https://github.com/xiaoyuan1996/SemanticLocalizationMetrics"
    #: Sentences, each of which is a sample.
    published_counts: ClassVar[dict[str, int]] = {"test": 59}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        images: str = "imgs",
        missing: Missing = "keep",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if split not in ("test", "all"):
            raise UserError(f"{self.title} has no split {split!r}; it has test.")
        places = [self.root / "annotations" / "anno.json", self.root / "anno.json"]
        found = [path for path in places if path.is_file()]
        if not found:
            raise self.not_found("there is no anno.json.")
        self.file = found[0]
        records = read_json(self.file)
        if not isinstance(records, list) or not records:
            raise UserError(f"{self.file} holds no list of annotations.")
        folder = self.root / images
        held = _images(folder)
        entries = [self._entry(record, i, folder, held) for i, record in enumerate(records)]
        names = list(dict.fromkeys(entry.meta["image"] for entry in entries))
        lost = [name for name in names if _stem(name) not in held]
        problem = report_missing(lost, len(names), str(folder), missing)
        if problem:
            self.problems.append(problem)
        gone = set(lost) if missing == "skip" else set()
        self.entries = [entry for entry in entries if entry.meta["image"] not in gone]
        if not self.entries:
            raise self.not_found("no image of the annotations is there.")

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the regions."""
        sample.instances = self.instances(index)

    def image(self, index: int) -> Image.Image:
        """Reads the image alone."""
        with warnings.catch_warnings():
            # 100 million pixels are this data set's business; Pillow's limit still holds.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return super().image(index)

    def instances(self, index: int) -> list[Instance]:
        """The regions of a sentence as boxes, without reading the image."""
        entry = self.entries[index]
        return [
            Instance(i, "region", phrase=entry.texts[0], box=_box(polygon))
            for i, polygon in enumerate(entry.meta["polygons"])
        ]

    def _entry(self, record: Any, index: int, folder: Path, held: dict[str, str]) -> Entry:
        record = record if isinstance(record, dict) else {}
        caption, name, points = (record.get(key) for key in ("caption", "jpg_name", "points"))
        who = f"{self.file}: [{index}] ({name or '?'})"
        if not isinstance(caption, str) or not caption.strip():
            raise UserError(f"{who} has no caption.")
        if not isinstance(name, str) or not name:
            raise UserError(f"{who} has no jpg_name.")
        check_names([name], [folder], who)
        if not isinstance(points, list) or not points:
            raise UserError(f"{who} has no polygon under points.")
        polygons = []
        for number, polygon in enumerate(points):
            try:
                corners = [[float(x), float(y)] for x, y in polygon]
            except (TypeError, ValueError) as error:
                raise UserError(f"{who}, polygon {number}: not a list of [x, y].") from error
            if len(corners) < 3 or not all(map(math.isfinite, chain(*corners))):
                raise UserError(f"{who}, polygon {number}: fewer than 3 corners, or not finite.")
            x0, y0, x1, y1 = _box(corners)
            if not (x1 > x0 and y1 > y0):
                raise UserError(f"{who}, polygon {number}: it has no area.")
            polygons.append(corners)
        return Entry(
            id=f"{_stem(name)}_{index:02d}",
            path=str(folder / held.get(_stem(name), name)),
            texts=(caption.strip(),),
            meta={"image": name, "polygons": polygons},
        )


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]


def _images(folder: Path) -> dict[str, str]:
    """From the stems of the images in a folder to their names."""
    names = sorted(os.listdir(folder)) if folder.is_dir() else []
    return {_stem(n): n for n in names if os.path.splitext(n)[1].lower() in EXTENSIONS}


def _box(polygon: list[list[float]]) -> tuple[float, float, float, float]:
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)
