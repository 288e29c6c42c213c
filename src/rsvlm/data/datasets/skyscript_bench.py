"""The classification benchmarks of SkyScript: a table of paths and labels, a list of classes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from rsvlm.data.datasets.base import Entry, FileDataset, listed
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.datasets.pairs import known_part
from rsvlm.data.datasets.tables import records
from rsvlm.data.text_files import detect_encoding, read_lines
from rsvlm.errors import UserError, near


@dataclass(frozen=True, slots=True)
class Bench:
    """One benchmark as published.

    Attributes:
        folder: its folder below the benchmarks' root.
        table: its table.
        versions: how many ways of labelling there are; 0 for one, in the column `label`.
    """

    folder: str
    table: str
    versions: int = 0


#: Names as published, and the word under which metrics know them.
BENCHES: dict[str, Bench] = {
    "aid": Bench("aid", "aid_img_txt_pairs_test.csv"),
    "eurosat": Bench("eurosat", "eurosat_img_txt_pairs_test.csv"),
    "fmow": Bench("fmow", "fmow_img_txt_pairs_val.csv"),
    "millionaid": Bench("millionaid", "img_txt_pairs_train.csv"),
    "nwpu": Bench("nwpu", "img_txt_pairs_train.csv"),
    "patternnet": Bench("patternnet", "img_txt_pairs_train.csv"),
    "rsicb": Bench("rsicb256", "img_txt_pairs_train.csv"),
    "skyscript_cls": Bench("SkyScript_cls", "img_txt_pairs_val.csv"),
    "roof_shape": Bench("roof_shape", "img_txt_pairs_test.csv", 2),
    "smoothness": Bench("smoothness", "img_txt_pairs_test.csv", 2),
    "surface": Bench("surface", "img_txt_pairs_test.csv", 2),
}
_ALIASES = {"SkyScript_cls": "skyscript_cls", "rsicb256": "rsicb"}

#: What pandas, with which the published code reads, takes for "no value".
NAN = frozenset(
    (
        "",
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    )
)


class SkyScriptBench(FileDataset):
    """One classification benchmark: `filepath,label` and classnames.txt.

    A label is a class name or, where all of a table's labels are numbers, a position in
    classnames.txt. Lines without a label are dropped, as published, and counted. The fine-grained
    sets (roof_shape, smoothness, surface) have `label_v1` and `label_v2`, with a list of classes
    each.

    The benchmarks are not the whole data sets: AID has its 2,000 test images here, so that its
    accuracy is not comparable with one over 10,000.

    Args:
        root: folder of the benchmarks' folders, or one benchmark's own.
        split: `test`, or any word; each benchmark has one table.
        name: which benchmark (`BENCHES`), or a name for a table of your own.
        version: `v1` or `v2`, for the fine-grained sets.
        table: a table of your own, relative to the benchmark's folder.
        classnames: its list of classes, relative to the benchmark's folder.
        label_column: its column of labels.
        actual_column: for the binary mode, a column of 0 and 1 that says whether the one class of
            classnames.txt is in the image; an image without it has no label.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        unlabelled: lines without a label, which were left out.

    Raises:
        UserError: an unknown benchmark, missing files, an unknown header, a label that is not in
            classnames.txt (by file and line), or missing images.
    """

    name = "skyscript_bench"
    title: ClassVar[str] = "SkyScript's classification benchmarks"
    layout: ClassVar[str] = (
        "  {root}/<benchmark>/   aid, eurosat, fmow, millionaid, nwpu, patternnet, rsicb256,\n"
        "                        SkyScript_cls, roof_shape, smoothness, surface\n"
        "    classnames.txt      a class a line; classnames_v1.txt, _v2 for the last three\n"
        "    *img_txt_pairs_*.csv  filepath,label; label_v1, label_v2 for the last three\n"
        "    and the images, at filepath below {root} or below the benchmark"
    )
    licence = "no licence text; for research, each benchmark under its own terms"
    paper = (
        "Z. Wang, R. Prabha, T. Huang, J. Wu, R. Rajagopal. SkyScript: A large and semantically "
        "diverse vision-language dataset for remote sensing. AAAI 2024. arXiv:2312.12856"
    )
    homepage = "https://github.com/wangzhecheng/SkyScript"
    image_columns: ClassVar[tuple[str, ...]] = ("filepath", "filename", "image")

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        name: str = "aid",
        version: str = "v1",
        table: str | None = None,
        classnames: str | None = None,
        label_column: str | None = None,
        actual_column: str | None = None,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        known_part(version, ("v1", "v2"), "version")
        word = _ALIASES.get(name, name)
        bench = BENCHES.get(word)
        if bench is None:
            if not table:
                raise UserError(
                    f"there is no benchmark {name!r}; one of your own needs table=. "
                    f"{near(name, BENCHES)}"
                )
            bench = Bench(name, table)
        self.name = f"{word}_{version}" if bench.versions else word
        suffix = f"_{version}" if bench.versions else ""
        folder = self.root / bench.folder
        folder = folder if folder.is_dir() else self.root
        file = folder / (table or bench.table)
        list_file = folder / (classnames or f"classnames{suffix}.txt")
        for path in (file, list_file):
            if not path.is_file():
                raise self.not_found(f"there is no {path}.")
        self.classes = _classes(list_file)
        self.unlabelled = 0
        rows = self._rows(file, label_column or f"label{suffix}", actual_column)
        labels: list[int | None] = []
        if actual_column is None:
            labels += self._labels(rows, file, list_file)
        else:
            labels += self._actual(rows, file, list_file)
        names = [row[1] for row in rows]
        places = list(dict.fromkeys((self.root, folder)))
        place = find_folders(places, names)
        lost = [names[i] for i in np.flatnonzero(place < 0)]
        problem = report_missing(lost, len(names), " or ".join(map(str, places)), missing)
        self.entries = [
            Entry(id=name, path=str(places[max(at, 0)] / name), label=label)
            for name, label, at in zip(names, labels, place.tolist(), strict=True)
            if at >= 0 or missing == "keep"
        ]
        if not self.entries:
            raise self.not_found("no image of the table is there.")
        if self.unlabelled:
            self.problems.append(f"{self.unlabelled} line(s) without a label were left out.")
        if problem:
            self.problems.append(problem)

    def _rows(self, file: Path, column: str, actual: str | None) -> list[tuple[int, str, str]]:
        """Line, image and label (or what `actual` says) of each labelled row."""
        lines = records(file, detect_encoding(file, ("utf-8-sig",))[0], ",")
        header = next(lines, (0, []))[1]
        image = [header.index(word) for word in self.image_columns if word in header]
        if not image or column not in header or (actual or column) not in header:
            wanted = " and ".join(word for word in (column, actual) if word)
            raise UserError(
                f"{file}: the header is {','.join(header)[:200]!r}. Looked for an image column "
                f"({' or '.join(self.image_columns)}) and for {wanted}, with commas between. Name "
                "the label's with label_column=."
            )
        label = header.index(column)
        captions = header.index(actual or column)
        rows = []
        for line, row in lines:
            if len(row) != len(header):
                raise UserError(
                    f"{file}, line {line}: {len(row)} columns, the header has {len(header)}."
                )
            if row[label].strip() in NAN:
                self.unlabelled += 1
            else:
                rows.append((line, row[image[0]], row[captions].strip()))
        if not rows:
            raise UserError(f"{file}: no line has a label in column {column}.")
        return rows

    def _actual(
        self, rows: list[tuple[int, str, str]], file: Path, list_file: Path
    ) -> list[int | None]:
        """0 where the one class is in the image, else None."""
        if len(self.classes or ()) != 1:
            raise UserError(
                f"actual_column= asks for one class; {list_file} names {len(self.classes or ())}."
            )
        values = [_whole(text) for _, _, text in rows]
        for value, (line, _, text) in zip(values, rows, strict=True):
            if value not in (0, 1):
                raise UserError(f"{file}, line {line}: {text!r} is neither 0 nor 1.")
        return [0 if value else None for value in values]

    def _labels(self, rows: list[tuple[int, str, str]], file: Path, list_file: Path) -> list[int]:
        classes = self.classes or []
        # Beside an empty cell pandas wrote whole numbers as 3.0.
        values = [_whole(text) for _, _, text in rows]
        if all(value is not None for value in values):
            for value, (line, _, text) in zip(values, rows, strict=True):
                if not 0 <= (value or 0) < len(classes):
                    raise UserError(
                        f"{file}, line {line}: label {text} is no position among the "
                        f"{len(classes)} classes of {list_file.name}, which count from 0."
                    )
            return [value or 0 for value in values]
        positions = {name: i for i, name in enumerate(classes)}
        for line, _, text in rows:
            if text not in positions:
                raise UserError(
                    f"{file}, line {line}: label {text!r} is not in {list_file.name}. "
                    f"{near(text, classes)}"
                )
        return [positions[text] for _, _, text in rows]


def _classes(file: Path) -> list[str]:
    # An empty line would shift the numbers of all classes after it.
    names = [line.strip() for line in "\n".join(read_lines(file)).rstrip().split("\n")]
    blank = [str(i + 1) for i, name in enumerate(names) if not name]
    if blank:
        raise UserError(f"{file}: line {listed(blank)} is empty; every line is a class.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(f"{file} names {listed(twice)} more than once.")
    return names


def _whole(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def bench(split: str, *, root: str | Path, missing: Missing = "error") -> SkyScriptBench:
    """A benchmark by its name in the place of a split, so that a suite is a list of splits.

    Args:
        split: a name of `BENCHES`; `_v1` or `_v2` behind it chooses the version.
        root: the benchmarks' folder.
        missing: see `SkyScriptBench`.
    """
    name, _, version = split.rpartition("_")
    if version not in ("v1", "v2"):
        name, version = split, "v1"
    return SkyScriptBench(root, "test", name=name, version=version, missing=missing)
