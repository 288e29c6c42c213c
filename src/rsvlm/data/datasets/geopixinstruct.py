"""GeoPixInstruct: descriptions and masks of objects in pictures of DIOR, FAIR1M and DOTA."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from rsvlm.data import rle
from rsvlm.data.datasets.base import Entry, split_error
from rsvlm.data.datasets.coco import corners, whole_sides
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.regions import Region, Regions, bounds, box_convention
from rsvlm.errors import UserError, extra

Boxes = Literal["auto", "xyxy", "xywh"]

#: Published part → its images, in the order in which they are read (the data set's card).
PARTS: dict[str, int] = {
    "train.SIOR_T": 8992,
    "train.FAST_T": 36665,
    "train.SOTA_T": 9037,
    "valid.SIOR_T": 900,
    "valid.FAST_T": 2291,
    "valid.SOTA_T": 458,
}
_SPLITS = {
    word: tuple(part for part in PARTS if part.startswith(f"{prefix}."))
    for word, prefix in (("train", "train"), ("val", "valid"), ("valid", "valid"))
}
#: Above all published class numbers (75 classes).
_CLASSES = 1000
#: Masks that are looked at to find out what kind of boxes the files have.
_VOTES = 200


class GeoPixInstruct(Regions):
    """GeoPixInstruct as published: parquet files of annotations; the images are those of SAMRS.

    A sample is an image with all its objects, each with its description as phrase. Whether a box
    is two corners or a corner and a size is written nowhere: it is found out by holding boxes
    against masks, and told in `notes` and `meta["box_convention"]`. `category_id` is the published
    one, which the class memory of GeoPix goes by.

    The published files hold 58,343 images, the paper counts 65,463; a test split is not published.

    Args:
        root: folder of the parquet files (or of data/ with them) and of the images.
        split: `train`, `val`, a part as `train.SIOR_T`, or several joined with `+`.
        images: the images' folder, relative to `root`; by default images/ or `root`.
        boxes: `xyxy`, `xywh`, or `auto`.
        masks: serve masks.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or of another form, an unknown option, or no pyarrow.
    """

    name = "geopixinstruct"
    title: ClassVar[str] = "GeoPixInstruct"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    data/train.SIOR_T-00000-of-00001.parquet ...   train and valid of three sources\n"
        "    images/   as `image_path` names them, from DIOR, FAIR1M and DOTA (SAMRS)"
    )
    licence = "MIT (annotations); images under the terms of their sources"
    paper = (
        "R. Ou, Y. Hu, F. Zhang, J. Chen, Y. Liu. GeoPix: Multi-modal large language model for "
        "pixel-level image understanding in remote sensing. IEEE GRSM 2025. arXiv:2501.06828"
    )
    homepage = "https://huggingface.co/datasets/Norman-ou/GeoPixInstruct-Anno"
    published_counts: ClassVar[dict[str, int]] = {
        **{word: sum(PARTS[p] for p in parts) for word, parts in _SPLITS.items()},
        **PARTS,
    }

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str | None = None,
        boxes: Boxes = "auto",
        masks: bool = True,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        if boxes not in ("auto", "xyxy", "xywh"):
            raise UserError(f"boxes={boxes!r}: it is auto, xyxy or xywh.")
        parts = [p for word in split.split("+") for p in _SPLITS.get(word, (word,))]
        for part in parts:
            if part not in PARTS:
                known = {w: self.published_counts[w] for w in ("train", "val", *PARTS)}
                raise split_error(part, known, self.title)
        rows = [row for part in parts for row in self._rows(part)]
        self.box_convention = boxes if boxes != "auto" else self._vote(rows)
        self.notes.append(f"boxes were read as {self.box_convention}.")
        names = [str(row["image_path"]).removeprefix("./").lstrip("/") for row in rows]
        folders = [self.root / images] if images else [self.root / "images", self.root]
        paths = self.located(folders, names, missing)
        kinds: dict[int, str] = {}
        seen: set[str] = set()
        for name, row in zip(names, rows, strict=True):
            key = str(row["image_id"])
            if key in seen:
                self.fault("image id(s) repeat", key)
                key = f"{key} ({name})"
            seen.add(key)
            regions, frame = self._objects(row, key, kinds, masks)
            if name not in paths:
                continue
            meta = {
                "image": name,
                "box_convention": self.box_convention,
                "instance_ids": [str(entry.get("instance_id")) for entry in row["instances"]],
            }
            self.add(Entry(key, paths[name], meta=meta), regions, frame)
        self.categories = [kinds.get(k, "") for k in range(max(kinds, default=-1) + 1)]
        self.tell()

    def _rows(self, part: str) -> Iterator[dict[str, Any]]:
        with extra("readers"):
            from pyarrow import ArrowInvalid, parquet
        files: list[Path] = []
        for folder in (self.root / "data", self.root):
            files = files or sorted(folder.glob(f"{part}-*.parquet"))
        if not files:
            raise self.not_found(f"there is no {part}-*.parquet.")
        for file in files:
            try:
                rows = parquet.read_table(file).to_pylist()
            except (ArrowInvalid, OSError) as error:
                raise UserError(
                    f"{file} is no whole parquet file ({error}). Was its download cut short, or is "
                    "it a Git LFS pointer?"
                ) from error
            for number, row in enumerate(rows):
                lacking = [k for k in ("image_id", "image_path") if not row.get(k)]
                objects = row.get("instances")
                if not isinstance(objects, list) or not all(isinstance(o, dict) for o in objects):
                    lacking.append("instances")
                if lacking:
                    what = ", ".join(lacking)
                    raise UserError(f"{file}: row {number} has no {what}.")
                yield row

    def _vote(self, rows: list[dict[str, Any]]) -> str:
        """What kind the boxes are of, by those whose objects have masks."""
        votes: list[bool] = []
        every = [entry for row in rows for entry in row["instances"] if entry.get("bbox")]
        for entry in every:
            if len(votes) == _VOTES:
                break
            try:
                around = bounds(rle.decode(entry.get("mask") or {}))
            except rle.MaskError:
                continue
            box = np.array([math.nan if v is None else v for v in entry["bbox"]], float)
            if around is None or box.shape != (4,) or not np.isfinite(box).all():
                continue
            ends = np.abs(box - around).max()
            side = np.abs(np.concatenate([box[:2], box[:2] + box[2:]]) - around).max()
            if ends != side:
                votes.append(bool(ends < side))
        if not votes:
            return box_convention([entry["bbox"] for entry in every])
        agree = sum(votes) / len(votes)
        if max(agree, 1 - agree) < 0.95:
            self.problems.append(
                f"boxes fit their masks as two corners in {sum(votes)} of {len(votes)} objects and "
                "as corner and size in the others; set boxes=xyxy or boxes=xywh."
            )
        return "xyxy" if agree >= 0.5 else "xywh"

    def _objects(
        self, row: Mapping[str, Any], key: str, kinds: dict[int, str], masks: bool
    ) -> tuple[list[Region], tuple[int, int] | None]:
        regions = []
        sizes: list[tuple[int, int]] = []
        for number, entry in enumerate(row["instances"]):
            who = f"{key}[{number}]"
            stored = entry.get("mask")
            size = whole_sides(stored.get("size") if isinstance(stored, dict) else None)
            if size is not None:
                sizes.append(size)
            frame = sizes[0] if sizes else None
            box = entry.get("bbox")
            box = corners(box) if self.box_convention == "xywh" else box
            category, id = str(entry.get("category") or ""), entry.get("category_id")
            if not category or not isinstance(id, int) or not 0 <= id < _CLASSES:
                self.fault("object(s) have no class, or one without a number", who)
                id = None
            elif kinds.setdefault(id, category) != category:
                self.fault(f"object(s) share a class number with {kinds[id]!r}", who)
            phrase = str(entry.get("description") or "").strip()
            if not phrase:
                self.fault("object(s) have no description", who)
            regions.append(
                Region(
                    number,
                    category,
                    id,
                    phrase or None,
                    self.box(box, who, frame),
                    mask=self.mask(stored, who, frame) if masks else None,
                )
            )
        return regions, sizes[0] if sizes else None
