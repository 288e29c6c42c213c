"""Tables of image and caption pairs: CSV, TSV, JSON Lines, as open_clip and others train from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsvlm.data.datasets.base import FileDataset, listed, metric_word
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.datasets.packed import PackedEntries, Strings
from rsvlm.data.datasets.tables import Column, Table, absent, divide, of_split, only_table, texts_of
from rsvlm.errors import UserError, near


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
            default `<split>.csv`, `.tsv` or `.jsonl`.
        images: folder or folders of the images, relative to `root`; each image is taken from the
            first that has it; by default `root` itself and images/.
        image_column: name of the image's column.
        text_column: name of the caption's column, or of several.
        separator: what stands between columns.
        encoding: the tables' encoding.
        group: join the lines of an image.
        shares: split → share, as {train: 0.8, val: 0.1, test: 0.1}: a table that is given with
            `table`, or is the only one in `root`, is divided into these by a hash of the images'
            names, which is told. None divides nothing.
        split_seed: of that hash.
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
        images: str | Sequence[str] | None = None,
        image_column: str | None = None,
        text_column: str | Sequence[str] | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        group: bool = True,
        shares: Mapping[str, float] | None = None,
        split_seed: int = 0,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        self.image_column, self.separator, self.encoding = image_column, separator, encoding
        self.text_column = [text_column] if isinstance(text_column, str) else text_column
        self.shares = dict(shares) if shares else None
        tables, divided = self._tables(table)
        self.name: str = name or self.name or metric_word(self.root.resolve().name)
        self.empty_captions = 0
        names, texts, owner = self._read(tables, group)
        given = self.image_folders if images is None else images
        folders = [given] if isinstance(given, str) else list(given)
        paths = [self.root / folder for folder in folders if (self.root / folder).is_dir()]
        if not paths:
            if missing == "error":
                raise self.not_found(f"there is no folder {' or '.join(folders)}.")
            paths = [self.root / folders[0]]
        wanted = list(names)
        place = find_folders(paths, wanted)
        lost = [wanted[i] for i in np.flatnonzero(place < 0)]
        problem = report_missing(lost, len(wanted), " or ".join(map(str, paths)), missing)
        bare = len(wanted) - len(np.unique(owner))
        chosen = np.arange(len(wanted))
        if divided and self.shares:
            what = listed(path.name for path in tables)
            chosen, notice = divide(wanted, split, self.shares, split_seed, what)
            self.problems.append(notice)
        if missing == "skip":
            chosen = chosen[place[chosen] >= 0]
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

    def _tables(self, given: str | Sequence[str] | None) -> tuple[list[Path], bool]:
        """The tables to read, and whether they hold all splits."""
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if given is None:
            own, held = of_split(self.root, self.split)
            if own is not None:
                return [own], False
            single = only_table(held) if self.shares else None
            if single is None:
                raise self.not_found(absent(self.split, held, self.root))
            return [single], True
        paths = [self.root / word for word in ([given] if isinstance(given, str) else given)]
        lacking = [str(path.relative_to(self.root)) for path in paths if not path.is_file()]
        if lacking:
            raise self.not_found(f"there is no {listed(lacking)}.")
        return paths, self.shares is not None

    def _read(self, tables: list[Path], group: bool) -> tuple[Strings, Strings, np.ndarray]:
        """The images' names, all captions, and the image that each caption belongs to."""
        names, texts, owner = Strings(), Strings(), []
        known: dict[str, int] = {}
        columns = (
            Column(
                "image",
                self.image_columns,
                (self.image_column,) if self.image_column else (),
                "image_column=",
            ),
            Column("caption", self.text_columns, tuple(self.text_column or ()), "text_column="),
        )
        for path in tables:
            table = Table(
                path,
                columns,
                separators=(self.separator,) if self.separator else self.separators,
                encoding=self.encoding,
                encodings=self.encodings,
            )
            self.problems += [table.notice] if table.notice else []
            for line, ((image,), captions) in table.rows():
                if not isinstance(image, str) or not image:
                    raise UserError(f"{path}, line {line}: the image has no name.")
                which = known.get(image, len(names)) if group else len(names)
                if which == len(names):
                    names.append(image)
                    if group:
                        known[image] = which
                for text in texts_of(captions):
                    if text.strip():
                        texts.append(text)
                        owner.append(which)
                    else:
                        self.empty_captions += 1
        if not len(names):
            raise UserError(f"{listed(map(str, tables))}: there is a header, but no line below it.")
        return names, texts, np.array(owner, np.int64)


def known_part(word: str, known: Sequence[str], what: str) -> None:
    """Holds a word against the known ones.

    Raises:
        UserError: it is none of them.
    """
    if word not in known:
        raise UserError(f"{what}={word!r} is not known. {near(word, known)}")
