"""Captions of changes between two dates, in Karpathy's format: what LEVIR-CC and its kin share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry, missing_files
from rsvlm.data.datasets.karpathy import Karpathy
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import check_names
from rsvlm.data.sample import Layout
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError


class ChangeCaptions(Karpathy):
    """Pairs of images with captions of what changed.

    A record is Karpathy's, with `changeflag` (0 or 1) in newer files. Where a file has none, a pair
    is unchanged if all of its captions are among the data set's sentences for that
    (`no_change`); `meta["changeflag_from"]` says `file` or `captions`.

    Args:
        root: folder of the annotations and the images.
        split: `train`, `val`, `test`, several joined with `+`, or `all`.
        annotations: the JSON, relative to `root`; by default the first of `file_names`.
        images: the images' folder, relative to `root`; by default the first of `image_folders`.
        missing: what becomes of pairs whose images are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged, the split is unknown, or a record is malformed.
    """

    sample_layout: ClassVar[Layout] = "before_after"
    file_names: ClassVar[tuple[str, ...]] = ()
    #: The sentences that are said of unchanged pairs, as tokens joined with spaces.
    no_change: ClassVar[frozenset[str]] = frozenset()

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
        super().__init__(root, split, annotations=annotations, images=images, convert=convert)
        self._without_missing()

    def pair(self, folder: Path, record: dict[str, Any]) -> tuple[Path, Path]:
        """The images of a record: before, after."""
        name = record["filename"]
        if self._by_split:
            folder = folder / record["split"]
        return folder / "A" / name, folder / "B" / name

    def further(self, entry: Entry) -> Sequence[str]:
        """Further files that a pair needs: its maps; here none."""
        return ()

    def _records(self, annotations: str | None) -> tuple[list[Any], str]:
        self.file = self._find_annotations(annotations)
        content = read_json(self.file)
        records = content.get("images") if isinstance(content, dict) else content
        if not isinstance(records, list) or not records:
            raise UserError(
                f"{self.file} holds no list of pairs under `images`; expected\n\n{self.layout}"
            )
        return records, self.name

    def _find_annotations(self, given: str | None) -> Path:
        if given is not None:
            return super()._find_annotations(given)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        for name in self.file_names:
            if (self.root / name).is_file():
                return self.root / name
        raise self.not_found(f"there is no {self.file_names[0]}.")

    def _find_images(self, given: str | None, names: list[str]) -> Path:
        candidates = [self.root / word for word in ((given,) if given else self.image_folders)]
        folder = next((path for path in candidates if path.is_dir()), None)
        if folder is None and self.missing == "error":
            raise self.not_found(f"there is no folder {' or '.join(p.name for p in candidates)}.")
        folder = folder or candidates[0]
        # A/ and B/ lie in a folder per split, as published, or in one.
        self._by_split = not (folder / "A").is_dir()
        return folder

    def _raw(self, sentence: Any) -> Any:
        # Published captions begin with a space; lists of plain texts are had from token files.
        raw = sentence if isinstance(sentence, str) else super()._raw(sentence)
        return raw.strip() if isinstance(raw, str) else raw

    def _entry(self, record: dict[str, Any], index: int, folder: Path) -> Entry:
        names = [record["filename"], str(record["split"])]
        check_names(names, [folder], str(self.file))
        entry = super()._entry(record, index, folder)
        before, after = self.pair(folder, record)
        flag, source = record.get("changeflag"), "file"
        if flag is None and self.no_change:
            said = {" ".join(text.rstrip(" .").lower().split()) for text in entry.texts}
            flag, source = int(not said <= self.no_change), "captions"
        if flag not in (None, 0, 1):
            raise UserError(
                f"{self.file}: images[{index}] ({entry.id}) has changeflag {flag!r}; it is 0 or 1."
            )
        meta = entry.meta if flag is None else entry.meta | {
            "changeflag": int(flag),
            "changeflag_from": source,
        }  # fmt: skip
        return replace(entry, path=str(before), more=(str(after),), meta=meta)

    def _without_missing(self) -> None:
        """Tells of pairs whose files are not there, and leaves them out where that is asked for."""
        files = [[*entry.paths, *self.further(entry)] for entry in self.entries]
        names = [os.path.relpath(path, self.root) for paths in files for path in paths]
        lost = set(missing_files(self.root, names))
        if not lost:
            return
        shown = [name for name in names if name in lost]
        self.problems.append(report_missing(shown, len(names), str(self.root), self.missing))
        if self.missing == "skip":
            self.entries = [
                entry
                for entry, paths in zip(self.entries, files, strict=True)
                if not any(os.path.relpath(path, self.root) in lost for path in paths)
            ]
        if not self.entries:
            raise self.not_found(f"no pair of split {self.split!r} is there.")
