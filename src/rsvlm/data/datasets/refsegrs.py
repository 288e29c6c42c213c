"""RefSegRS: 4,420 phrases, each with the mask of all that it means in an aerial picture."""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from rsvlm.data.datasets.base import Entry, missing_files
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.regions import Region, Regions, bounds
from rsvlm.data.images import BrokenImage
from rsvlm.data.palette import read_grey
from rsvlm.data.sample import Sample
from rsvlm.data.text_files import read_lines
from rsvlm.data.transforms import sides
from rsvlm.errors import UserError

_LINE = re.compile(r"(\d+)\s+(\S.*)")


class RefSegRS(Regions):
    """RefSegRS as published: lists of phrases, and TIFF masks; a sample is a phrase.

    A mask may cover many things (`all the cars on the road`); its instance is all of them, of the
    class `target`, with the box around it.

    Args:
        root: folder of images/, masks/ and output_phrase_<split>.txt.
        split: `train`, `val` or `test`.
        check: look into each mask when the data set opens, to tell of empty ones.
        missing: what becomes of pictures that are not there (`datasets/missing.py`).
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged (file and line).
    """

    name = "refsegrs"
    title: ClassVar[str] = "RefSegRS"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    images/   0.tif ...\n"
        "    masks/    0.tif ...   0 and 255\n"
        "    output_phrase_train.txt  output_phrase_val.txt  output_phrase_test.txt"
    )
    licence = "CC BY 4.0"
    paper = (
        "Z. Yuan, L. Mou, Y. Hua, X. X. Zhu. RRSIS: Referring remote sensing image segmentation. "
        "IEEE TGRS 62, 2024. arXiv:2306.08625"
    )
    homepage = "https://huggingface.co/datasets/JessicaYuan/RefSegRS"
    #: Phrases, each of which is a sample.
    published_counts: ClassVar[dict[str, int]] = {"train": 2172, "val": 431, "test": 1817}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        check: bool = True,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        if split not in self.published_counts:
            raise UserError(f"{self.title} has no split {split!r}; it has train, val and test.")
        file = self.root / f"output_phrase_{split}.txt"
        if not file.is_file():
            raise self.not_found(f"there is no {file.name}.")
        self.categories = ["target"]
        rows = self._rows(file)
        names = [f"{number}.tif" for number, _ in rows]
        paths = self.located([self.root / "images"], names, missing)
        lost = set(missing_files(self.root / "masks", list(dict.fromkeys(names))))
        total = Counter(number for number, _ in rows)
        seen: Counter[str] = Counter()
        for name, (number, phrase) in zip(names, rows, strict=True):
            if name not in paths:
                continue
            if name in lost:
                self.fault("phrase(s) have no file in masks/, and no mask", name)
            key = number if total[number] == 1 else f"{number}_{seen[number]}"
            seen[number] += 1
            region = Region(0, "target", 0, phrase)
            self.add(Entry(key, paths[name], meta={"image": name}), [region])
        self._lost = lost
        if check:
            self._check()
        self.tell()

    def _rows(self, file: Path) -> list[tuple[str, str]]:
        rows: list[tuple[str, str]] = []
        for line, text in enumerate(read_lines(file), 1):
            if not text.strip():
                continue
            match = _LINE.fullmatch(text.strip())
            if match is None:
                raise UserError(f"{file}, line {line}: {text[:60]!r} is not `<number> <phrase>`.")
            row = (match[1], match[2])
            if row in rows[-50:]:
                self.fault("line(s) repeat another one close before", f"line {line}")
            rows.append(row)
        if not rows:
            raise UserError(f"{file} is empty.")
        return rows

    def _check(self) -> None:
        names = list(dict.fromkeys(e.meta["image"] for e in self.entries))
        names = [name for name in names if name not in self._lost]

        def look(name: str) -> str:
            try:
                mask = read_grey(self.root / "masks" / name)
            except BrokenImage as error:
                return f"mask(s) cannot be read ({error.reason})"
            if not mask.any():
                return "mask(s) are empty"
            odd = set(np.unique(mask).tolist()) - {0, 1, 255}
            return "mask(s) have other values than 0, 1 and 255; all but 0 count" if odd else ""

        with ThreadPoolExecutor(4) as pool:
            for name, fault in zip(names, pool.map(look, names), strict=True):
                if fault:
                    self.fault(fault, name)

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the phrase with its mask.

        Raises:
            BrokenImage: the mask cannot be read, or is not of the picture's size.
        """
        super().annotate(sample, index)
        name = self.entries[index].meta["image"]
        if name in self._lost:
            return
        path = self.root / "masks" / name
        mask = read_grey(path) > 0
        picture = sample.images[0]
        absent = self.entries[index].path in self._absent
        if not absent and mask.shape != sides(picture):
            high, wide = sides(picture)
            raise BrokenImage(
                str(path),
                f"is {mask.shape[1]} x {mask.shape[0]}, its picture {wide} x {high}. Both must "
                "show the same ground; were only the pictures resized?",
            )
        sample.instances[0].mask = mask
        sample.instances[0].box = bounds(mask)


def write_mask(mask: np.ndarray, path: Path) -> None:
    """Stores a mask as the data set does.

    Args:
        mask: [H, W] bool.
        path: a .tif file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
