"""A version of a knowledge base: records, chunks and vectors, and the files that hold them.

    text.npy image.npy      [N, D] and [M, D] float32, memory-mapped; rows in groups by chunk type
    rows.npz chunks.txt     each row's record, place and span; the texts, one behind the other
    records.jsonl           the records
    version.json            the groups, what was left out, and the sizes of the other files

No torch here: a build may be all numpy.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from rsvlm.files import write_text, written_whole
from rsvlm.retrieval.knowledge_columns import Columns
from rsvlm.retrieval.knowledge_records import CHUNK_TYPES, Chunk, KnowledgeRecord, from_mapping

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_FILES = ("text.npy", "image.npy", "rows.npz", "chunks.txt", "records.jsonl")


@dataclass
class Part:
    """Some records with their chunks and vectors.

    Attributes:
        records: R of them.
        chunks: N of them, windows.
        record_of: [N] position of each chunk's record in `records`.
        text: [N, D] float32, of unit length.
        image_of: [R] row of each record's picture in `image`; -1 without one.
        image: [M, D] float32, of unit length.
        left_out: sentences on what could not be used.
    """

    records: list[KnowledgeRecord]
    chunks: list[Chunk]
    record_of: Ints
    text: Floats
    image_of: Ints
    image: Floats
    left_out: list[str] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the part, in one step."""
        told = {
            "records": [record.line() for record in self.records],
            "chunks": [[c.type, c.text, *c.span, c.order] for c in self.chunks],
            "left_out": self.left_out,
        }
        with written_whole(path) as beside, beside.open("wb") as file:
            np.savez(
                file,
                told=np.frombuffer(json.dumps(told).encode(), dtype=np.uint8),
                record_of=self.record_of,
                text=self.text,
                image_of=self.image_of,
                image=self.image,
            )

    @classmethod
    def read(cls, path: Path) -> Part:
        """What `save` wrote."""
        with np.load(path, allow_pickle=False) as held:
            told = json.loads(held["told"].tobytes())
            records = [from_mapping(json.loads(line), str(path)) for line in told["records"]]
            chunks = [Chunk(t, s, (a, b), order) for t, s, a, b, order in told["chunks"]]
            return cls(
                records,
                chunks,
                held["record_of"],
                held["text"],
                held["image_of"],
                held["image"],
                told["left_out"],
            )


class Counts(NamedTuple):
    """How much a version holds: records, pictures, and chunks by type."""

    records: int
    pictures: int
    chunks: dict[str, int]


@dataclass
class Version:
    """One version of a base, opened: N rows of text, M pictures, R records.

    Attributes:
        number: counts from 1.
        text: [N, D] float32 of unit length, memory-mapped; rows of a chunk type stand together.
        image: [M, D] float32 of unit length, memory-mapped.
        groups: chunk type -> first row and the row behind the last.
        record_of: [N] position of each row's record.
        image_of: [R] row of each record's picture, -1 without one.
        order: [N] position of each row in the order in which the chunks were made.
        spans: [N, 2] first and last character of each row's text within its whole chunk.
        offsets: [N + 1] where each row's text begins in `blob`.
        blob: the texts' bytes, memory-mapped.
        records: R of them.
        left_out: what was not used when it was made.
        fingerprint: of the plan that made it.
        row_ids: [N] what a store's table calls each row, by which its index names it; None where
            there is no table.
    """

    number: int
    text: Floats
    image: Floats
    groups: dict[str, tuple[int, int]]
    record_of: Ints
    image_of: Ints
    order: Ints
    spans: Ints
    offsets: Ints
    blob: npt.NDArray[np.uint8]
    records: list[KnowledgeRecord]
    left_out: list[str]
    fingerprint: str
    row_ids: Ints | None = None

    remote: ClassVar[bool] = False  # whether the rows are on a server, and none is here

    def __len__(self) -> int:
        return len(self.record_of)

    @functools.cached_property
    def columns(self) -> Columns:
        """What filters read of the records."""
        return Columns(self.records)

    @functools.cached_property
    def picture_of(self) -> Ints:
        """[N] row of each row's picture in `image`, -1 without one."""
        return self.image_of[self.record_of] if len(self) else self.record_of

    @functools.cached_property
    def by_picture(self) -> tuple[Ints, Ints]:
        """[N] rows in the order of their pictures, and [N] those pictures."""
        order = np.argsort(self.picture_of, kind="stable")
        return order, self.picture_of[order]

    def counts(self) -> Counts:
        """How much it holds."""
        chunks = {kind: last - first for kind, (first, last) in self.groups.items()}
        return Counts(len(self.records), len(self.image), chunks)

    def known(self, ids: Collection[str]) -> set[str]:
        """Which of some ids are those of its records."""
        return {record.id for record in self.records if record.id in ids}

    def text_of(self, row: int) -> str:
        """The text of a row."""
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes().decode()

    def type_of(self, row: int) -> str:
        """The chunk type of a row."""
        return next(kind for kind, (a, b) in self.groups.items() if a <= row < b)

    def chunk(self, row: int) -> Chunk:
        """A row's chunk."""
        span = (int(self.spans[row, 0]), int(self.spans[row, 1]))
        return Chunk(self.type_of(row), self.text_of(row), span, int(self.order[row]))

    def without(self, ids: Collection[str]) -> Part:
        """What stays when records are removed, as a part."""
        stays = np.array([record.id not in ids for record in self.records], dtype=bool)
        place = np.cumsum(stays) - 1
        records = [r for r, kept in zip(self.records, stays, strict=True) if kept]
        rows = np.flatnonzero(stays[self.record_of]) if len(self) else np.zeros(0, dtype=np.int64)
        rows = rows[np.argsort(self.order[rows], kind="stable")]
        images = self.image_of[stays]
        image_of = np.where(images >= 0, np.cumsum(images >= 0) - 1, -1)
        return Part(
            records,
            [self.chunk(int(row)) for row in rows],
            place[self.record_of[rows]].astype(np.int64),
            np.asarray(self.text[rows]),
            image_of.astype(np.int64),
            np.asarray(self.image[images[images >= 0]]),
            self.left_out,
        )


def fingerprint(*told: Any) -> str:
    """A short word that stands for what is to be made."""
    digest = hashlib.sha256()
    for one in told:
        digest.update(json.dumps(one, sort_keys=True, ensure_ascii=False).encode())
    return digest.hexdigest()[:16]


def _mapped(path: Path) -> Floats:
    # Copy on write: torch warns of arrays that may not be written to.
    held: Floats = np.load(path, mmap_mode="c", allow_pickle=False)
    return held


def rows_in_groups(
    number: int,
    chunks: Sequence[Chunk],
    text: Floats,
    image: Floats,
    record_of: Ints,
    image_of: Ints,
    records: list[KnowledgeRecord],
) -> Version:
    """A version in memory of chunks that stand in the order of their types; see `Version`."""
    groups: dict[str, tuple[int, int]] = {}
    for row, chunk in enumerate(chunks):
        groups[chunk.type] = (groups.get(chunk.type, (row, row))[0], row + 1)
    texts = [chunk.text.encode() for chunk in chunks]
    return Version(
        number,
        text,
        image,
        groups,
        record_of,
        image_of,
        np.array([chunk.order for chunk in chunks], dtype=np.int64),
        np.array([chunk.span for chunk in chunks], dtype=np.int64).reshape(len(chunks), 2),
        np.cumsum([0, *map(len, texts)], dtype=np.int64),
        np.frombuffer(b"".join(texts), dtype=np.uint8),
        records,
        [],
        "",
    )


def read_files(folder: Path, number: int) -> Version:
    """The version that `write_files` wrote.

    Raises:
        OSError: a file is not there.
        ValueError: one is damaged; so KeyError and EOFError.
    """
    said = json.loads((folder / "version.json").read_text(encoding="utf-8"))
    for name, size in said["bytes"].items():
        there = (folder / name).stat().st_size
        if there != size:
            raise ValueError(f"{name} has {there} bytes, not {size}")
    with np.load(folder / "rows.npz", allow_pickle=False) as held:
        rows = {name: held[name] for name in held.files}
    lines = (folder / "records.jsonl").read_text(encoding="utf-8").split("\n")
    where = str(folder / "records.jsonl")
    blob = folder / "chunks.txt"
    return Version(
        number,
        _mapped(folder / "text.npy"),
        _mapped(folder / "image.npy"),
        {kind: (a, b) for kind, (a, b) in said["groups"].items()},
        rows["record_of"],
        rows["image_of"],
        rows["order"],
        rows["spans"],
        rows["offsets"],
        np.memmap(blob, np.uint8, "c") if blob.stat().st_size else np.zeros(0, np.uint8),
        [from_mapping(json.loads(line), where) for line in lines if line],
        said["left_out"],
        said["fingerprint"],
        rows.get("row_ids"),
    )


def write_files(
    folder: Path, parts: Sequence[Part], fingerprint: str, row_ids: Ints | None = None
) -> None:
    """Writes parts as one version.

    Args:
        folder: empty.
        parts: in the order of their records.
        fingerprint: of the plan that made them.
        row_ids: see `Version`, in the order of the parts' chunks.
    """
    dim = max((part.text.shape[1] for part in parts), default=0)
    kinds = [kind for part in parts for kind in (chunk.type for chunk in part.chunks)]
    count = len(kinds)
    rank = {kind: i for i, kind in enumerate([*CHUNK_TYPES, *sorted({*kinds} - {*CHUNK_TYPES})])}
    ranks = np.array([rank[kind] for kind in kinds], dtype=np.int64)
    chunks = [chunk for part in parts for chunk in part.chunks]
    # A published base is numbered as published; the others in the order of their records.
    order = np.array([c.order for c in chunks], dtype=np.int64)
    order = order if count and order.min() >= 0 else np.arange(count, dtype=np.int64)
    rows = np.lexsort((order, ranks))
    place = np.empty(count, dtype=np.int64)
    place[rows] = np.arange(count)
    text = _empty(folder / "text.npy", count, dim)
    image = _empty(folder / "image.npy", sum(len(part.image) for part in parts), dim)
    record_of = np.empty(count, dtype=np.int64)
    image_of: list[int] = []
    records: list[KnowledgeRecord] = []
    row = picture = 0
    for part in parts:
        there = place[row : row + len(part.chunks)]
        if part.chunks:
            text[there] = part.text
        record_of[there] = part.record_of + len(records)
        if len(part.image):
            image[picture : picture + len(part.image)] = part.image
        image_of += [int(i) + picture if i >= 0 else -1 for i in part.image_of]
        records += part.records
        row, picture = row + len(part.chunks), picture + len(part.image)
    texts = [chunks[i].text.encode() for i in rows]
    sizes = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    spans = np.array([chunks[i].span for i in rows], dtype=np.int64).reshape(count, 2)
    for array in (text, image):
        if isinstance(array, np.memmap):
            array.flush()
    held = {
        "record_of": record_of,
        "image_of": np.array(image_of, dtype=np.int64),
        "order": order[rows],
        "spans": spans,
        "offsets": sizes,
    }
    if row_ids is not None:
        held["row_ids"] = row_ids[rows]
    np.savez(folder / "rows.npz", allow_pickle=False, **held)
    (folder / "chunks.txt").write_bytes(b"".join(texts))
    lines = "".join(f"{record.line()}\n" for record in records)
    (folder / "records.jsonl").write_text(lines, encoding="utf-8")
    ends = {kind: np.flatnonzero(ranks[rows] == i) for kind, i in rank.items()}
    said = {
        "groups": {k: (int(at[0]), int(at[-1]) + 1) for k, at in ends.items() if len(at)},
        "left_out": [text for part in parts for text in part.left_out],
        "fingerprint": fingerprint,
        "bytes": {name: (folder / name).stat().st_size for name in _FILES},
    }
    for name in _FILES:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    write_text(folder / "version.json", json.dumps(said, indent=1))


def _empty(path: Path, count: int, dim: int) -> Floats:
    if count and dim:
        made: Floats = np.lib.format.open_memmap(path, "w+", np.float32, (count, dim))
        return made
    np.save(path, np.zeros((count, dim), dtype=np.float32))
    return np.zeros((count, dim), dtype=np.float32)
