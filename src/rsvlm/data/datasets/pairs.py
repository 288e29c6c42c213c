"""Tables of image and caption pairs: CSV and TSV, as open_clip, ITRA and others train from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsvlm.data.datasets.base import FileDataset, listed, metric_word
from rsvlm.data.datasets.missing import Missing, check_word, find, told
from rsvlm.data.datasets.packed import PackedEntries, Strings
from rsvlm.data.text_files import detect_encoding
from rsvlm.errors import UserError, near

_WORDS = {",": "comma", "\t": "tab"}


class PairsTable(FileDataset):
    """Images and captions from tables with a header.

    What is not given is looked for among the known: a comma or a tab between columns; `filepath`,
    `filename`, `img_name` or `image` for the image, `title` or `caption` for the caption (ITRA has
    `filepath<tab>title`); UTF-8, else GB 18030 where that reads like Chinese, else Windows-1252
    (Latin-1), which is told. Anything else is an error that shows the header.

    Tables hold a line per caption. The captions of one image become one sample, in the order of
    its first line, so that retrieval sees each image once and training draws one of its captions;
    with `group=False` each line is a sample.

    Args:
        root: folder of the tables and images.
        split: any word; the table's stem, unless `table` is given.
        table: the table, relative to `root`, or several that are read one after another; by
            default `<split>.csv` or `<split>.tsv`.
        images: folder or folders of the images, relative to `root`; each image is taken from the
            first that has it.
        image_column: name of the image's column.
        text_column: name of the caption's column, or of several.
        separator: what stands between columns.
        encoding: the tables' encoding.
        group: join the lines of an image.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        name: word for metric names; by default the first table's stem.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        empty_captions: lines without a word for a caption, whose caption was left out.

    Raises:
        UserError: no table, an unknown header, broken quoting or a line of another length (by
            file and line), text in another encoding, or missing images.
    """

    title: ClassVar[str] = "A table of image and caption pairs"
    layout: ClassVar[str] = (
        "  {root}/<split>.csv   or .tsv: a header with filepath (or filename, img_name, image)\n"
        "                       and title (or caption), then a line a pair\n"
        "  {root}/<image>       as the table names it; other folders with images="
    )
    image_columns: ClassVar[tuple[str, ...]] = ("filepath", "filename", "img_name", "image")
    text_columns: ClassVar[tuple[str, ...]] = ("title", "caption")
    separators: ClassVar[tuple[str, ...]] = (",", "\t")
    encodings: ClassVar[tuple[str, ...]] = ("utf-8-sig", "gb18030", "cp1252")
    #: From an image's name to what it says of the image.
    meta_of: ClassVar[Callable[[str], dict[str, Any]] | None] = None

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        table: str | Sequence[str] | None = None,
        images: str | Sequence[str] = ".",
        image_column: str | None = None,
        text_column: str | Sequence[str] | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        group: bool = True,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_word(missing)
        self.image_column, self.separator, self.encoding = image_column, separator, encoding
        self.text_column = [text_column] if isinstance(text_column, str) else text_column
        tables = self._tables(table)
        self.name: str = name or self.name or metric_word(tables[0].stem)
        self.empty_captions = 0
        names, texts, owner = self._read(tables, group)
        folders = [images] if isinstance(images, str) else list(images)
        paths = [self.root / folder for folder in folders if (self.root / folder).is_dir()]
        if not paths:
            if missing == "error":
                raise self.not_found(f"there is no folder {' or '.join(folders)}.")
            paths = [self.root / folders[0]]
        wanted = list(names)
        place = find(paths, wanted)
        lost = [wanted[i] for i in np.flatnonzero(place < 0)]
        problem = told(lost, len(wanted), " or ".join(map(str, paths)), missing)
        bare = len(wanted) - len(np.unique(owner))
        chosen = np.arange(len(wanted))
        if missing == "skip":
            chosen = chosen[place >= 0]
        if bare:
            captioned = np.zeros(len(wanted), bool)
            captioned[owner] = True
            chosen = chosen[captioned[chosen]]
        if not len(chosen):
            raise self.not_found("no image of the table is there.")
        self.entries = PackedEntries(  # type: ignore[assignment]
            names,
            texts,
            owner,
            folders=[str(path) for path in paths],
            folder=np.maximum(place, 0),
            chosen=chosen,
            meta=type(self).meta_of,
        )
        if self.empty_captions:
            self.problems.append(f"{self.empty_captions} empty caption(s) were left out.")
        if bare:
            self.problems.append(f"{bare} image(s) have no caption and were left out.")
        if problem:
            self.problems.append(problem)

    def _tables(self, given: str | Sequence[str] | None) -> list[Path]:
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if given is None:
            given = [f"{self.split}{end}" for end in (".csv", ".tsv")]
            found = [self.root / word for word in given if (self.root / word).is_file()]
            if not found:
                held = sorted(p.name for p in self.root.iterdir() if p.suffix in (".csv", ".tsv"))
                there = f" There is {listed(held)}; choose with table=." if held else ""
                raise self.not_found(f"there is no {' or '.join(given)}.{there}")
            return found[:1]
        paths = [self.root / word for word in ([given] if isinstance(given, str) else given)]
        lacking = [str(path.relative_to(self.root)) for path in paths if not path.is_file()]
        if lacking:
            raise self.not_found(f"there is no {listed(lacking)}.")
        return paths

    def _read(self, tables: list[Path], group: bool) -> tuple[Strings, Strings, np.ndarray]:
        """The images' names, all captions, and the image that each caption belongs to."""
        names, texts, owner = Strings(), Strings(), []
        known: dict[str, int] = {}
        for path in tables:
            encoding, guess = self.encoding, ""
            if encoding is None:
                encoding, guess = detect_encoding(path, self.encodings)
            self.problems += [guess] if guess else []
            separator, image, columns = self._columns(path, encoding)
            lines = records(path, encoding, separator)
            width = len(next(lines)[1])
            for line, row in lines:
                if len(row) != width:
                    raise UserError(
                        f"{path}, line {line}: {len(row)} columns, the header has {width}. A "
                        f"caption that holds a {_WORDS.get(separator, separator)} must be quoted."
                    )
                if not row[image]:
                    raise UserError(f"{path}, line {line}: the image has no name.")
                which = known.get(row[image], len(names)) if group else len(names)
                if which == len(names):
                    names.append(row[image])
                    if group:
                        known[row[image]] = which
                for column in columns:
                    if row[column].strip():
                        texts.append(row[column])
                        owner.append(which)
                    else:
                        self.empty_captions += 1
        if not len(names):
            raise UserError(f"{listed(map(str, tables))}: there is a header, but no line below it.")
        return names, texts, np.array(owner, np.int64)

    def _columns(self, path: Path, encoding: str) -> tuple[str, int, list[int]]:
        """Separator, image column and caption columns, from the header."""
        with open(path, encoding=encoding, newline="") as file:
            line = file.readline().rstrip("\r\n")
        wanted_image = (self.image_column,) if self.image_column else self.image_columns
        for separator in (self.separator,) if self.separator else self.separators:
            header = next(csv.reader([line], delimiter=separator), [])
            image = [header.index(word) for word in wanted_image if word in header]
            if self.text_column:
                found = [word for word in self.text_column if word in header]
                texts = (
                    [header.index(w) for w in found] if len(found) == len(self.text_column) else []
                )
            else:
                texts = [header.index(word) for word in self.text_columns if word in header][:1]
            if image and texts:
                return separator, image[0], texts
        wanted_text = self.text_column or self.text_columns
        raise UserError(
            f"{path}: the header is {line[:200]!r}. Looked for an image column "
            f"({' or '.join(wanted_image)}) and a caption column "
            f"({(' and ' if self.text_column else ' or ').join(wanted_text)}), with "
            f"{' or '.join(_WORDS.get(s, repr(s)) for s in self.separators)} between columns. Name "
            "others with image_column=, text_column=, separator=."
        )


def records(path: Path, encoding: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table, each with the number of the line it begins on; empty ones are passed.

    Raises:
        UserError: broken quoting; names the line on which the record begins.
    """
    with open(path, encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True)
        begin = 1
        try:
            for row in reader:
                if row:
                    yield begin, row
                begin = reader.line_num + 1
        except csv.Error as error:
            if "field limit" in str(error):
                raise UserError(
                    f"{path}, line {begin}: a field of more than {csv.field_size_limit():,} "
                    "characters begins here, and no caption is as long. Is its closing quotation "
                    "mark missing, or is this another file than a table?"
                ) from error
            raise UserError(
                f"{path}, line {begin}: the quoting is broken ({error}; noticed on line "
                f'{reader.line_num}). A quotation mark inside quotes is written twice: "".'
            ) from error


def known_part(word: str, known: Sequence[str], what: str) -> None:
    """Holds a word against the known ones.

    Raises:
        UserError: it is none of them.
    """
    if word not in known:
        raise UserError(f"{what}={word!r} is not known. {near(word, known)}")
