"""Some records in one file, with what was counted on the way: the unit of work and of restarting.

A part is a zip that any tool opens: `records.jsonl`, `dropped.jsonl`, `counts.json`, and `blobs`
with the bytes and arrays, to which the lines point. Nothing of the clock goes in.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.curate.record import Record
from rsvlm.errors import UserError
from rsvlm.files import written_whole

_BYTES, _ARRAY = "$bytes", "$array"
#: The first moment that a zip can name.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@dataclass
class Count:
    """What a stage did to records.

    Attributes:
        came: records that it was given.
        went: records that it gave; more than came where it makes several of one.
        dropped: reason -> how many.
        seconds: of the wall clock.
    """

    came: int = 0
    went: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, other: Count) -> None:
        """Counts another part's too."""
        self.came += other.came
        self.went += other.went
        self.seconds += other.seconds
        for reason, number in other.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + number


@dataclass
class Part:
    """Records, and what became of those that are not there any more.

    Attributes:
        records: those that came through.
        dropped: for each, `id stage reason detail`, and of the first few `text` and a small picture
            `preview`.
        counts: stage's label -> `Count`.
    """

    records: list[Record]
    dropped: list[Record] = field(default_factory=list)
    counts: dict[str, Count] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the part in one step.

        Raises:
            UserError: a record holds something else than texts, numbers, bytes and arrays.
            WriteError: the disk is full, or may not be written to.
        """
        blobs = bytearray()

        def aside(value: Any) -> Any:
            if isinstance(value, np.generic):
                return value.item()
            if isinstance(value, bytes):
                start = len(blobs)
                blobs.extend(value)
                return {_BYTES: [start, len(value)]}
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                start = len(blobs)
                blobs.extend(np.ascontiguousarray(value).tobytes())
                return {_ARRAY: [start, value.dtype.str, list(value.shape)]}
            raise UserError(
                f"a record holds a {type(value).__name__}, which no file of a part can keep: it is "
                "texts, numbers, lists, dicts, bytes and arrays (see rsvlm.curate.record)."
            )

        def lines(records: list[Record]) -> bytes:
            rows = (json.dumps(record, ensure_ascii=False, default=aside) for record in records)
            return "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogatepass")

        members: dict[str, bytes | bytearray]
        members = {"records.jsonl": lines(self.records), "dropped.jsonl": lines(self.dropped)}
        counts = {label: asdict(count) for label, count in self.counts.items()}
        members["counts.json"] = json.dumps(counts).encode()
        members["blobs"] = blobs
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as beside, zipfile.ZipFile(beside, "w") as file:
            for name, content in members.items():
                # Pictures are compressed already.
                how = zipfile.ZIP_STORED if name == "blobs" else zipfile.ZIP_DEFLATED
                entry = zipfile.ZipInfo(name, _NO_TIME)
                file.writestr(entry, content, compress_type=how, compresslevel=1)

    @classmethod
    def read(cls, path: Path) -> Part:
        """What `save` wrote.

        Raises:
            UserError: the file is damaged.
        """
        with _opened(path) as file:
            blobs = file.read("blobs")
            return cls(
                _records(file.read("records.jsonl"), blobs),
                _records(file.read("dropped.jsonl"), blobs),
                _counts(file.read("counts.json")),
            )


def counts_of(path: Path) -> dict[str, Count]:
    """The counts of a part alone."""
    with _opened(path) as file:
        return _counts(file.read("counts.json"))


def dropped_of(path: Path) -> list[Record]:
    """What was dropped of a part alone."""
    with _opened(path) as file:
        return _records(file.read("dropped.jsonl"), file.read("blobs"))


def _counts(content: bytes) -> dict[str, Count]:
    held: Mapping[str, Mapping[str, Any]] = json.loads(content)
    return {label: Count(**count) for label, count in held.items()}


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is no part, or is damaged ({error}): remove it, and the same command makes it "
            "again."
        ) from error


def _records(content: bytes, blobs: bytes) -> list[Record]:
    def back(value: dict[str, Any]) -> Any:
        if _BYTES in value:
            start, length = value[_BYTES]
            return blobs[start : start + length]
        if _ARRAY in value:
            start, kind, shape = value[_ARRAY]
            count = int(np.prod(shape, dtype=np.int64))
            return np.frombuffer(blobs, np.dtype(kind), count, start).reshape(shape).copy()
        return value

    # Python is asked for each dict only where something lies aside.
    hook = back if blobs else None
    text = content.decode("utf-8", "surrogatepass")
    return [json.loads(line, object_hook=hook) for line in text.split("\n") if line]
