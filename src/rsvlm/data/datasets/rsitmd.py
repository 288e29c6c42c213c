"""RSITMD: 4,743 aerial images with five fine-grained captions each."""

from __future__ import annotations

from typing import ClassVar

from rsvlm.data.datasets.caption_json import CaptionJSON


class RSITMD(CaptionJSON):
    """RSITMD in its published JSON; it has no validation split.

    Args:
        root: folder with dataset_RSITMD.json and images/.
    """

    name = "rsitmd"
    title: ClassVar[str] = "RSITMD"
    layout: ClassVar[str] = (
        "  {root}/\n    dataset_RSITMD.json\n    images/   4,743 files, airport_0.tif ..."
    )
    file_name: ClassVar[str] = "dataset_RSITMD.json"
    image_folders: ClassVar[tuple[str, ...]] = ("images", "RSITMD_images")
    licence = "no licence text; for research (RSICD's sources and Google Earth)"
    paper = (
        "Z. Yuan, W. Zhang, K. Fu, X. Li, C. Deng, H. Wang, X. Sun. Exploring a fine-grained "
        "multiscale method for cross-modal remote sensing image retrieval. IEEE TGRS 60, 2022. "
        "arXiv:2204.09868"
    )
    homepage = "https://github.com/xiaoyuan1996/AMFMN"
    published_counts: ClassVar[dict[str, int]] = {"train": 4291, "test": 452}
