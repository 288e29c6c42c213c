"""Tables of your own with pairs of two dates: before, after, caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from rsvlm.data.datasets.base import Entry, FileDataset, listed, metric_word
from rsvlm.data.datasets.missing import Missing, check_missing, find_folders, report_missing
from rsvlm.data.datasets.tables import (
    Column,
    Table,
    absent,
    divide,
    of_split,
    only_table,
    texts_of,
)
from rsvlm.data.sample import Layout
from rsvlm.errors import UserError

_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "no": 0, "yes": 1}


class ChangeTable(FileDataset):
    """Pairs of images and captions of what changed, from a CSV, TSV or JSON Lines table.

    A line is a pair and a caption (JSON Lines: a caption or a list of them); the captions of one
    pair become one sample. An optional column `changeflag` says whether the pair has changed.

    Args:
        root: folder of the table and the images.
        split: `train`, `val` or `test`: the table of that name, or a share of the only table.
        table: the table, relative to `root`; by default `<split>.csv`, `.tsv` or `.jsonl`, else
            the only one that is there.
        images: folder or folders of the images, relative to `root`; by default `root` and images/.
        before: name of the first date's column.
        after: name of the second date's column.
        text_column: name of the caption's column, or of several.
        separator: what stands between columns.
        encoding: the table's encoding.
        shares: split → share of a table that holds all splits; None divides nothing.
        split_seed: seed of that division.
        missing: what becomes of pairs whose images are not there (`datasets/missing.py`).
        name: word for metric names; by default the folder's name.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no table, an unknown header, a malformed line, or missing images.
    """

    title: ClassVar[str] = "A table of pairs of two dates"
    layout: ClassVar[str] = (
        "  {root}/<name>.csv   or .tsv, .jsonl: a header with before, after and caption (also\n"
        "                      changeflag: 0 or 1), then a line a caption; or a table a split\n"
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
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.name: str = name or metric_word(self.root.resolve().name)
        words = [text_column] if isinstance(text_column, str) else list(text_column or ())
        path, whole = self._table(table, shares is not None)
        found = Table(
            path,
            (
                Column("first date's", ("before", "image_before", "a"), _given(before), "before="),
                Column("second date's", ("after", "image_after", "b"), _given(after), "after="),
                Column("caption", ("caption", "captions", "title"), tuple(words), "text_column="),
                Column("flag", ("changeflag", "changed"), optional=True),
            ),
            separators=(separator,) if separator else (",", "\t"),
            encoding=encoding,
            encodings=self.encodings,
        )
        self.problems += [found.notice] if found.notice else []
        pairs = self._pairs(found)
        keys = list(pairs)
        if whole and shares:
            # By the first date: both pairs of one place are in one split.
            chosen, notice = divide([key[0] for key in keys], split, shares, split_seed, path.name)
            keys = [keys[i] for i in chosen]
            self.problems.append(notice)
        folders = [images] if isinstance(images, str) else list(images or self.image_folders)
        self._find(keys, pairs, [self.root / folder for folder in folders], missing)

    def _table(self, given: str | None, divides: bool) -> tuple[Path, bool]:
        if given is not None:
            path = self.root / given
            if not path.is_file():
                raise self.not_found(f"there is no {given}.")
            return path, True
        own, held = of_split(self.root, self.split)
        single = only_table(held) if own is None and divides else None
        if own is None and single is None:
            raise self.not_found(absent(self.split, held, self.root))
        return (own, False) if own is not None else (held[0], True)

    def _pairs(self, table: Table) -> dict[tuple[str, str], tuple[list[str], dict[str, Any]]]:
        """(before, after) → captions and facts, in the order of the first lines."""
        out: dict[tuple[str, str], tuple[list[str], dict[str, Any]]] = {}
        for line, ((before,), (after,), captions, flags) in table.rows():
            if not all(isinstance(name, str) and name.strip() for name in (before, after)):
                raise UserError(f"{table.path}, line {line}: a date has no image's name.")
            texts, meta = out.setdefault((before.strip(), after.strip()), ([], {}))
            texts += [text.strip() for text in texts_of(captions) if text.strip()]
            flag = str(flags[0]).strip().lower() if flags else ""
            if flag not in ("", "none") and flag not in _FLAGS:
                raise UserError(
                    f"{table.path}, line {line}: changeflag {flags[0]!r} is not 0 or 1."
                )
            if flag in _FLAGS and meta.setdefault("changeflag", _FLAGS[flag]) != _FLAGS[flag]:
                raise UserError(f"{table.path}, line {line}: this pair had the other changeflag.")
        if not out:
            raise UserError(f"{table.path}: there is a header, but no line below it.")
        bare = [before for (before, _), (texts, _) in out.items() if not texts]
        if bare:
            self.problems.append(
                f"{len(bare)} pair(s) have no caption and were left out: {listed(bare)}."
            )
        return {key: found for key, found in out.items() if found[0]}

    def _find(
        self, keys: Sequence[tuple[str, str]], pairs: Any, folders: list[Path], missing: Missing
    ) -> None:
        names = list(dict.fromkeys(name for key in keys for name in key))
        place = dict(
            zip(names, find_folders(folders, names).astype(np.int64).tolist(), strict=True)
        )
        lost = [name for name in names if place[name] < 0]
        problem = report_missing(lost, len(names), " or ".join(map(str, folders)), missing)
        self.problems += [problem] if problem else []
        for key in keys:
            if missing == "skip" and min(place[name] for name in key) < 0:
                continue
            before, after = (str(folders[max(place[name], 0)] / name) for name in key)
            texts, meta = pairs[key]
            id = key[0] if key[0] == key[1] else " ".join(key)
            self.entries.append(Entry(id, before, tuple(texts), meta=meta, more=(after,)))
        if not self.entries:
            raise self.not_found(f"no pair of split {self.split!r} is there.")


def _given(word: str | None) -> tuple[str, ...]:
    return (word,) if word else ()
