"""RSVG: 7,933 expressions, each for one object in an aerial picture of 1,024 x 1,024 pixels."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch

from rsvlm.data.datasets.base import Entry
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.refer import Refer
from rsvlm.data.datasets.regions import Region, box_convention
from rsvlm.errors import UserError

Boxes = Literal["auto", "xyxy", "xywh"]

#: What torch raises on files that it cannot or may not read.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, TypeError)


class RSVG(Refer):
    """RSVG; a sample is an expression.

    It is passed on in two forms, and both are read: lists of (picture, box, expression, ...) saved
    by torch, one for each split, or one pickle and one JSON in RefCOCO's format. Which corners the
    boxes of the former give is written nowhere: see `boxes`.

    Args:
        root: folder of images/ and of the annotations.
        split: `train`, `val`, `test`, or, in RefCOCO's format, `all`.
        boxes: `xyxy`, `xywh`, or `auto`: two corners, unless more than one box in twenty would have
            no inside. `notes` tells which it was.
        missing: what becomes of pictures that are not there (`datasets/missing.py`).
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged, or hold more than lists, texts and numbers.
    """

    name = "rsvg"
    title: ClassVar[str] = "RSVG"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    images/\n"
        "    rsvg_train.pth  rsvg_val.pth  rsvg_test.pth   or refs_rsvg.p and instances_rsvg.json"
    )
    licence = "no licence text; for research"
    paper = (
        "Y. Sun, S. Feng, X. Li, Y. Ye, J. Kang, X. Huang. Visual grounding in remote sensing "
        "images. ACM MM 2022"
    )
    homepage = "https://sunyuxi.github.io/publication/GeoVG"
    #: Expressions, each of which is a sample.
    published_counts: ClassVar[dict[str, int]] = {"train": 5505, "val": 1201, "test": 1227}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        boxes: Boxes = "auto",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        if boxes not in ("auto", "xyxy", "xywh"):
            raise UserError(f"boxes={boxes!r}: it is auto, xyxy or xywh.")
        folders = [self.root / "images"]
        refs, instances = self.root / "refs_rsvg.p", self.root / "instances_rsvg.json"
        places = [self.root / f"rsvg_{split}.pth", self.root / "rsvg" / f"rsvg_{split}.pth"]
        listing = next((path for path in places if path.is_file()), None)
        if listing is not None:
            self._listing(listing, folders, boxes, missing)
        elif refs.is_file() and instances.is_file():
            self.fill(refs, instances, folders, missing, masks=False)
        else:
            raise self.not_found(f"there is no rsvg_{split}.pth.")
        self.tell()

    def _listing(self, path: Path, folders: list[Path], boxes: str, missing: Missing) -> None:
        try:
            rows = torch.load(path, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            raise UserError(
                f"{path} cannot be read safely ({str(error).splitlines()[0]}). Only lists, texts, "
                "numbers and tensors are read; was its download cut short?"
            ) from error
        for number, row in enumerate(rows if isinstance(rows, list | tuple) else [None]):
            if not isinstance(row, list | tuple) or len(row) < 3 or not isinstance(row[0], str):
                raise UserError(f"{path}: [{number}] is not (picture, box, expression, ...).")
        plain = [_numbers(row[1]) for row in rows]
        if boxes == "auto":
            boxes = box_convention(plain)
        self.notes.append(f"boxes were read as {boxes}.")
        self.categories = ["target"]  # the files have no classes
        paths = self.located(folders, [row[0] for row in rows], missing)
        for number, (row, box) in enumerate(zip(rows, plain, strict=True)):
            if row[0] not in paths:
                continue
            who = f"[{number}] ({row[0]})"
            phrase = row[2].strip() if isinstance(row[2], str) else ""
            if not phrase:
                self.fault("object(s) have no expression", who)
            if boxes == "xywh" and box is not None and len(box) == 4:
                box = [box[0], box[1], box[0] + box[2], box[1] + box[3]]
            self.add(
                Entry(f"{self.split}_{number}", paths[row[0]], meta={"image": row[0]}),
                [Region(0, "target", 0, phrase or None, self.box(box, who))],
            )


def _numbers(box: Any) -> list[float] | None:
    """A box as a list, whether it is a list, a tuple or a tensor; None if it is none."""
    try:
        return [float(value) for value in box]
    except (TypeError, ValueError):
        return None
