"""Tables with a header: CSV, TSV, JSON, Parquet and Arrow alike give columns and rows."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsvlm.data import columnar
from rsvlm.data.datasets.base import listed
from rsvlm.data.text_files import detect_encoding, read_records
from rsvlm.errors import UserError

#: Endings of tables, in the order in which they are looked for.
ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".json")
#: What may stand between columns; spreadsheets of many countries write semicolons.
SEPARATORS = (",", "\t", ";")
WORDS = {",": "comma", "\t": "tab", ";": "semicolon"}
#: Files that hold a table and are not read, and what makes one of them.
_OTHERS = {
    ".gz": "unpack it (gunzip)",
    ".zip": "unpack it",
    ".xlsx": "save it as CSV",
    ".xls": "save it as CSV",
    ".ods": "save it as CSV",
    ".txt": "name it with data.dataset.table=",
}
#: What stands before an option that the user types.
_OPTION = "data.dataset."
#: Stages, and other words by which people call them.
STAGES: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """What is looked for in a header.

    Attributes:
        what: its name in errors.
        known: words that it may be called, the likeliest first.
        given: words that the user named instead; all of them must be there.
        option: how the user names them.
        optional: it may be missing.
    """

    what: str
    known: tuple[str, ...]
    given: tuple[str, ...] = ()
    option: str = ""
    optional: bool = False

    def of(self, header: Sequence[str]) -> list[int] | None:
        """Its places in a header; None where it is not there."""
        if self.given:
            lacks = any(word not in header for word in self.given)
            return None if lacks else [header.index(word) for word in self.given]
        lower = [name.lower() for name in header]
        found = [header.index(word) for word in self.known if word in header]
        found += [lower.index(word) for word in self.known if word in lower]
        return found[:1] or ([] if self.optional else None)

    def wanted(self) -> str:
        """What an error says was looked for."""
        joined = (" and " if self.given else " or ").join(self.given or self.known)
        return f"{self.what} column ({joined})"


class Table:
    """A table and the places of the columns that were looked for.

    Args:
        path: the file; JSON, JSON Lines, Parquet and Arrow by their endings.
        columns: what is looked for.
        separators: what may stand between columns.
        encoding: the file's; None finds it out.
        encodings: those that are tried.

    Attributes:
        places: for each of `columns`, its places.
        notice: a sentence on a guess at the encoding, or "".

    Raises:
        UserError: a column is not there (shows the header), or text in another encoding.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Column],
        *,
        separators: Sequence[str] = SEPARATORS,
        encoding: str | None = None,
        encodings: Sequence[str] = ("utf-8-sig",),
    ) -> None:
        self.path, self.columns, self.notice, self.separator = path, columns, "", ""
        self.spaced = False
        self._records: Iterable[Any] | None = None
        if path.suffix.lower() in columnar.ENDINGS:
            self.header, self._records = columnar.read_rows(path)
        elif path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
            held = self._records = read_records(path)
            keys = (key for record in held if isinstance(record, dict) for key in record)
            self.header = list(dict.fromkeys(keys))
        if self._records is not None:
            found = self._find(self.header)
            if found is None:
                raise self._unknown(", ".join(self.header), "")
            self.places = found
            return
        if encoding is None:
            encoding, self.notice = detect_encoding(path, encodings)
        self.encoding = encoding
        with open(path, encoding=encoding, newline="") as file:
            line = file.readline().rstrip("\r\n")
        if not line:
            raise UserError(f"{path} is empty, or begins with an empty line instead of a header.")
        for separator in separators:
            # `image, "caption"`: a space behind each separator is no part of what follows.
            self.spaced = f"{separator} " in line
            self.header = _parted(line, separator)
            found = self._find(self.header)
            if found is not None:
                self.places, self.separator = found, separator
                return
        # What is near to a wanted word is looked for in the header as it parts into most columns.
        self.header = max((_parted(line, each) for each in separators), key=len)
        between = " or ".join(WORDS.get(s, repr(s)) for s in separators)
        raise self._unknown(line[:200], f", with {between} between columns")

    def _find(self, header: Sequence[str]) -> list[list[int]] | None:
        found = [column.of(header) for column in self.columns]
        return None if None in found else found  # type: ignore[return-value]

    def _unknown(self, line: str, between: str) -> UserError:
        needed = [c for c in self.columns if not c.optional]
        wanted = " and ".join(f"{_article(c.what)} {c.wanted()}" for c in needed)
        options = dict.fromkeys(_OPTION + c.option for c in needed if c.option)
        last = ", ".join([*options, *([f"{_OPTION}separator="] if between else [])])
        return UserError(
            f"{self.path}: the header is {line!r}. Looked for {wanted}{between}."
            f"{self.near(needed)} Name others with {last}."
        )

    def near(self, columns: Sequence[Column]) -> str:
        """The columns of the header that may be meant for those of `columns` that it lacks."""
        out = ""
        for column in columns:
            if column.of(self.header):
                continue
            taken = {word for other in self.columns for word in other.known}
            spare = [word for word in self.header if word not in taken]
            for word in column.given or column.known:
                lower = {name.lower(): name for name in spare}
                close = difflib.get_close_matches(word, lower, n=1, cutoff=0.7)
                if close:
                    name = lower[close[0]]
                    how = f" ({_OPTION}{column.option}{name})" if column.option else f" ({word})"
                    out += f" Is {name!r} the {column.what} column{how}?"
                    break
        return out

    def rows(self) -> Iterator[tuple[int, list[list[Any]]]]:
        """Number of a row's first line, and for each of `columns` the values at its places.

        Raises:
            UserError: broken quoting, a line of another length, or a record that is no object.
        """
        if self._records is not None:
            for line, record in enumerate(self._records, 1):
                if not isinstance(record, Mapping):
                    raise UserError(f"{self.path}, line {line}: {str(record)[:60]!r} is no object.")
                yield (
                    line,
                    [[record.get(self.header[i]) for i in at] for at in self.places],
                )
            return
        lines = records(self.path, self.encoding, self.separator, spaced=self.spaced)
        width = len(next(lines)[1])
        for line, row in lines:
            if len(row) != width:
                raise UserError(
                    f"{self.path}, line {line}: {len(row)} columns, the header has {width}. A "
                    f"caption that holds a {WORDS.get(self.separator, self.separator)} must be "
                    "quoted."
                )
            yield line, [[row[i] for i in at] for at in self.places]


def texts_of(values: Sequence[Any]) -> list[str]:
    """Captions of a row: texts, or lists of them as JSON Lines have; "" for what is none."""
    out: list[str] = []
    for value in values:
        found = value if isinstance(value, list) else [value]
        out += [text if isinstance(text, str) else "" for text in found]
    return out


def _parted(line: str, separator: str) -> list[str]:
    """The columns of a header."""
    found = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    return [name.strip() for name in found]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def records(
    path: Path, encoding: str, separator: str, *, spaced: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table, each with the number of the line it begins on; empty ones are passed.

    Args:
        path: the file.
        encoding: its own.
        separator: between columns.
        spaced: spaces behind a separator are no part of what follows.

    Raises:
        UserError: broken quoting; names the line on which the record begins.
    """
    with open(path, encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=spaced)
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


def absent(split: str, held: Sequence[Path], root: Path) -> str:
    """What an error says where a split has no table."""
    words = STAGES.get(split, (split,))
    text = f"there is no {words[0]}{ENDINGS[0]} (or {', '.join(ENDINGS[1:3])})."
    others = sorted(p for p in root.iterdir() if p.suffix.lower() in _OTHERS and p.is_file())
    if others and not held:
        return f"{text} There is {others[0].name}: {_OTHERS[others[0].suffix.lower()]}."
    if held:
        text += (
            f" There is {listed(p.name for p in held)}; choose one with table= "
            f"(data.dataset.table={held[0].name}), which is then divided into splits"
        )
        left_out = f", or leave the split out: data.splits.{split}=null"
        text += (left_out if split in ("val", "test") else "") + "."
    return text


def differ_by_case(classes: Iterable[str]) -> list[str]:
    """Names of classes that differ by case alone, as `Pond and pond`."""
    spelt: dict[str, list[str]] = {}
    for name in sorted(set(classes)):
        spelt.setdefault(name.lower(), []).append(name)
    return [" and ".join(names) for names in spelt.values() if len(names) > 1]
