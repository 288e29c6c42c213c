"""LEVIR-CC: 10,077 pairs of aerial images with five captions of what changed."""

from __future__ import annotations

from typing import ClassVar

from rsvlm.data.datasets.change_captions import ChangeCaptions
from rsvlm.data.text.no_change import NO_CHANGE


class LevirCC(ChangeCaptions):
    """LEVIR-CC in its published JSON, the one with `changeflag` or the one before it.

    File names count with gaps: 10,077 pairs reach up to train_007590.

    Args:
        root: folder with LevirCCcaptions.json and images/.
    """

    name = "levir_cc"
    title: ClassVar[str] = "LEVIR-CC"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    LevirCCcaptions.json\n"
        "    images/train/A/train_000001.png ...  images/train/B/   and val/, test/"
    )
    file_names: ClassVar[tuple[str, ...]] = ("LevirCCcaptions.json", "LevirCCcaptions_v1.json")
    image_folders: ClassVar[tuple[str, ...]] = ("images",)
    no_change: ClassVar[frozenset[str]] = frozenset(NO_CHANGE["levir_cc"])
    licence = "card says Apache-2.0; Google Earth's images for academic use only"
    paper = (
        "C. Liu, R. Zhao, H. Chen, Z. Zou, Z. Shi. Remote sensing image change captioning with "
        "dual-branch transformers: a new method and a large scale dataset. IEEE TGRS 60, 2022"
    )
    homepage = "https://huggingface.co/datasets/lcybuaa/LEVIR-CC"
    published_counts: ClassVar[dict[str, int]] = {"train": 6815, "val": 1333, "test": 1929}
