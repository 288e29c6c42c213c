"""UCM-Captions: 2,100 aerial images of 21 classes with five captions each."""

from __future__ import annotations

from typing import ClassVar

from rsvlm.data.datasets.caption_json import CaptionJSON


class UCMCaptions(CaptionJSON):
    """UCM-Captions in its published JSON.

    Captions repeat much: the test split's 1,050 are 377 different sentences.

    Args:
        root: folder with dataset.json and imgs/ (or images/).
    """

    name = "ucm_captions"
    title: ClassVar[str] = "UCM-Captions"
    layout: ClassVar[str] = (
        "  {root}/\n    dataset.json\n    imgs/   or images/; 2,100 files, 1.tif ..."
    )
    image_folders: ClassVar[tuple[str, ...]] = ("imgs", "images", "UCM_images")
    licence = "images public domain (USGS); captions without licence text, for research"
    paper = (
        "B. Qu, X. Li, D. Tao, X. Lu. Deep semantic understanding of high resolution remote "
        "sensing image. CITS 2016"
    )
    homepage = "https://github.com/201528014227051/RSICD_optimal"
    published_counts: ClassVar[dict[str, int]] = {"train": 1680, "val": 210, "test": 210}
