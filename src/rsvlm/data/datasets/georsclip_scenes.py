"""GeoRSCLIP's three classification sets, as its evaluation archive has them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.pairs import known_part
from rsvlm.data.datasets.scene_folder import SceneFolder
from rsvlm.data.text.class_prompts import georsclip_name

#: Folder of each set below rs5m_test_data.
FOLDERS = {"aid": "AID", "resisc45": "RESISC45", "eurosat": "eurosat-rgb/2750"}


class GeoRSCLIPScenes(SceneFolder):
    """AID, RESISC45 and EuroSAT whole, a folder a class; classes are named as published.

    The published rule makes names of folders' by lower case and blanks for `_` and `/`, no more: a
    folder `AnnualCrop` is asked for as `annualcrop`. SkyScript's AID has 2,000 images and other
    names, so that the two accuracies do not compare.

    Args:
        root: the folder rs5m_test_data.
        split: `aid`, `resisc45` or `eurosat`; metrics are named after it.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: an unknown set, and see `SceneFolder`.
    """

    name = "georsclip_scenes"
    title: ClassVar[str] = "GeoRSCLIP's evaluation data"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    AID/<class>/<image>             30 classes\n"
        "    RESISC45/<class>/<image>        45 classes\n"
        "    eurosat-rgb/2750/<class>/<image>  10 classes"
    )
    licence = "no licence text; for research, each set under its own terms"
    paper = (
        "Z. Zhang, T. Zhao, Y. Guo, J. Yin. RS5M and GeoRSCLIP: A large-scale vision-language "
        "dataset and a large vision-language model for remote sensing. IEEE TGRS 62, 2024. "
        "arXiv:2306.11300"
    )
    homepage = "https://huggingface.co/Zilun/GeoRSCLIP"
    published_counts: ClassVar[dict[str, int]] = {"aid": 10000, "resisc45": 31500, "eurosat": 27000}

    def __init__(self, root: str | Path, split: str = "aid", *, convert: bool = False) -> None:
        known_part(split, tuple(FOLDERS), "split")
        self._folder = FOLDERS[split]
        self.root = Path(root).expanduser()
        if not self.images_folder().is_dir():
            raise self.not_found(f"there is no folder {self._folder}.")
        super().__init__(root, "all", name=split, convert=convert)
        self.split = split

    def images_folder(self) -> Path:
        """The set's own folder."""
        return self.root / self._folder

    def class_name(self, raw: str) -> str:
        """The published name of a folder's class."""
        return georsclip_name(raw)
