"""The tables of a knowledge base in LanceDB: their columns, and how parts become rows and back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.errors import extra
from rsvlm.retrieval.knowledge_records import Chunk, from_mapping
from rsvlm.retrieval.knowledge_version import Floats, Ints, Part

TABLES = ("records", "chunks", "pictures")
INSTEAD = "Without it, --store files keeps a base on the base install."


def connect(root: Path) -> Any:
    """The database of a base's folder."""
    with extra("knowledge", INSTEAD):
        import lancedb
    return lancedb.connect(str(root / "lance"))


def schema_of(name: str, dim: int) -> Any:
    """The columns of a table; `dim` numbers a vector."""
    with extra("readers", INSTEAD):  # LanceDB brings it
        import pyarrow as pa

    number, text, vector = pa.int64(), pa.string(), pa.list_(pa.float32(), max(dim, 1))
    fields = {
        "records": {"key": number, "id": text, "line": text},
        "chunks": {"key": number, "record": text, "type": text, "text": text, "first": number}
        | {"last": number, "order": number, "vector": vector},
        "pictures": {"key": number, "record": text, "vector": vector},
    }
    return pa.schema(list(fields[name].items()))


def append(table: Any, schema: Any, parts: Iterator[dict[str, Any]]) -> None:
    """Adds rows, some at a time, as one version of the table."""
    with extra("readers", INSTEAD):
        import pyarrow as pa

    def batches() -> Iterator[Any]:
        for part in parts:
            columns = []
            for field in schema:
                held = part[field.name]
                if field.name == "vector":
                    made = pa.FixedSizeListArray.from_arrays(
                        pa.array(held.reshape(-1)), schema.field("vector").type.list_size
                    )
                else:
                    made = pa.array(held, field.type)
                columns.append(made)
            if len(part["key"]):
                yield pa.record_batch(columns, schema=schema)

    made = list(batches())
    if made:
        table.add(pa.RecordBatchReader.from_batches(schema, made))


def _record_rows(parts: Sequence[Part], record: int, chunk: int) -> Iterator[dict[str, Any]]:
    for part in parts:
        count = len(part.records)
        yield {
            "key": np.arange(record, record + count),
            "id": [held.id for held in part.records],
            "line": [held.line() for held in part.records],
        }
        record += count


def _chunk_rows(parts: Sequence[Part], record: int, chunk: int) -> Iterator[dict[str, Any]]:
    for part in parts:
        count = len(part.chunks)
        yield {
            "key": np.arange(chunk, chunk + count),
            "record": [part.records[i].id for i in part.record_of],
            "type": [held.type for held in part.chunks],
            "text": [held.text for held in part.chunks],
            "first": [held.span[0] for held in part.chunks],
            "last": [held.span[1] for held in part.chunks],
            "order": [held.order for held in part.chunks],
            "vector": part.text,
        }
        chunk += count


def _picture_rows(parts: Sequence[Part], record: int, chunk: int) -> Iterator[dict[str, Any]]:
    for part in parts:
        there = np.flatnonzero(part.image_of >= 0)
        yield {
            "key": record + there,
            "record": [part.records[i].id for i in there],
            "vector": part.image[part.image_of[there]],
        }
        record += len(part.records)


ROWS = {"records": _record_rows, "chunks": _chunk_rows, "pictures": _picture_rows}


def counted(firsts: Sequence[int], parts: Sequence[Part]) -> list[int]:
    """The keys behind those of parts, of records and of chunks."""
    records, chunks = firsts
    return [
        records + sum(len(part.records) for part in parts),
        chunks + sum(len(part.chunks) for part in parts),
    ]


def part_of(held: dict[str, tuple[Any, Floats]], said: dict[str, Any]) -> tuple[Part, Ints]:
    """What tables hold, in the order of their keys; and the ids of the chunks' rows."""
    records, _ = held["records"]
    chunks, text = held["chunks"]
    pictures, image = held["pictures"]
    ids = {id: i for i, id in enumerate(records["id"].to_pylist())}
    names = ("type", "text", "first", "last", "order")
    rows = zip(*(chunks[name].to_pylist() for name in names), strict=True)
    image_of = np.full(len(ids), -1, dtype=np.int64)
    image_of[[ids[id] for id in pictures["record"].to_pylist()]] = np.arange(pictures.num_rows)
    part = Part(
        [from_mapping(json.loads(line), "lance") for line in records["line"].to_pylist()],
        [Chunk(kind, text, (a, b), order) for kind, text, a, b, order in rows],
        np.array([ids[id] for id in chunks["record"].to_pylist()], dtype=np.int64),
        text,
        image_of,
        image,
        said["left_out"],
    )
    return part, chunks["_rowid"].to_numpy().astype(np.int64)


def columns_of(table: Any, dim: int) -> tuple[Any, Floats]:
    """A table without its vectors, in the order of its keys; and the vectors, held once."""
    names = [name for name in table.schema.names if name != "vector"]
    told = table.search().select(names).with_row_id(True).to_arrow().sort_by("key")
    if "vector" not in table.schema.names:
        return told, np.zeros((0, dim), dtype=np.float32)
    keys, vectors = told["key"].to_numpy(), np.empty((told.num_rows, dim), dtype=np.float32)
    for batch in table.search().select(["key", "vector"]).to_batches(8192):
        if not batch.num_rows:
            continue  # reshape asks how many there are
        some = batch["vector"].flatten().to_numpy()
        vectors[np.searchsorted(keys, batch["key"].to_numpy())] = some.reshape(-1, dim)
    return told, vectors


def delete(table: Any, column: str, ids: Collection[str]) -> None:
    """Deletes the rows whose column is one of some ids."""
    listed = sorted(ids)
    for start in range(0, len(listed), 1000):
        table.delete(f"{column} IN ({quoted(listed[start : start + 1000])})")


def quoted(words: Sequence[str]) -> str:
    """Words as a list of SQL's texts."""
    return ", ".join("'" + word.replace("'", "''") + "'" for word in words)
