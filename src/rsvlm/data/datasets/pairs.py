"""Tables of image and caption pairs: CSV, TSV, JSON Lines, Parquet, folders of `datasets`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsvlm.data.columnar import MARK, is_reference, largest_group
from rsvlm.data.datasets import sources
from rsvlm.data.datasets.base import FileDataset, file_and_folder, listed, metric_word
from rsvlm.data.datasets.divisions import apart, dividing, rule_columns
from rsvlm.data.datasets.file_names import FileNames
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.datasets.packed import PackedEntries, Strings
from rsvlm.data.datasets.sources import Source
from rsvlm.data.datasets.splitting import SplitRule
from rsvlm.data.datasets.tables import ENDINGS, SEPARATORS, Column, Table, absent, texts_of
from rsvlm.errors import UserError, near

#: Bytes of a row group from which on reading at random is slow.
HEAVY = 64 * 2**20


class PairsTable(FileDataset):
    """Images and captions from tables with a header.

    What is not given is looked for among the known: a comma, a tab or a semicolon between columns;
    `filepath`,
    `filename`, `img_name` or `image` for the image, `title` or `caption` for the caption (ITRA has
    `filepath<tab>title`); UTF-8, else GB 18030 where that reads like Chinese, else Windows-1252
    (Latin-1), which is told. Anything else is an error that shows the header.

    Tables hold a line per caption. The captions of one image become one sample, in the order of
    its first line, so that retrieval sees each image once and training draws one of its captions;
    with `group=False` each line is a sample.

    Args:
        root: folder of the tables and images, or a table in it.
        split: any word; the table's stem, unless `table` is given.
        table: the table, relative to `root`, or several that are read one after another; by
            default what `datasets/sources.py` finds: `<split>.csv` (`.tsv`, `.jsonl`, `.parquet`),
            Parquet in parts, an imagefolder's `<split>/metadata.csv`, a folder of `save_to_disk`.
        images: folder or folders of the images, relative to `root`; each image is taken from the
            first that has it; by default `root` itself and images/.
        image_column: name of the image's column.
        text_column: name of the caption's column, or of several.
        separator: what stands between columns.
        encoding: the tables' encoding.
        group: join the lines of an image.
        shares: split → share, as {train: 0.8, val: 0.1, test: 0.1}: a table that is given with
            `table`, or is the only one in `root`, is divided into these by a hash of the images'
            names, which is told. None divides nothing. A table with a column `split` is divided
            by that.
        split_seed: of that hash.
        split_by, cell, margin, split_file: see `splitting.SplitRule`.
        strip: what names of images have in front that is no part of `root`.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        name: word for metric names; by default the folder's name.
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
        "                       and title (or caption), then a line a pair; or .jsonl\n"
        "  {root}/<image>       as the table names it, or in images/; other folders with images="
    )
    image_columns: ClassVar[tuple[str, ...]] = (
        "filepath",
        "filename",
        "img_name",
        "image",
        "file_name",
        "path",
    )
    text_columns: ClassVar[tuple[str, ...]] = ("title", "caption", "captions", "text")
    image_folders: ClassVar[tuple[str, ...]] = (".", "images")
    separators: ClassVar[tuple[str, ...]] = SEPARATORS
    #: What stands beside an image, in words.
    beside: ClassVar[str] = "caption"
    encodings: ClassVar[tuple[str, ...]] = ("utf-8-sig", "gb18030", "cp1252")
    #: From an image's name to what it says of the image.
    meta_of: ClassVar[Callable[[str], dict[str, Any]] | None] = None
    #: Of each image, what further columns say.
    _columns: dict[str, list[Any]]

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        table: str | Sequence[str] | None = None,
        images: str | Sequence[str] | None = None,
        image_column: str | None = None,
        text_column: str | Sequence[str] | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        group: bool = True,
        shares: Mapping[str, float] | None = None,
        split_seed: int = 0,
        split_by: str | None = None,
        cell: float | None = None,
        margin: float = 0.0,
        split_file: str | None = None,
        strip: str | None = None,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        self.own = table is None  # published sets name their tables
        root, table = file_and_folder(root, table, ENDINGS)
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        self.image_column, self.separator, self.encoding = image_column, separator, encoding
        self.text_column = [text_column] if isinstance(text_column, str) else text_column
        self.rule = SplitRule(shares, split_seed, split_by, cell, margin, split_file)
        self.names_of = FileNames(self.root, strip)
        self.notes: list[str] = []
        source = self._source(table)
        tables = list(source.tables)
        self.name: str = name or self.name or metric_word(self.root.resolve().name)
        self.empty_captions = 0
        names, texts, owner = self._read(tables, group, rule_columns(self.rule, source.whole))
        given = self.image_folders if images is None else images
        folders = [given] if isinstance(given, str) else list(given)
        paths = [self.root / folder for folder in folders if (self.root / folder).is_dir()]
        if source.images is not None and images is None:
            paths = [source.images]
        if not paths:
            if missing == "error":
                raise self.not_found(f"there is no folder {' or '.join(folders)}.")
            paths = [self.root / folders[0]]
        wanted = list(names)
        place = self._places(paths, wanted)
        lost = [wanted[i] for i in np.flatnonzero(place < 0)]
        problem = report_missing(lost, len(wanted), paths, missing)
        bare = len(wanted) - len(np.unique(owner))
        chosen = np.arange(len(wanted))
        if source.whole:
            what = listed(path.name for path in tables)
            kept = dividing(self, wanted, self._columns, self.rule, what)
            chosen = np.array(kept, np.int64)
        elif split_by and table is None:
            apart(self, wanted, self._columns, self.rule, self._groups)
        self.problems += self.names_of.told()
        self.notes += _heavy(tables, wanted)
        if missing == "skip":
            chosen = chosen[place[chosen] >= 0]
        if bare:
            captioned = np.zeros(len(wanted), bool)
            captioned[owner] = True
            chosen = chosen[captioned[chosen]]
        if bare == len(wanted):
            raise UserError(
                f"{listed(map(str, tables))}: every {self.beside} is empty. Is it another column "
                f"(data.dataset.{self._looked_for()[1].option}<column>)?"
            )
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
            self.problems.append(f"{self.empty_captions} empty {self.beside}(s) were left out.")
        if bare:
            self.problems.append(f"{bare} image(s) have no {self.beside} and were left out.")
        if problem:
            self.problems.append(problem)

    def _source(self, given: str | Sequence[str] | None) -> Source:
        """The tables to read, and whether they hold all splits."""
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if given is None:
            source, held = sources.found(self.root, self.split, divided=bool(self.rule.shares))
            if source is None:
                raise self.not_found(absent(self.split, held, self.root))
            self.notes.append(source.note)
            return source
        paths = [self.root / word for word in ([given] if isinstance(given, str) else given)]
        lacking = [str(path.relative_to(self.root)) for path in paths if not path.is_file()]
        if lacking:
            raise self.not_found(f"there is no {listed(lacking)}.")
        return Source(tuple(paths), "named", whole=self.own or bool(self.rule.shares))

    def _places(self, paths: list[Path], names: list[str]) -> np.ndarray:
        """[names] the folder that holds each image, -1 where none does."""
        within = np.array([is_reference(name) for name in names], bool)
        if not within.any():
            return find_folders(paths, names)
        paths.append(self.root)  # references are relative to it
        place = np.full(len(names), len(paths) - 1, np.int16)
        others = np.flatnonzero(~within).tolist()
        place[others] = find_folders(paths, [names[i] for i in others])
        return place

    def _groups(self, table: Path) -> tuple[list[str], dict[str, list[Any]]]:
        """Images and columns of the rule of another split's table."""
        kept = self.problems, self.empty_captions, self._columns
        names, _, _ = self._read([table], True, rule_columns(self.rule, False))
        columns = self._columns
        self.problems, self.empty_captions, self._columns = kept
        return list(names), columns

    def _looked_for(self) -> tuple[Column, ...]:
        return (
            Column(
                "image",
                self.image_columns,
                (self.image_column,) if self.image_column else (),
                "image_column=",
            ),
            Column("caption", self.text_columns, tuple(self.text_column or ()), "text_column="),
        )

    def _read(
        self, tables: list[Path], group: bool, more: Sequence[Column]
    ) -> tuple[Strings, Strings, np.ndarray]:
        """The images' names, all captions, and the image that each caption belongs to."""
        names, texts, owner = Strings(), Strings(), []
        known: dict[str, int] = {}
        self._columns = {column.known[0]: [] for column in more}
        ids: dict[str, str] = {}
        columns = (*self._looked_for(), Column("id", ("id", "image_id"), optional=True), *more)
        for path in tables:
            table = Table(
                path,
                columns,
                separators=(self.separator,) if self.separator else self.separators,
                encoding=self.encoding,
                encodings=self.encodings,
            )
            self.problems += [table.notice] if table.notice else []
            for line, ((image,), captions, id, *rest) in table.rows():
                if not isinstance(image, str) or not image.strip():
                    number = f", but {image!r}" if image not in (None, "") else ""
                    raise UserError(f"{path}, line {line}: the image has no name{number}.")
                image = self._named(image, f"{path}, line {line}")
                if self.own and id and ids.setdefault(str(id[0]), image) != image:
                    raise UserError(
                        f"{path}, line {line}: the id {id[0]!r} is that of {ids[str(id[0])]!r} "
                        f"already, and here of {image!r}. Give each image an id of its own, or "
                        "leave the column out."
                    )
                which = known.get(image, len(names)) if group else len(names)
                new = which == len(names)
                if new:
                    names.append(image)
                    if group:
                        known[image] = which
                self._note(rest, more, which, new, f"{path}, line {line}: the image {image!r}")
                for text in self._texts(captions):
                    if text.strip():
                        texts.append(text)
                        owner.append(which)
                    else:
                        self.empty_captions += 1
        if not len(names):
            raise UserError(f"{listed(map(str, tables))}: there is a header, but no line below it.")
        return names, texts, np.array(owner, np.int64)

    def _texts(self, values: list[Any]) -> list[str]:
        """The captions of a row; "" for one that is none."""
        return texts_of(values)

    def _named(self, image: str, where: str) -> str:
        if is_reference(image):
            return str(Path(image).relative_to(self.root))
        return self.names_of(image, where)

    def _note(
        self, values: list[list[Any]], more: Sequence[Column], which: int, new: bool, who: str
    ) -> None:
        """Keeps what further columns say of an image.

        Raises:
            UserError: two rows of an image say different things.
        """
        for column, found in zip(more, values, strict=True):
            held = self._columns[column.known[0]]
            if not found:
                continue
            if new:
                held.append(found[0])
            elif str(held[which]) != str(found[0]):
                raise UserError(
                    f"{who} has {found[0]!r} for its {column.what}, and another row of it has "
                    f"{held[which]!r}. Keep one of them."
                )


def _heavy(tables: Sequence[Path], names: Sequence[str]) -> list[str]:
    """A sentence on pictures within a table that are slow to read at random."""
    inside = [name.split(MARK)[1] for name in names[:1] if is_reference(name)]
    sizes = [largest_group(t, inside[0]) for t in tables if inside and t.suffix == ".parquet"]
    if max(sizes, default=0) < HEAVY:
        return []
    text = (
        f"pictures lie in row groups of up to {max(sizes) / 1e6:,.0f} MB, each of which is read "
        "for one picture: training is quicker with small ones (row_group_size=100), with what "
        "datasets' save_to_disk writes, or with files."
    )
    return [text]


def known_part(word: str, known: Sequence[str], what: str) -> None:
    """Holds a word against the known ones.

    Raises:
        UserError: it is none of them.
    """
    if word not in known:
        raise UserError(f"{what}={word!r} is not known. {near(word, known)}")
