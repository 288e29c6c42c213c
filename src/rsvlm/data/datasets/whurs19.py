"""WHU-RS19: 1,005 Google Earth images of 19 scene classes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.scene_folder import SceneFolder
from rsvlm.data.folders import EXTENSIONS
from rsvlm.errors import UserError

CLASSES = (
    "airport",
    "beach",
    "bridge",
    "commercial",
    "desert",
    "farmland",
    "football field",
    "forest",
    "industrial",
    "meadow",
    "mountain",
    "park",
    "parking",
    "pond",
    "port",
    "railway station",
    "residential",
    "river",
    "viaduct",
)
_BY_LETTERS = {name.replace(" ", ""): name for name in CLASSES}


class WHURS19(SceneFolder):
    """WHU-RS19, as a folder per class or as one folder of `<class>_<nn>.jpg`.

    The data set has no published split. `train`, `val` and `test` are those of few-shot
    evaluations (github.com/elkhouryk/fewshot_RSVLMs, datasets/whurs/split.json) and need that
    file; zero-shot results are over `all`.

    Args:
        root: the folder with the classes' folders or images/.
        split: `all`, or `train`, `val`, `test`.
        split_file: the split file, relative to `root`.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `SceneFolder`.
    """

    name = "whurs19"
    title: ClassVar[str] = "WHU-RS19"
    layout: ClassVar[str] = (
        "  {root}/Airport/airport_01.jpg ...   the published archive, or\n"
        "  {root}/images/airport_01.jpg ...    one folder\n"
        "  {root}/split.json                   for split=train, val or test"
    )
    licence = "no licence text; for research (Google Earth)"
    paper = (
        "D. Dai, W. Yang. Satellite image classification via two-layer sparse coding with biased "
        "image representation. IEEE GRSL 8(1), 2011"
    )
    homepage = "https://captain-whu.github.io/BED4RS/"
    published_counts: ClassVar[dict[str, int]] = {
        "all": 1005,
        "train": 505,
        "val": 260,
        "test": 240,
    }

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        split_file: str = "split.json",
        convert: bool = False,
    ) -> None:
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if split not in self.published_counts:
            known = ", ".join(self.published_counts)
            raise UserError(f"WHU-RS19 has no split {split!r}; it has {known}.")
        if split != "all" and not (self.root / split_file).is_file():
            raise UserError(
                f"split={split!r} of WHU-RS19 needs {self.root / split_file}, which "
                "github.com/elkhouryk/fewshot_RSVLMs has as datasets/whurs/split.json; split=all "
                "needs none."
            )
        flat = any(
            os.path.splitext(entry.name)[1].lower() in EXTENSIONS
            for entry in os.scandir(self.images_folder())
        )
        super().__init__(
            root,
            split,
            classes=CLASSES,
            class_from="file_prefix" if flat else "folder",
            split_file=None if split == "all" else split_file,
            convert=convert,
        )

    def images_folder(self) -> Path:
        """The folder images/, where there is one."""
        folder = self.root / "images"
        return folder if folder.is_dir() else self.root

    def class_name(self, raw: str) -> str:
        """Spaced names, whatever the spelling: footballField, football_field, footballfield."""
        return _BY_LETTERS.get(re.sub(r"[^a-z]", "", raw.lower()), raw)
