"""SECOND: pairs of aerial images with a semantic map of what changed on either date."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.base import Entry, FileDataset, split_error
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import EXTENSIONS
from rsvlm.data.palette import NO_CHANGE, SECOND, check_size, read_palette
from rsvlm.data.sample import Layout, Sample

_FOLDERS = ("im1", "im2", "label1", "label2")


class SECONDPairs(FileDataset):
    """SECOND in the layout that open-cd reads: a folder per split, in it one per kind of picture.

    Maps are read by exact colour and hold the ids of `palette.SECOND`: the class of what changed
    on that date, and for all other pixels the last class, white. `meta["change_mask"]` is where
    either is not white. (label/, the same in black and white, is not read.)

    Args:
        root: the folder of the splits, or of im1/ itself, which then is split `all`.
        split: `train`, `val`, `test`, several joined with `+`, or `all`.
        missing: what becomes of pairs whose files are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no such folder or split, or missing files.
    """

    name = "second"
    title: ClassVar[str] = "SECOND"
    layout: ClassVar[str] = (
        "  {root}/train/im1/00003.png ...  im2/  label1/  label2/   and val/, test/, or\n"
        "  {root}/im1/  im2/  label1/  label2/                      for split=all"
    )
    sample_layout: ClassVar[Layout] = "before_after"
    semantic_classes: ClassVar[tuple[str, ...]] = tuple(SECOND)
    licence = "no licence text; for research"
    paper = (
        "K. Yang, G.-S. Xia, Z. Liu, B. Du, W. Yang, M. Pelillo, L. Zhang. Asymmetric siamese "
        "networks for semantic change detection in aerial images. IEEE TGRS 60, 2022. "
        "arXiv:2010.05687"
    )
    homepage = "https://captain-whu.github.io/SCD/"
    published_counts: ClassVar[dict[str, int]] = {"train": 2375, "val": 593, "test": 1694}

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        found = {part.name: part for part in sorted(self.root.iterdir()) if (part / "im1").is_dir()}
        if (self.root / "im1").is_dir():
            found = {"all": self.root}
        if not found:
            raise self.not_found("there is no folder im1.")
        wanted = list(found) if split == "all" else split.split("+")
        for part in wanted:
            if part not in found:
                counts = {name: len(_images(folder / "im1")) for name, folder in found.items()}
                raise split_error(part, counts, str(self.root))
        lost: list[str] = []
        total = 0
        for part in wanted:
            held = {name: set(_images(found[part] / name)) for name in _FOLDERS}
            for name in sorted(set.union(*held.values())):
                total += len(_FOLDERS)
                lacking = [f"{part}/{word}/{name}" for word in _FOLDERS if name not in held[word]]
                lost += lacking
                if lacking and missing == "skip":
                    continue
                self.entries.append(
                    Entry(
                        id=name if len(wanted) == 1 else f"{part}/{name}",
                        path=str(found[part] / "im1" / name),
                        more=(str(found[part] / "im2" / name),),
                        meta={"split": part},
                    )
                )
        problem = report_missing(lost, total, str(self.root), missing)
        if problem:
            self.problems.append(problem)
        if not self.entries:
            raise self.not_found(f"no pair of split {split!r} is there.")

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds both maps and the mask of change.

        Raises:
            BrokenImage: a map cannot be read, has colours off the palette, or another size than
                its image.
        """
        before = Path(self.entries[index].path)
        paths = [before.parents[1] / word / before.name for word in ("label1", "label2")]
        sample.semantic = [read_palette(path, SECOND) for path in paths]
        for path, ids, image in zip(paths, sample.semantic, sample.images, strict=True):
            check_size(path, ids, image)
        first, second = (ids != NO_CHANGE for ids in sample.semantic)
        sample.meta["change_mask"] = first | second


def _images(folder: Path) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(name for name in names if os.path.splitext(name)[1].lower() in EXTENSIONS)
