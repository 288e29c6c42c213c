"""Tables of your own with pairs of two dates: before, after, and captions or masks of change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsvlm.data.columnar import is_reference
from rsvlm.data.datasets import change_rules, sources
from rsvlm.data.datasets.base import Entry, FileDataset, file_and_folder, listed, metric_word
from rsvlm.data.datasets.change_pairs import GREYS
from rsvlm.data.datasets.divisions import apart, dividing, rule_columns
from rsvlm.data.datasets.file_names import FileNames
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.datasets.sources import Source
from rsvlm.data.datasets.splitting import SplitRule
from rsvlm.data.datasets.tables import ENDINGS, SEPARATORS, Column, Table, absent, texts_of
from rsvlm.data.palette import check_size, read_greys
from rsvlm.data.sample import Layout, Sample
from rsvlm.errors import UserError

_FLAGS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1, "no": 0, "yes": 1}
Key = tuple[str, str]


class ChangeTable(FileDataset):
    """Pairs of images with captions or masks of what changed, from a CSV, TSV or JSON Lines table.

    A line is a pair and a caption (JSON Lines: a caption or a list of them); the captions of one
    pair become one sample. Optional columns: `changeflag` says whether the pair has changed, `mask`
    names a picture that is white (255 or 1) where it has, `meta["change_mask"]` then. A table has
    captions or masks, or both. Parquet and folders of `datasets` are read alike.

    Args:
        root: folder of the table and the images, or the table in it.
        split: `train`, `val` or `test`: the table of that name, or a share of the only table.
        table: the table, relative to `root`; by default what `datasets/sources.py` finds, as
            `<split>.csv`, `.tsv`, `.jsonl` or `.parquet`, else the only one that is there.
        images: folder or folders of the images, relative to `root`; by default `root` and images/.
        before: name of the first date's column.
        after: name of the second date's column.
        text_column: name of the caption's column, or of several.
        separator: what stands between columns.
        encoding: the table's encoding.
        shares: split → share of a table that holds all splits; None divides nothing. The two pairs
            of one first date stay together.
        split_seed: seed of that division.
        split_by, cell, margin, split_file: see `splitting.SplitRule`.
        strip: what names of images have in front that is no part of `root`.
        instructions: `building` or `region` makes questions and answers from the masks, by the
            rules of `data/datasets/change_rules.py`, which are ours; None makes none.
        missing: what becomes of pairs whose images are not there (`datasets/missing.py`).
        name: word for metric names; by default the folder's name.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no table, an unknown header, a malformed line, or missing images.
    """

    title: ClassVar[str] = "A table of pairs of two dates"
    layout: ClassVar[str] = (
        "  {root}/<name>.csv   or .tsv, .jsonl: a header with before, after and caption (also\n"
        "                      changeflag: 0 or 1, and mask), then a line a caption; or a table\n"
        "                      a split\n"
        "  {root}/<image>      as the table names it, or in images/; other folders with images="
    )
    sample_layout: ClassVar[Layout] = "before_after"
    image_folders: ClassVar[tuple[str, ...]] = (".", "images")
    encodings: ClassVar[tuple[str, ...]] = ("utf-8-sig", "gb18030", "cp1252")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        table: str | None = None,
        images: str | Sequence[str] | None = None,
        before: str | None = None,
        after: str | None = None,
        text_column: str | Sequence[str] | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        shares: Mapping[str, float] | None = None,
        split_seed: int = 0,
        split_by: str | None = None,
        cell: float | None = None,
        margin: float = 0.0,
        split_file: str | None = None,
        strip: str | None = None,
        instructions: str | None = None,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        root, table = file_and_folder(root, table, ENDINGS)
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if instructions is not None:
            change_rules.known_thing(instructions)
        self.instructions = instructions
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or metric_word(self.root.resolve().name)
        self.rule = SplitRule(shares, split_seed, split_by, cell, margin, split_file)
        self.names_of = FileNames(self.root, strip)
        self.notes: list[str] = []
        words = [text_column] if isinstance(text_column, str) else list(text_column or ())
        self._looked_for = (
            Column("first date's", ("before", "image_before", "a"), _given(before), "before="),
            Column("second date's", ("after", "image_after", "b"), _given(after), "after="),
            Column(
                "caption",
                ("caption", "captions", "title", "text"),
                tuple(words),
                "text_column=",
                optional=not words,
            ),
            Column("flag", ("changeflag", "changed"), optional=True),
            Column("mask", ("mask", "change_mask", "label"), optional=True),
        )
        self._reading: dict[str, Any] = {
            "separators": (separator,) if separator else SEPARATORS,
            "encoding": encoding,
            "encodings": self.encodings,
        }
        source = self._source(table)
        pairs: dict[Key, tuple[list[str], dict[str, Any]]] = {}
        self._columns: dict[str, list[Any]] = {}
        hint = ""
        for path in source.tables:
            hint = self._read(path, pairs, rule_columns(self.rule, source.whole))
        what = listed(path.name for path in source.tables)
        self._check(pairs, what, hint)
        keys = list(pairs)
        firsts = [key[0] for key in keys]
        if source.whole:
            # By the first date: both pairs of one place are in one split.
            keys = [keys[i] for i in dividing(self, firsts, self._columns, self.rule, what)]
        elif split_by and table is None:
            apart(self, firsts, self._columns, self.rule, self._groups)
        self.problems += self.names_of.told()
        bare = [key for key in keys if not pairs[key][0] and "mask" not in pairs[key][1]]
        if bare:
            self.problems.append(
                f"{len(bare)} pair(s) have no caption and no mask and were left out: "
                f"{listed(key[0] for key in bare)}."
            )
        keys = [key for key in keys if key not in set(bare)]
        folders = [images] if isinstance(images, str) else list(images or self.image_folders)
        places = [self.root / folder for folder in folders]
        if source.images is not None and images is None:
            places = [source.images]
        self._find(keys, pairs, places, missing)

    def _source(self, given: str | None) -> Source:
        if given is not None:
            path = self.root / given
            if not path.is_file():
                raise self.not_found(f"there is no {given}.")
            return Source((path,), "named", whole=True)
        source, held = sources.found(self.root, self.split, divided=bool(self.rule.shares))
        if source is None:
            raise self.not_found(absent(self.split, held, self.root))
        self.notes.append(source.note)
        return source

    def _groups(self, path: Path) -> tuple[list[str], dict[str, list[Any]]]:
        """First dates and columns of the rule of another split's table."""
        kept, self._columns = (self._columns, list(self.problems)), {}
        pairs: dict[Key, tuple[list[str], dict[str, Any]]] = {}
        self._read(path, pairs, rule_columns(self.rule, False))
        columns = self._columns
        self._columns, self.problems = kept
        return [before for before, _ in pairs], columns

    def _read(
        self,
        path: Path,
        out: dict[Key, tuple[list[str], dict[str, Any]]],
        more: Sequence[Column],
    ) -> str:
        """Adds (before, after) → captions and facts, in the order of the first lines.

        Returns:
            The columns that may be meant for captions or masks, in a sentence for an error.
        """
        table = Table(path, (*self._looked_for, *more), **self._reading)
        self.problems += [table.notice] if table.notice else []
        for line, ((before,), (after,), captions, flags, masks, *rest) in table.rows():
            where = f"{path}, line {line}"
            if not all(isinstance(name, str) and name.strip() for name in (before, after)):
                raise UserError(f"{where}: a date has no image's name.")
            key = self._named(before, where), self._named(after, where)
            if key not in out:
                for column, values in zip(more, rest, strict=True):
                    if values:
                        self._columns.setdefault(column.known[0], []).append(values[0])
            texts, meta = out.setdefault(key, ([], {}))
            texts += [text.strip() for text in texts_of(captions) if text.strip()]
            if masks and isinstance(masks[0], str) and masks[0].strip():
                mask = self._named(masks[0], where)
                if meta.setdefault("mask", mask) != mask:
                    raise UserError(f"{where}: this pair had the other mask {meta['mask']!r}.")
            flag = str(flags[0]).strip().lower() if flags else ""
            if flag not in ("", "none", "nan") and flag not in _FLAGS:
                raise UserError(f"{where}: changeflag {flags[0]!r} is not 0 or 1.")
            if flag in _FLAGS and meta.setdefault("changeflag", _FLAGS[flag]) != _FLAGS[flag]:
                raise UserError(f"{where}: this pair had the other changeflag.")
        return table.near([each for each in self._looked_for[2:] if each.what != "flag"])

    def _named(self, name: str, where: str) -> str:
        if is_reference(name):
            return str(Path(name).relative_to(self.root))
        return self.names_of(name, where)

    def _check(
        self, pairs: Mapping[Key, tuple[list[str], dict[str, Any]]], what: str, hint: str
    ) -> None:
        if not pairs:
            raise UserError(f"{what}: there is a header, but no line below it.")
        masks = any("mask" in meta for _, meta in pairs.values())
        if not masks and not any(texts for texts, _ in pairs.values()):
            raise UserError(
                f"{what}: no pair has a caption or a mask.{hint} Name the column of captions with "
                "data.dataset.text_column=, or add one called mask with the masks' file names."
            )
        if self.instructions and not masks:
            raise UserError(
                f"data.dataset.instructions={self.instructions} reads masks, and {what} names "
                "none: add a column mask, or leave the option out."
            )

    def _find(self, keys: Sequence[Key], pairs: Any, folders: list[Path], missing: Missing) -> None:
        masks = {key: pairs[key][1]["mask"] for key in keys if "mask" in pairs[key][1]}
        names = list(dict.fromkeys([n for key in keys for n in key] + list(masks.values())))
        outside = [name for name in names if not is_reference(name)]
        found = find_folders(folders, outside).astype(np.int64).tolist()
        place = dict(zip(outside, found, strict=True))
        lost = [name for name in outside if place[name] < 0]
        problem = report_missing(lost, len(names), folders, missing)
        self.problems += [problem] if problem else []

        def path(name: str) -> str:
            return str((folders[max(place[name], 0)] if name in place else self.root) / name)

        for key in keys:
            needed = [*key, *([masks[key]] if key in masks else [])]
            if missing == "skip" and min(place.get(name, 0) for name in needed) < 0:
                continue
            texts, meta = pairs[key]
            if key in masks:
                meta = meta | {"mask": path(masks[key])}
            id = key[0] if key[0] == key[1] else " ".join(key)
            self.entries.append(
                Entry(id, path(key[0]), tuple(texts), meta=meta, more=(path(key[1]),))
            )
        if not self.entries:
            raise self.not_found(f"no pair of split {self.split!r} is there.")

    def read_maps(self, sample: Sample, index: int) -> None:
        """Adds `change_mask`, and questions from it where they are asked for.

        Raises:
            BrokenImage: the mask cannot be read, has other values than 0, 1 and 255, or another
                size than the images.
        """
        path = self.entries[index].meta.get("mask")
        if path is None:
            return
        mask = read_greys(path, GREYS)
        check_size(path, mask, sample.images[0])
        sample.meta["change_mask"] = mask
        if self.instructions:
            sample.turns = change_rules.instructions(mask, self.instructions)
            sample.meta.setdefault("changeflag", int(sample.turns[1].text == "Yes"))


def _given(word: str | None) -> tuple[str, ...]:
    return (word,) if word else ()
