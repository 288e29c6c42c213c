"""Sydney-Captions: 613 aerial images of 7 classes with five captions each."""

from __future__ import annotations

from typing import ClassVar

from rsvlm.data.datasets.caption_json import CaptionJSON


class SydneyCaptions(CaptionJSON):
    """Sydney-Captions in its published JSON.

    Args:
        root: folder with dataset.json and imgs/ (or images/).
    """

    name = "sydney_captions"
    title: ClassVar[str] = "Sydney-Captions"
    layout: ClassVar[str] = (
        "  {root}/\n    dataset.json\n    imgs/   or images/; 613 files, 1.tif ..."
    )
    image_folders: ClassVar[tuple[str, ...]] = ("imgs", "images", "Sydney_images")
    licence = "no licence text; for research (Google Earth)"
    paper = (
        "B. Qu, X. Li, D. Tao, X. Lu. Deep semantic understanding of high resolution remote "
        "sensing image. CITS 2016"
    )
    homepage = "https://github.com/201528014227051/RSICD_optimal"
    published_counts: ClassVar[dict[str, int]] = {"train": 497, "val": 58, "test": 58}
