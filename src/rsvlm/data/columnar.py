"""Parquet files and Arrow folders: their rows, and pictures that lie within them.

A picture within a table is named by a reference, `<file>::<column>::<row>` (`::<number>` behind it
in a list of pictures), which stands where else a path does; `cell` gives its bytes. Hugging Face's
`datasets` stores pictures so, as a struct of `bytes` and `path`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from rsvlm.data.images import BrokenImage
from rsvlm.errors import UserError, extra

#: Between the parts of a reference; no file of a data set has it in its name.
MARK = "::"
ENDINGS = (".parquet", ".arrow")
_ROWS = 8192


def is_reference(path: str) -> bool:
    """Whether a path is the reference of a picture within a table."""
    return MARK in path


def read_rows(path: Path) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """The columns of a file, and its rows as dictionaries, with references for pictures within it.

    Args:
        path: .parquet, or .arrow as `datasets` writes it.

    Returns:
        Names of the columns, and the rows; references begin with `path` as it is given.

    Raises:
        UserError: it is not such a file, or pyarrow is not there.
    """
    schema = _schema(str(path))
    pictures = [field.name for field in schema if _is_picture(field.type)]
    return list(schema.names), _rows(str(path), schema.names, pictures)


def class_names(path: Path) -> dict[str, list[str]]:
    """Names of the classes of columns of class numbers, as `datasets` notes them in a file."""
    held = _schema(str(path)).metadata or {}
    try:
        features = json.loads(held.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            column: [str(name) for name in each["names"]]
            for column, each in features.items()
            if isinstance(each, dict) and each.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def cell(reference: str) -> bytes:
    """The bytes of a picture within a table.

    Raises:
        BrokenImage: the file or the row is not there, or holds no bytes.
    """
    file, column, row, *number = reference.split(MARK)
    try:
        value = _value(file, column, int(row))
        value = value[int(number[0])] if number else value
    except (UserError, KeyError, IndexError, ValueError, TypeError) as error:
        raise BrokenImage(reference, f"cannot be read ({error}).") from error
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise BrokenImage(reference, "holds no bytes of a picture.")
    return data


def _is_picture(kind: Any) -> bool:
    with extra("readers"):
        from pyarrow import types
    if types.is_list(kind) or types.is_large_list(kind):
        return _is_picture(kind.value_type)
    if types.is_struct(kind):
        return {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _rows(file: str, names: Sequence[str], pictures: Sequence[str]) -> Iterator[dict[str, Any]]:
    plain = [name for name in names if name not in pictures]
    named = {name: _references(file, name) for name in pictures}
    for part in _parts(file, plain):
        if not plain:
            yield from (
                {n: next(found) for n, found in named.items()} for _ in range(part.num_rows)
            )
            continue
        # A few rows at a time: a row group of a table without pictures may be all of it.
        for some in part.to_batches(_ROWS) if hasattr(part, "to_batches") else [part]:
            for each in some.to_pylist():
                yield each | {name: next(found) for name, found in named.items()}


def _references(file: str, column: str) -> Iterator[Any]:
    """What stands for the pictures of a column: references, or paths that the file gives.

    Of a file that notes that each row has its bytes, they are not read: they may be many gigabytes.
    """
    row = 0
    for count, part in _picture_parts(file, column):
        for value in part.column(column) if part is not None else (None,) * count:
            name = f"{file}{MARK}{column}{MARK}{row}"
            yield name if part is None else _named(value, name)
            row += 1


def _picture_parts(file: str, column: str) -> Iterator[tuple[int, Any]]:
    """Rows of each part of a column, and the part; None of one whose pictures are all within."""
    if file.endswith(".arrow"):
        yield from ((part.num_rows, part) for part in _parts(file, [column]))
        return
    with extra("readers"):
        from pyarrow import parquet
    with _told(file), parquet.ParquetFile(file) as held:
        for group in range(held.num_row_groups):
            facts = held.metadata.row_group(group)
            whole = _whole(facts, column)
            part = None if whole else held.read_row_group(group, columns=[column])
            yield facts.num_rows, part


def _whole(group: Any, column: str) -> bool:
    """Whether each row of a row group has the bytes of one picture, as its statistics tell."""
    for i in range(group.num_columns):
        chunk = group.column(i)
        if chunk.path_in_schema in (column, f"{column}.bytes"):
            told = chunk.statistics
            return bool(told is not None and told.has_null_count and told.null_count == 0)
    return False  # a list of pictures


def largest_group(path: Path, column: str) -> int:
    """Bytes of a column in the largest row group of a .parquet; each is read as a whole."""
    with extra("readers"):
        from pyarrow import parquet
    with _told(str(path)):
        facts = parquet.read_metadata(path)
    sizes = [0]
    for group in map(facts.row_group, range(facts.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        sizes.append(
            sum(
                chunk.total_uncompressed_size
                for chunk in chunks
                if chunk.path_in_schema.partition(".")[0] == column
            )
        )
    return max(sizes)


def _named(value: Any, reference: str) -> Any:
    with extra("readers"):
        from pyarrow import ListScalar, StructScalar
    if not value.is_valid:
        return None
    if isinstance(value, ListScalar):
        return [_named(one, f"{reference}{MARK}{i}") for i, one in enumerate(value.values)]
    if isinstance(value, StructScalar) and not value["bytes"].is_valid:
        return value["path"].as_py()
    return reference


def _parts(file: str, columns: Sequence[str]) -> Iterator[Any]:
    """Columns of a file, a row group or a record batch at a time."""
    if file.endswith(".arrow"):
        yield from _mapped(file).select(columns).to_batches(max_chunksize=1024)
        return
    with extra("readers"):
        from pyarrow import parquet
    with _told(file), parquet.ParquetFile(file) as held:
        for group in range(held.num_row_groups):
            yield held.read_row_group(group, columns=list(columns))


def _schema(file: str) -> Any:
    if file.endswith(".arrow"):
        return _mapped(file).schema
    with extra("readers"):
        from pyarrow import parquet
    with _told(file):
        return parquet.read_schema(file)


@contextmanager
def _told(file: str) -> Iterator[None]:
    with extra("readers"):
        from pyarrow import ArrowInvalid
    try:
        yield
    except (ArrowInvalid, OSError) as error:
        raise UserError(
            f"{file} is no whole {Path(file).suffix[1:]} file ({error}). Was its download cut "
            "short, or is it a Git LFS pointer?"
        ) from error


@lru_cache(maxsize=16)
def _mapped(file: str) -> Any:
    """An .arrow file, mapped into memory and not read."""
    with extra("readers"):
        from pyarrow import ArrowInvalid, ipc, memory_map
    with _told(file):
        try:
            return ipc.open_stream(memory_map(file)).read_all()
        except ArrowInvalid:
            return ipc.open_file(memory_map(file)).read_all()


def _value(file: str, column: str, row: int) -> Any:
    if file.endswith(".arrow"):
        return _mapped(file).column(column)[row].as_py()
    group, first = _group_of(file, row)
    return _group(file, column, group)[row - first].as_py()


@lru_cache(maxsize=64)
def _starts(file: str) -> tuple[int, ...]:
    with extra("readers"):
        from pyarrow import parquet
    facts = parquet.ParquetFile(file).metadata
    starts = [0]
    for i in range(facts.num_row_groups):
        starts.append(starts[-1] + facts.row_group(i).num_rows)
    return tuple(starts)


def _group_of(file: str, row: int) -> tuple[int, int]:
    """The row group of a parquet file that holds a row, and the number of its first row."""
    starts = _starts(file)
    for group in range(len(starts) - 1):
        if starts[group] <= row < starts[group + 1]:
            return group, starts[group]
    raise IndexError(f"there is no row {row}")


@lru_cache(maxsize=2)
def _group(file: str, column: str, group: int) -> Any:
    """The pictures of one row group, kept while neighbours are asked for."""
    with extra("readers"):
        from pyarrow import parquet
    return parquet.ParquetFile(file).read_row_group(group, columns=[column]).column(column)
