"""Text files of annotations: decoded, split into lines and parsed in one way for every reader.

Files come from many hands: with a byte order mark (Windows' editor), with CR LF, as JSON Lines
under the name .json, in another encoding, cut short, or nested so deep that a parser gives up.
Each of these is read, or is one error that names file and place.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError

_CHUNK = 1 << 20
_DEEP = "its brackets are nested deeper than any data is; the file is damaged, or was made to harm"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file (or UTF-16 with its mark), without a byte order mark.

    Raises:
        UserError: another encoding (names the byte), or a file that cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, byte {error.start}: not UTF-8 text ({error.reason}). Is it compressed, or in "
            "another encoding? Write it as UTF-8."
        ) from error


def read_lines(path: Path) -> list[str]:
    r"""The lines of a text file without their ends, `\n` or `\r\n`; the last may lack one.

    Not `str.splitlines`: a caption may hold U+2028 and its like.

    Raises:
        UserError: see `read_text`.
    """
    text = read_text(path)
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def read_names(path: Path) -> list[str]:
    """A list of names, one a line; spaces around them and empty lines are no part of it."""
    return [line.strip() for line in read_lines(path) if line.strip()]


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, which raises no other error than `ValueError`, however deep the text is."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(_DEEP) from error


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        UserError: it is not JSON; names file, line and column.
    """
    return _parsed(read_text(path), path)


def _parsed(text: str, path: Path) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}. The file is not "
            "valid JSON; was its download cut short?"
        ) from error
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}.") from error


def read_records(path: Path, keys: Iterable[str] = ("annotations", "data")) -> list[Any]:
    """The records of a JSON list, of a list under one of `keys`, or of JSON Lines.

    What a file is shows in its text: JSON Lines are also read under the name .json, and an object
    without a list in it is one line of them.

    Raises:
        UserError: it is not JSON (file and line), or holds no list.
    """
    text = read_text(path)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _json_lines(text, path)
    try:
        content = parse_json(text)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            return list(_parsed(text, path))  # which raises, with file and line
        return _json_lines(text, path)
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    if isinstance(content, Mapping):
        found = next((content[key] for key in keys if key in content), None)
        one_line = found is None and "\n" not in text.strip()
        content = [content] if one_line else content if found is None else found
    if not isinstance(content, list):
        raise UserError(f"{path} holds no list of records.")
    return content


def _json_lines(text: str, path: Path) -> list[Any]:
    out = []
    # Not splitlines: a record may hold U+2028 and its like unescaped.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                out.append(parse_json(line))
            except json.JSONDecodeError as error:
                raise UserError(
                    f"{path}, line {number}, column {error.colno}: {error.msg}. The line is not "
                    "valid JSON; was the download cut short?"
                ) from error
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}.") from error
    return out


def detect_encoding(path: Path, known: Sequence[str]) -> tuple[str, str]:
    """The first of the known encodings in which a file can be read whole, and reads like text.

    UTF-16 is taken by its mark.

    Args:
        path: the file.
        known: encodings, the likeliest first. `gb18030`, in which nearly every file can be read,
            is taken where its double bytes look like Chinese; `cp1252` (Windows' Latin-1) where
            its letters stand alone among ASCII, as accents do.

    Returns:
        The encoding, and a sentence that tells of a guess; "" where there was none to make.

    Raises:
        UserError: there is none; names the first line that is not UTF-8.
    """
    trouble = ""
    with open(path, "rb") as file:
        start = file.read(2)
    if start in _UTF16:
        return "utf-16", ""
    for encoding in known:
        decoder = codecs.getincrementaldecoder(encoding)("strict")
        line = 1
        pairs = _Pairs()
        try:
            with open(path, "rb") as file:
                while chunk := file.read(_CHUNK):
                    line += decoder.decode(chunk).count("\n")
                    pairs.add(chunk)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            trouble = trouble or f"line {line} is not {encoding.removesuffix('-sig').upper()}"
            continue
        if encoding == "gb18030" and not pairs.chinese():
            continue
        if encoding == "cp1252":
            if not pairs.latin():
                continue
            return encoding, (
                f"{path.name} is not UTF-8 and was read as Windows-1252 (Latin-1); encoding= names "
                "another."
            )
        return encoding, ""
    raise UserError(
        f"{path}: {trouble}, nor is the file {' or '.join(known[1:]) or 'anything else known'}. "
        "Name its encoding with encoding=, or write it as UTF-8."
    )


class _Pairs:
    """Bytes above ASCII, by how they stand: in runs, as Chinese, or alone, as accents."""

    def __init__(self) -> None:
        self.bytes, self.runs, self.letters, self.alone = 0, 0, 0, 0

    def add(self, chunk: bytes) -> None:
        high = chunk.translate(_CLASSES)
        for run in filter(None, high.split(b"a")):
            self.runs += 1
            self.bytes += len(run)
            self.letters += run.count(b"L")
            self.alone += len(run) == 1

    def chinese(self) -> bool:
        """Whether the bytes come in pairs: both of a common character are above ASCII."""
        return self.alone <= 0.1 * self.runs

    def latin(self) -> bool:
        """Whether they are letters with accents, most of them alone in their word."""
        return self.alone >= 0.5 * self.runs and self.letters >= 0.5 * self.bytes


#: ASCII → a, Latin-1's letters → L, other bytes → h.
_CLASSES = bytes(
    ord("a") if byte < 0x80 else ord("L") if byte >= 0xC0 else ord("h") for byte in range(256)
)
