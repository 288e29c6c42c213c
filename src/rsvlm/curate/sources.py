"""Tables of addresses in img2dataset's formats, and folders of pictures."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rsvlm.curate.record import Record
from rsvlm.data.folders import is_picture, walk
from rsvlm.errors import UserError, extra, near

#: Endings of tables.
FORMATS = ("parquet", "csv", "tsv", "jsonl", "json", "txt")
_URLS = ("url", "URL")
_CAPTIONS = ("caption", "TEXT", "text", "title", "alt")
#: Signs of one field of a CSV file.
_LONGEST = 2**24
#: A file up to this size is hashed whole, a larger one at its ends.
_WHOLE = 2**30


@dataclass
class UrlTable:
    """Addresses with captions: parquet, CSV, TSV, JSON Lines, a JSON list, or lines of addresses.

    The text formats may be packed (`.gz`). A folder gives its tables in the order of their names.
    A record has `id` (the number of its row), `url`, `caption`, `source`, and the columns that
    `columns` names.

    Args:
        path: a table, or a folder of some.
        url_col: the column of addresses; None takes `url` or `URL`.
        caption_col: that of captions; None takes `caption`, `TEXT`, `text`, `title` or `alt`, where
            there is one.
        source: where the records come from, as laion2b; None takes the column `source`, else the
            table's name up to its first sign that is no letter or digit.
        columns: further columns that are kept.

    Raises:
        UserError: no path, no table, or one without addresses.
    """

    path: str | None = None
    url_col: str | None = None
    caption_col: str | None = None
    source: str | None = None
    columns: Sequence[str] = ()
    name = "url_table"
    version = "1"

    def tables(self) -> list[Path]:
        """The files, in order."""
        if not self.path:
            raise UserError(
                "input= names a table of addresses (parquet, csv, tsv, jsonl, json, txt), or a "
                "folder of some."
            )
        path = Path(self.path).expanduser()
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.is_file() and _kind(p))
            if not found:
                raise UserError(f"input={path} holds no table: {', '.join(FORMATS)}.")
            return found
        if not path.is_file():
            raise UserError(f"input={path}: there is no such file (looked from {Path.cwd()}).")
        if not _kind(path):
            raise UserError(f"input={path} is no table that can be read: {', '.join(FORMATS)}.")
        return [path]

    def fingerprint(self) -> str:
        """Of the files' contents."""
        return fingerprint(self.tables())

    def __length_hint__(self) -> int:
        paths = self.tables()
        if any(_kind(path) != "parquet" for path in paths):
            return 0
        with extra("readers"):
            import pyarrow.parquet as pq
        return sum(_opened(pq, path).metadata.num_rows for path in paths)

    def __iter__(self) -> Iterator[Record]:
        number = 0
        for path in self.tables():
            columns: tuple[str, str | None] | None = None
            for row in self._rows(path):
                # The first row says what there is; one that lacks its address is dropped later.
                columns = columns or self._columns(row, path)
                yield self._record(number, row, path, columns)
                number += 1

    def _rows(self, path: Path) -> Iterator[Mapping[str, Any]]:
        kind = _kind(path)
        if kind == "parquet":
            yield from self._parquet(path)
            return
        try:
            with _text(path) as file:
                if kind == "txt":
                    yield from ({"url": line.strip()} for line in file if line.strip())
                elif kind == "jsonl":
                    yield from (self._checked(json.loads(x), path) for x in file if x.strip())
                elif kind == "json":
                    yield from (self._checked(row, path) for row in json.load(file))
                else:
                    rows = csv.DictReader(file, delimiter="\t" if kind == "tsv" else ",")
                    self._columns(rows.fieldnames or (), path)
                    yield from _with_long_fields(rows)
        except (ValueError, csv.Error, EOFError, gzip.BadGzipFile) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} cannot be read as {kind}: {error}.") from error

    def _checked(self, row: Any, path: Path) -> Mapping[str, Any]:
        if not isinstance(row, dict):
            raise UserError(f"{path}: a row is no object: {str(row)[:60]!r}.")
        return row

    def _parquet(self, path: Path) -> Iterator[Mapping[str, Any]]:
        with extra("readers"):
            import pyarrow.parquet as pq
        file = _opened(pq, path)
        names = file.schema_arrow.names
        url, caption = self._columns(names, path)
        wanted = {url, caption, "source", *self.columns}
        columns = [name for name in names if name in wanted]
        for batch in file.iter_batches(batch_size=4096, columns=columns):
            yield from batch.to_pylist()

    def _columns(self, names: Any, path: Path) -> tuple[str, str | None]:
        known = [str(name) for name in names]
        url = self.url_col or next((name for name in _URLS if name in known), None)
        if url is None or url not in known:
            word = url or "url"
            raise UserError(
                f"{path} has no column {word!r} of addresses: give pipeline.source.url_col="
                f"<column>. {near(word, known)}"
            )
        caption = self.caption_col or next((name for name in _CAPTIONS if name in known), None)
        if self.caption_col and caption not in known:
            raise UserError(f"{path} has no column {caption!r}. {near(str(caption), known)}")
        return url, caption

    def _record(
        self, number: int, row: Mapping[str, Any], path: Path, columns: tuple[str, str | None]
    ) -> Record:
        url, caption = columns
        stem = path.name.partition(".")[0]
        end = next((i for i, sign in enumerate(stem) if not sign.isalnum()), len(stem))
        return {
            "id": f"{number:010d}",
            "url": str(row.get(url) or ""),
            "caption": str(row.get(caption) or "") if caption else "",
            "source": self.source or str(row.get("source") or stem[:end]),
            **{name: row.get(name) for name in self.columns},
        }


@dataclass
class ImageFolder:
    """Pictures of a folder, with the JSON beside each where there is one, under `meta`.

    Of `a/b.jpg` that is `a/b.json`, or `a/b_labels_metadata.json` (BigEarthNet); of one that is no
    JSON `meta` says so. The id is the path within the folder.

    Args:
        path: of the folder.
        source: what the records are called, as fmow.

    Raises:
        UserError: no folder, or no picture in it.
    """

    path: str | None = None
    source: str = ""
    name = "image_folder"
    version = "1"

    def files(self) -> list[Path]:
        """The pictures, in the order of their paths."""
        if not self.path:
            raise UserError("input= names a folder of pictures.")
        top = Path(self.path).expanduser()
        if not top.is_dir():
            raise UserError(f"input={top} is no folder (looked from {Path.cwd()}).")
        found = sorted(Path(at) / name for at, names in walk(top) for name in names)
        found = [path for path in found if is_picture(str(path))]
        if not found:
            raise UserError(f"input={top} holds no picture.")
        return found

    def fingerprint(self) -> str:
        """Of names and sizes: pictures may be many."""
        digest = hashlib.sha256()
        for path in self.files():
            digest.update(f"{path.relative_to(self._top())}\0{path.stat().st_size}\n".encode())
        return digest.hexdigest()[:16]

    def __length_hint__(self) -> int:
        return len(self.files())

    def __iter__(self) -> Iterator[Record]:
        for path in self.files():
            record: Record = {
                "id": path.relative_to(self._top()).as_posix(),
                "source": self.source,
                "image": path.read_bytes(),
            }
            for beside in (
                path.with_suffix(".json"),
                path.with_name(f"{path.stem}_labels_metadata.json"),
            ):
                if beside.is_file():
                    try:
                        record["meta"] = json.loads(beside.read_text(encoding="utf-8"))
                    except ValueError as error:  # one file of a million; its picture is dropped
                        record["meta"] = {"unreadable": f"{beside}: {error}"}
            yield record

    def _top(self) -> Path:
        return Path(self.path or "").expanduser()


def fingerprint(paths: Sequence[Path]) -> str:
    """A hash of files' contents; of one over 1 GiB, of its size and its ends."""
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            else:
                digest.update(file.read(2**20))
                file.seek(-(2**20), 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]


def _with_long_fields(rows: Iterator[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Rows with fields of up to `_LONGEST` signs; the process' own limit is given back."""
    while True:
        before = csv.field_size_limit(_LONGEST)
        try:
            row = next(rows, None)
        finally:
            csv.field_size_limit(before)
        if row is None:
            return
        yield row


def _kind(path: Path) -> str:
    endings = [ending[1:].lower() for ending in path.suffixes]
    packed = endings[-1:] == ["gz"]
    found = endings[-2:-1] if packed else endings[-1:]
    return found[0] if found and found[0] in FORMATS[packed:] else ""


def _text(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _opened(pq: Any, path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no parquet file, or is damaged: {error}.") from error
