"""SECOND-CC: pairs of images with semantic maps and five captions of what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry
from rsvlm.data.datasets.change_captions import ChangeCaptions
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.palette import SECOND, check_size, read_palette
from rsvlm.data.sample import Sample
from rsvlm.data.text.no_change import NO_CHANGE


class SecondCC(ChangeCaptions):
    """SECOND-CC as distributed, SECOND-CC-AUG: training and validation doubled by augmentation.

    Maps are read by exact colour and hold the ids of `palette.SECOND`; white, what has not
    changed, is the last one.

    Args:
        root: the folder SECOND-CC-AUG.
        split: `train`, `val`, `test`, several joined with `+`, or `all`.
        annotations: the JSON, relative to `root`.
        images: the splits' folder, relative to `root`.
        maps: read the semantic maps; models of images alone do without.
        missing: what becomes of pairs whose files are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `ChangeCaptions`.
    """

    name = "second_cc"
    title: ClassVar[str] = "SECOND-CC"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    SECOND-CC-AUG.json\n"
        "    train/rgb/A/  train/rgb/B/   images\n"
        "    train/sem/A/  train/sem/B/   maps of the same names; and val/, test/"
    )
    file_names: ClassVar[tuple[str, ...]] = ("SECOND-CC-AUG.json",)
    image_folders: ClassVar[tuple[str, ...]] = (".",)
    no_change: ClassVar[frozenset[str]] = frozenset(NO_CHANGE["second_cc"])
    semantic_classes: ClassVar[tuple[str, ...]] = tuple(SECOND)
    licence = "CC-BY-4.0"
    paper = (
        "A. C. Karaca and others. Robust change captioning in remote sensing: SECOND-CC dataset "
        "and MModalCC framework. IEEE JSTARS, 2025. arXiv:2501.10075"
    )
    homepage = "https://doi.org/10.5281/zenodo.16937571"
    published_counts: ClassVar[dict[str, int]] = {"train": 8438, "val": 1190, "test": 1227}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        annotations: str | None = None,
        images: str | None = None,
        maps: bool = True,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        self.maps = maps
        super().__init__(
            root, split, annotations=annotations, images=images, missing=missing, convert=convert
        )

    def pair(self, folder: Path, record: dict[str, Any]) -> tuple[Path, Path]:
        """The images of a record: before, after."""
        rgb = folder / record["split"] / "rgb"
        return rgb / "A" / record["filename"], rgb / "B" / record["filename"]

    def further(self, entry: Entry) -> Sequence[str]:
        """The maps."""
        return self.map_paths(entry) if self.maps else ()

    def map_paths(self, entry: Entry) -> list[str]:
        """Where the maps of a pair lie."""
        return [
            str(path.parents[2] / "sem" / path.parent.name / path.name)
            for path in map(Path, entry.paths)
        ]

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds both maps.

        Raises:
            BrokenImage: a map cannot be read, has colours off the palette, or another size than
                its image.
        """
        if self.maps:
            paths = self.map_paths(self.entries[index])
            sample.semantic = [read_palette(path, SECOND) for path in paths]
            for path, ids, image in zip(paths, sample.semantic, sample.images, strict=True):
                check_size(path, ids, image)
