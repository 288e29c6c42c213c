"""Tables of your own with a class for each image: CSV, TSV, JSON Lines, Parquet, `datasets`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data import columnar
from rsvlm.data.datasets import sources
from rsvlm.data.datasets.base import Entry, listed
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.data.datasets.splitting import split_word
from rsvlm.data.datasets.tables import STAGES, Column, differ_by_case
from rsvlm.data.text_files import read_names
from rsvlm.errors import UserError


class ClassTable(PairsTable):
    """Images and their scene classes from a table with a header; found and divided as pairs are.

    The class is a name, or a number where `classes` or the file itself (Parquet and Arrow of
    `datasets`) says the names. An image has one class; two rows that disagree are an error.

    Args:
        root, split, table, images, image_column, separator, encoding, missing, name, convert:
            see `PairsTable`.
        class_column: name of the class's column; by default `label`, `class`, `category`, `scene`.
        classes: names in the order of the labels, or a text file with one a line, relative to
            `root`; by default those of the table, sorted. Name them where a split lacks some.
        ignore_case: read classes that differ by case alone as one, in its commonest spelling.
        shares, split_seed, split_by, cell, margin, split_file, strip: see `PairsTable`.

    Raises:
        UserError: as `PairsTable`; classes that differ by case, or that `classes` lacks; an image
            of two classes.
    """

    title: ClassVar[str] = "A table of images and classes"
    layout: ClassVar[str] = (
        "  {root}/<split>.csv   or .tsv, .jsonl, .parquet: a header with image (or filepath) and\n"
        "                       label (or class), then a line an image; or one table for all\n"
        "  {root}/<image>       as the table names it, or in images/; other folders with images="
    )
    beside = "class"
    text_columns: ClassVar[tuple[str, ...]] = ("label", "class", "category", "scene", "class_name")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        table: str | Sequence[str] | None = None,
        images: str | Sequence[str] | None = None,
        image_column: str | None = None,
        class_column: str | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        classes: Sequence[str] | str | None = None,
        ignore_case: bool = False,
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
        self.ignore_case = ignore_case
        self.all_classes: set[str] = set()
        self._spelt: Counter[str] = Counter()
        self._numbers: dict[str, list[str]] = {}
        super().__init__(
            root,
            split,
            table=table,
            images=images,
            image_column=image_column,
            text_column=class_column,
            separator=separator,
            encoding=encoding,
            shares=shares,
            split_seed=split_seed,
            split_by=split_by,
            cell=cell,
            margin=margin,
            split_file=split_file,
            strip=strip,
            missing=missing,
            name=name,
            convert=convert,
        )
        if classes is None and table is None and not self.division:
            self._of_other_splits()
        self._label(classes)

    def _of_other_splits(self) -> None:
        """Reads the classes of the other splits too, so that one class has one label in all."""
        for split in STAGES:
            source, _ = sources.find(self.root, split)
            if source is not None and split != split_word(self.split) and not source.whole:
                kept = list(self.problems), self.empty_captions, self._columns
                self._read(list(source.tables), True, ())
                self.problems, self.empty_captions, self._columns = kept

    def _looked_for(self) -> tuple[Column, ...]:
        image, caption = super()._looked_for()
        return image, replace(caption, what="class", option="class_column=")

    def _texts(self, values: list[Any]) -> list[str]:
        return ["" if value is None else str(value).strip() for value in values]

    def _read(self, tables: list[Path], group: bool, more: Sequence[Column]) -> Any:
        names, texts, owner = super()._read(tables, group, more)
        self.all_classes |= set(texts)
        self._spelt.update(texts)
        for path in tables:
            if path.suffix.lower() in columnar.ENDINGS:
                self._numbers |= columnar.class_names(path)
        return names, texts, owner

    def _label(self, given: Sequence[str] | str | None) -> None:
        """Turns what the rows say into labels."""
        said = [list(dict.fromkeys(e.texts)) for e in self.entries]
        torn = [e.id for e, words in zip(self.entries, said, strict=True) if len(words) > 1]
        if torn:
            raise UserError(
                f"{len(torn)} image(s) have two classes in different rows: {listed(torn)}. Keep "
                "one row for each image."
            )
        if self.ignore_case:
            # Of the whole table, so that a class has one name in all splits.
            order = sorted(self._spelt, key=lambda word: (self._spelt[word], word))
            commonest = {word.lower(): word for word in order}
            said = [[commonest[words[0].lower()]] for words in said]
            self.all_classes = {commonest.get(word.lower(), word) for word in self.all_classes}
        twice = differ_by_case(self.all_classes)
        if twice:
            raise UserError(
                f"classes differ by case alone: {listed(twice)}. Write one of them in the table, "
                "or read them as one: data.dataset.ignore_case=true."
            )
        names = self._names(given)
        labels = {name: i for i, name in enumerate(names)}
        if all(word.isdecimal() for word in self.all_classes) and not set(names) & self.all_classes:
            labels = {str(i): i for i in range(len(names))}
        odd = sorted(self.all_classes - set(labels))
        if odd:
            raise UserError(
                f"{self.root}: the table has {listed(odd)}, and data.dataset.classes= has "
                f"{listed(names, 30)}. Add them there, or mend the table."
            )
        self.classes = names
        self.entries = [
            Entry(e.id, e.path, (), labels[words[0]], e.meta, e.more)
            for e, words in zip(self.entries, said, strict=True)
        ]

    def _names(self, given: Sequence[str] | str | None) -> list[str]:
        if given is None:
            held = next(iter(self._numbers.values()), None)
            if held is not None:
                return held
            numbers = all(name.isdecimal() for name in self.all_classes)
            return sorted(self.all_classes, key=int if numbers else str)
        if not isinstance(given, str):
            return [str(name) for name in given]
        file = self.root / given
        if not file.is_file():
            raise UserError(f"data.dataset.classes={given}: there is no file {file}.")
        return read_names(file)
