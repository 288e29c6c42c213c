"""RRSIS-D: 17,402 expressions, each with the mask of one object in a picture of DIOR."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.refer import Refer


class RRSISD(Refer):
    """RRSIS-D as published, in RefCOCO's format; a sample is an expression.

    Some pictures are a little larger or smaller than their masks (800 x 787 for 800 x 800): masks
    follow the picture by the nearest pixel, see `Regions`. The XML files in ann_split/ have further
    expressions without masks, and are not read.

    Args:
        root: folder of rrsisd/ and images/ (`refer/data` of the authors' code).
        split: `train`, `val`, `test` or `all`.
        masks: serve masks.
        missing: what becomes of pictures that are not there (`datasets/missing.py`).
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged, or the pickle wants to run code.
    """

    name = "rrsis_d"
    title: ClassVar[str] = "RRSIS-D"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    rrsisd/refs(unc).p\n"
        "    rrsisd/instances.json\n"
        "    images/rrsisd/JPEGImages/   00001.jpg ..."
    )
    licence = "no licence text; for research (DIOR)"
    paper = (
        "S. Liu, Y. Ma, X. Zhang, H. Wang, J. Ji, X. Sun, R. Ji. Rotated multi-scale interaction "
        "network for referring remote sensing image segmentation. CVPR 2024. arXiv:2312.12470"
    )
    homepage = "https://github.com/Lsan2401/RMSIN"
    #: Expressions, each of which is a sample.
    published_counts: ClassVar[dict[str, int]] = {"train": 12181, "val": 1740, "test": 3481}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        masks: bool = True,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        places = [self.root / "rrsisd", self.root]
        for word in ("refs(unc).p", "instances.json"):
            if not any((place / word).is_file() for place in places):
                raise self.not_found(f"there is no {word}.")
        refs, instances = (
            next(place / word for place in places if (place / word).is_file())
            for word in ("refs(unc).p", "instances.json")
        )
        folders = [self.root / "images" / "rrsisd" / "JPEGImages", self.root / "JPEGImages"]
        self.fill(refs, instances, folders, missing, masks)
        self.tell()
