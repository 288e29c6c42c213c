"""Karpathy's format where captions may be had without pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry, listed, missing_files
from rsvlm.data.datasets.karpathy import Karpathy
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import check_names


class CaptionJSON(Karpathy):
    """A captioned data set in Karpathy's format, with an answer for images that are not there.

    Images without a caption, as an early release of RSITMD has four, are left out and told.

    Args:
        root: folder with the JSON and the images' folder.
        split: `train`, `val`, `test`, several joined with `+`, or `all`.
        annotations: the JSON, relative to `root`; by default the published name, else the only
            `dataset*.json` there.
        images: the images' folder, relative to `root`; by default the first of `image_folders`.
        missing: `error`, `skip` or `keep` (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `Karpathy`.
    """

    file_name: ClassVar[str] = "dataset.json"

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        annotations: str | None = None,
        images: str | None = None,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        check_missing(missing)
        self.missing = missing
        self._lost: set[str] = set()
        self._bare: list[str] = []
        if annotations is None and (Path(root).expanduser() / self.file_name).is_file():
            annotations = self.file_name
        super().__init__(root, split, annotations=annotations, images=images, convert=convert)
        self.entries = [e for e in self.entries if e.texts and e.id not in self._lost]
        if self._bare:
            self.problems.append(
                f"{len(self._bare)} image(s) have no caption and were left out: "
                f"{listed(self._bare)}."
            )
        if not self.entries:
            raise self.not_found(f"split {split!r} has no image with a caption.")

    def _entry(self, record: dict[str, Any], index: int, folder: Path) -> Entry:
        entry = super()._entry(record, index, folder)
        self._bare += self._captionless
        self._captionless.clear()
        return entry

    def _find_images(self, given: str | None, names: list[str]) -> Path:
        if self.missing == "error":
            return super()._find_images(given, names)
        candidates = [self.root / word for word in ((given,) if given else self.image_folders)]
        check_names(names, candidates, str(self.file))
        lacking = {folder: missing_files(folder, names) for folder in candidates}
        folder = min(candidates, key=lambda f: len(lacking[f]))
        problem = report_missing(lacking[folder], len(names), str(folder), self.missing)
        if problem:
            self.problems.append(problem)
        if self.missing == "skip":
            self._lost = set(lacking[folder])
        return folder
