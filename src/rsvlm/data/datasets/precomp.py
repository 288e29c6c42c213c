"""Captions as two text files a split, the layout of AMFMN's retrieval code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from rsvlm.data.datasets.base import Entry, FileDataset, listed, metric_word, split_error
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.text_files import read_lines
from rsvlm.errors import UserError


class Precomp(FileDataset):
    """`<split>_caps.txt` and `<split>_filename.txt`, as of RSICD and RSITMD.

    The file names come once an image or once a caption; RSITMD has it both ways, in its training
    and test split. By default captions are served without pixels where these are not there, since
    the two files are published without them. Images without a caption, as RSITMD's training split
    has four, are left out and told.

    Args:
        root: folder of the text files.
        split: `train`, `val` or `test`, as the files say.
        images: folder or folders of the images, relative to `root`.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        name: word for metric names; by default the folder's, without `_precomp`.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        empty_captions: captions without a word, which were left out.

    Raises:
        UserError: missing files, an unknown split, or names and captions that do not go together.
    """

    title: ClassVar[str] = "A data set in AMFMN's layout"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    <split>_caps.txt       a caption a line\n"
        "    <split>_filename.txt   an image a line, once for all its captions or for each\n"
        "    images/                optional"
    )

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        images: str | Sequence[str] = "images",
        missing: Missing = "keep",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or metric_word(self.root.resolve().name).removesuffix("_precomp")
        file = self.root / f"{split}_caps.txt"
        names_file = self.root / f"{split}_filename.txt"
        if not file.is_file():
            found = sorted(self.root.glob("*_caps.txt"))
            if not found:
                raise self.not_found("there is no *_caps.txt.")
            known = {f.name.removesuffix("_caps.txt"): len(read_lines(f)) for f in found}
            raise split_error(split, known, str(self.root))
        if not names_file.is_file():
            raise self.not_found(f"there is no {names_file.name}.")
        captions, names = read_lines(file), read_lines(names_file)
        self.empty_captions = sum(not text.strip() for text in captions)
        texts = self._group(captions, names, file, names_file)
        folders = [images] if isinstance(images, str) else list(images)
        paths = [self.root / folder for folder in folders]
        place = find_folders(paths, list(texts))
        lost = [name for name, at in zip(texts, place, strict=True) if at < 0]
        problem = report_missing(lost, len(texts), " or ".join(map(str, paths)), missing)
        self.entries = [
            Entry(id=name, path=str(paths[max(at, 0)] / name), texts=tuple(texts[name]))
            for name, at in zip(texts, place.astype(np.int64).tolist(), strict=True)
            if at >= 0 or missing == "keep"
        ]
        if not self.entries:
            raise self.not_found(f"no image of split {split!r} is there.")
        if self.empty_captions:
            self.problems.append(f"{self.empty_captions} empty caption(s) were left out.")
        if problem:
            self.problems.append(problem)

    def _group(
        self, captions: list[str], names: list[str], file: Path, names_file: Path
    ) -> dict[str, list[str]]:
        """The captions of each image, images in the order of their first line."""
        if not names or len(captions) % len(names):
            raise UserError(
                f"{file} has {len(captions)} captions and {names_file.name} {len(names)} lines; "
                "expected a line an image, each with equally many captions, or a line a caption."
            )
        each = len(captions) // len(names)
        texts: dict[str, list[str]] = {}
        for i, name in enumerate(names):
            if not name.strip():
                raise UserError(f"{names_file}, line {i + 1}: the image has no name.")
            own = [text for text in captions[i * each : (i + 1) * each] if text.strip()]
            texts.setdefault(name.strip(), []).extend(own)
        bare = [name for name, own in texts.items() if not own]
        if bare:
            self.problems.append(
                f"{len(bare)} image(s) have no caption and were left out: {listed(bare)}."
            )
        return {name: own for name, own in texts.items() if own}
