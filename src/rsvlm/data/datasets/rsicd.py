"""RSICD: 10,921 aerial images with five captions each."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.karpathy import Karpathy


class RSICD(Karpathy):
    """RSICD in its published JSON.

    The same sentence often describes several images, and some images repeat one sentence five
    times; metrics must cope, and this reader leaves captions as they are.

    Args:
        root: folder with dataset_rsicd.json and the images.
        split: `train`, `val`, `test`, several joined with `+`, or `all`.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `Karpathy`.
    """

    name = "rsicd"
    title: ClassVar[str] = "RSICD"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    dataset_rsicd.json\n"
        "    RSICD_images/   or images/; 10,921 files, airport_1.jpg ..."
    )
    image_folders: ClassVar[tuple[str, ...]] = ("RSICD_images", "images")
    licence = "no licence text; for research (Google Earth, Baidu Map, MapABC, Tianditu)"
    paper = (
        "X. Lu, B. Wang, X. Zheng, X. Li. Exploring models and data for remote sensing image "
        "caption generation. IEEE TGRS 56(4), 2018. arXiv:1712.07835"
    )
    homepage = "https://github.com/201528014227051/RSICD_optimal"
    published_counts: ClassVar[dict[str, int]] = {"train": 8734, "val": 1094, "test": 1093}

    def __init__(self, root: str | Path, split: str = "test", *, convert: bool = False) -> None:
        file = "dataset_rsicd.json"
        super().__init__(root, split, annotations=file, convert=convert)
