"""RSIVQA: 111,693 questions about images of AID (RSICD), UCM, Sydney, HRRSD and DOTA."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.dialogues import DialogueDataset, Group
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.text_files import read_lines
from rsvlm.errors import UserError, near

#: Source → its text files.
SOURCES: dict[str, tuple[str, ...]] = {
    "AID": ("rsicd_vqa.txt",),
    "DOTA": ("dota_train_vqa2.txt", "dota_val_vqa2.txt"),
    "HRRSD": ("opt_val_vqa.txt",),
    "Sydney": ("sydney_vqa.txt",),
    "UCM": ("ucm_vqa.txt", "ucm_res.txt"),
}
_LINE = re.compile(r"([^:]+):\s*(.*?)\s*\?\s*(.*)")
_PARTS = {"train": range(80), "val": range(80, 90), "test": range(90, 100)}


class RSIVQA(DialogueDataset):
    """RSIVQA as published: a line a question, `image:question?answer`; no pixels.

    The types are the paper's three: `yes/no` (64,610), `number` ("how many", 32,331) and `other`
    (14,752). AID's questions are keyed to RSICD's file names; those of DOTA and HRRSD name images
    without their ending.

    There is no published split. `all` is everything, a source's word (`AID`, several joined with
    `+`) is that source, and `train`, `val` and `test` are rsvlm's own 80, 10 and 10 per cent of the
    images, by a checksum of their names: results on them compare with nobody else's.

    Args:
        root: folder of AID/, DOTA/, HRRSD/, Sydney/ and UCM/, or the one above it (RSIVQA/).
        split: see above.
        images: source → folder of its images, relative to `root` or absolute; by default
            <source>/images/, <source>/ and images/<source>/.
        group: `question` or `image` (see `dialogues.Group`).
        missing: what becomes of images that are not there (`datasets/missing.py`); the default
            leaves their questions out and tells, since images and text are published apart.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no text file, an unknown split or option, or no image at all.
    """

    name = "rsivqa"
    title: ClassVar[str] = "RSIVQA"
    layout: ClassVar[str] = (
        "  {root}/RSIVQA/\n"
        "    AID/rsicd_vqa.txt     DOTA/dota_train_vqa2.txt, dota_val_vqa2.txt\n"
        "    HRRSD/opt_val_vqa.txt     Sydney/sydney_vqa.txt     UCM/ucm_vqa.txt, ucm_res.txt\n"
        "    AID/images/ ...       the images of each source; others with images="
    )
    licence = "no licence text; images under the terms of the five sources, for research"
    paper = (
        "X. Zheng, B. Wang, X. Du, X. Lu. Mutual attention inception network for remote sensing "
        "visual question answering. IEEE TGRS 60, 2022"
    )
    homepage = "https://github.com/spectralpublic/RSIVQA"
    published_counts: ClassVar[dict[str, int]] = {
        "all": 111693,
        "AID": 10921,
        "DOTA": 16430,
        "HRRSD": 78834,
        "Sydney": 613,
        "UCM": 4895,
    }

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        images: Mapping[str, str] | None = None,
        group: Group = "question",
        missing: Missing = "skip",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, group=group, convert=convert)
        check_missing(missing)
        self._part = _PARTS.get(split)
        sources = list(SOURCES) if self._part or split == "all" else split.split("+")
        for word in sources:
            if word not in SOURCES:
                known = ["all", *_PARTS, *SOURCES]
                raise UserError(f"{self.title} has no split {word!r}. {near(word, known)}")
        for word in images or {}:
            if word not in SOURCES:
                raise UserError(f"images= names the source {word!r}. {near(word, SOURCES)}")
        text = self.root / "RSIVQA" if (self.root / "RSIVQA").is_dir() else self.root
        places = {}
        for source in sources:
            for name in SOURCES[source]:
                if (text / source / name).is_file():
                    self._read(text / source / name, source)
                else:
                    self.problems.append(f"{source}/{name} is not there, nor are its questions.")
            given = (images or {}).get(source)
            places[source] = (
                [self.root / given]
                if given
                else [text / source / "images", text / source, text / "images" / source]
            )
        if len(self.problems) == sum(len(SOURCES[source]) for source in sources):
            raise self.not_found("there is no text file of it.")
        self.close(places, missing)

    def _read(self, file: Path, source: str) -> None:
        seen: set[str] = set()
        # Not splitlines: an answer may hold any character but a line's end.
        for number, line in enumerate(read_lines(file), 1):
            if not line.strip():
                continue
            who = f"{source}/{file.name}, line {number}"
            found = _LINE.fullmatch(line.strip())
            if not found or not found.group(2) or not found.group(3):
                self.faults.add("line(s) are not image:question?answer and were left out", who)
                continue
            image, question, answer = found.groups()
            if self._part and zlib.crc32(f"{source}/{image}".encode()) % 100 not in self._part:
                continue
            if line in seen:
                self.faults.add("line(s) repeat an earlier one; they were kept", who)
            seen.add(line)
            self.ask(
                f"{file.stem}_{number}",
                image,
                f"{question}?",
                answer,
                kind(question),
                place=source,
                meta={"source": source},
            )


def kind(question: str) -> str:
    """The paper's type of a question; by these words the published totals come out exactly."""
    word = question.lower()
    if word.startswith("how many"):
        return "number"
    return "yes/no" if word.startswith(("does ", "is ", "are ", "do ")) else "other"
