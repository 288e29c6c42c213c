"""Files of predictions: parts that ranks append to, and the whole that they become.

`predictions/part-<rank>.jsonl` grows batch by batch; each batch ends with a line that says which
samples are done, so that a kill or a full disk costs one batch at most. `predictions.jsonl` is
written in one step when all samples are done: the same lines, sorted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from rsvlm.data.prediction_records import (
    Header,
    Id,
    PredictionRecord,
    header_of,
    record_of,
    record_order,
)
from rsvlm.errors import UserError
from rsvlm.files import written_whole

#: The folder of parts within a run's, and the file that they become.
FOLDER, WHOLE = "predictions", "predictions.jsonl"


@dataclass
class Predictions:
    """What files of predictions hold.

    Attributes:
        header: of all of them.
        records: sorted.
        done: positions of the samples that were asked about, whether or not they have records.
        skipped: one sentence for each sample that could not be read.
    """

    header: Header
    records: list[PredictionRecord]
    done: set[int] = field(default_factory=set)
    skipped: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[int]:
        """Positions that were not asked about yet."""
        return [n for n in range(self.header.facts.samples) if n not in self.done]


@dataclass
class _Part:
    """A file up to its last whole batch.

    Attributes:
        header: None where not even that was written whole.
        rows: (line number, line) of records.
        ends: the lines that end batches.
        size: bytes up to there.
    """

    header: Header | None = None
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    ends: list[dict[str, Any]] = field(default_factory=list)
    size: int = 0


def _read_part(path: Path) -> _Part:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}.") from None
    lines.pop()  # nothing, or what a kill left of a line
    part, size = _Part(), 0
    pending: list[tuple[int, dict[str, Any]]] = []
    broken: int | None = None
    for number, line in enumerate(lines, 1):
        size += len(line) + 1
        try:
            row = json.loads(line)
        except ValueError:
            row, broken = None, broken or number
            continue
        if part.header is None and broken is None:
            part.header, part.size = header_of(row, f"{path}, line {number}"), size
        elif isinstance(row, dict) and "done" in row:
            if broken is not None:
                raise UserError(
                    f"{path}, line {broken} is cut or no JSON, and whole lines stand behind it: "
                    f"delete {path.name}, and rsvlm eval resume=<the run's folder> asks again for "
                    "what it held."
                )
            part.rows += pending
            part.ends.append(row)
            part.size, pending = size, []
        elif isinstance(row, dict):
            pending.append((number, row))
        else:
            broken = broken or number
    return part


def parts_of(folder: Path) -> list[Path]:
    """The parts in a folder, by rank."""
    found = [p for p in folder.glob("part-*.jsonl") if p.stem.removeprefix("part-").isdigit()]
    return sorted(found, key=lambda path: int(path.stem.removeprefix("part-")))


def read_predictions(files: Iterable[Path]) -> Predictions | None:
    """What files hold, each up to its last whole batch; None where no batch was written whole.

    Raises:
        UserError: a file of another version or run, a line that is no record, an id twice.
    """
    header: Header | None = None
    first = Path()
    known: dict[Id, tuple[PredictionRecord, Path]] = {}
    done: set[int] = set()
    skipped: dict[str, None] = {}
    for path in files:
        part = _read_part(path)
        if part.header is None:
            continue
        if header is None:
            header, first = part.header, path
        elif different(header, part.header):
            raise UserError(
                f"{first} and {path} do not belong together: {different(header, part.header)}. "
                "Take the one that is of another run out of the folder."
            )
        for number, row in part.rows:
            one = record_of(row, f"{path}, line {number}")
            one.dataset, one.split = part.header.facts.name, part.header.facts.split
            if one.id in known:
                raise UserError(
                    f"{path}, line {number}: id {one.id!r} stands twice, also in "
                    f"{known[one.id][1].name}. Delete {path.name}, and rsvlm eval resume=<the "
                    "run's folder> asks again for what is then missing."
                )
            known[one.id] = one, path
        for end in part.ends:
            done.update(int(n) for n in end["done"])
            skipped |= dict.fromkeys(map(str, end.get("skipped", ())))
    if header is None:
        return None
    records = [one for one, _ in known.values()]
    records.sort(key=lambda one: record_order(one.id))
    return Predictions(header, records, done, list(skipped))


def different(one: Header, other: Header) -> str:
    """How two headers differ, in words; empty where predictions under them belong together."""
    a = {"protocol": one.protocol, "data set": one.facts.name, "split": one.facts.split}
    b = {"protocol": other.protocol, "data set": other.facts.name, "split": other.facts.split}
    a |= {"number of samples": str(one.facts.samples)} | one.fingerprint
    b |= {"number of samples": str(other.facts.samples)} | other.fingerprint
    said = [
        f"the {key} is {b.get(key, 'unknown')}, was {a.get(key, 'unknown')}"
        for key in dict.fromkeys([*a, *b])
        if a.get(key) != b.get(key)
    ]
    return "; ".join(said)


class PartWriter:
    """Appends the batches of one rank to its part; a torn end is cut off first.

    Args:
        folder: of the parts.
        rank: of this process.
        header: of the run.

    Raises:
        UserError: a folder that cannot be written, or a part of another run.
    """

    def __init__(self, folder: Path, rank: int, header: Header) -> None:
        self.path = folder / f"part-{rank}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            part = _read_part(self.path) if self.path.is_file() else _Part()
            self._file: BinaryIO = self.path.open("r+b" if self.path.is_file() else "w+b")
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written: {error}. Predictions are kept while a model "
                "answers: give a folder that can be written, hydra.run.dir=<folder>."
            ) from None
        if part.header is not None and different(part.header, header):
            raise UserError(
                f"{self.path} holds predictions of another run: {different(part.header, header)}. "
                "Evaluate in a new folder."
            )
        self._size = part.size
        self._cut()
        if part.header is None:
            self._write(header.line() + "\n")

    def append(
        self, records: Sequence[PredictionRecord], samples: Sequence[int], skipped: Sequence[str]
    ) -> None:
        """Writes a batch, whole or not at all.

        Args:
            records: what was answered.
            samples: the positions that the batch was made of.
            skipped: one sentence for each that could not be read.

        Raises:
            UserError: it cannot be written; what stood in the file before stays.
        """
        end: dict[str, Any] = {"done": [int(n) for n in samples]}
        if skipped:
            end["skipped"] = list(skipped)
        self._write("\n".join([*(one.line() for one in records), json.dumps(end)]) + "\n")

    def close(self) -> None:
        """Ends the file."""
        self._file.close()

    def _cut(self) -> None:
        self._file.truncate(self._size)
        self._file.seek(self._size)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8")
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            # What is left in the buffer must not come out behind what is cut here.
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError), self.path.open("r+b") as file:
                file.truncate(self._size)
            raise UserError(
                f"{self.path} cannot be written: {error}. What it held before is whole: mend that, "
                f"and go on with rsvlm eval resume=<the run's folder>."
            ) from None
        self._size += len(data)


def write_whole(path: Path, found: Predictions) -> None:
    """Writes all predictions as one file, in one step."""
    end = {"done": sorted(found.done)} | ({"skipped": found.skipped} if found.skipped else {})
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as part, part.open("w", encoding="utf-8") as file:
        file.write(found.header.line() + "\n")
        for one in found.records:
            file.write(one.line() + "\n")
        file.write(json.dumps(end) + "\n")
