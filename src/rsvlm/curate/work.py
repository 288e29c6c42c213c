"""Stages over one part: what a worker does, wherever it runs."""

from __future__ import annotations

import io
import json
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from rsvlm.curate.parts import Count, Part
from rsvlm.curate.record import AnyStage, Barrier, BatchStage, Dropped, Outcome, Record
from rsvlm.errors import UserError
from rsvlm.files import write_text

#: Dropped records of one stage and reason that a part keeps a picture of, for the sheet.
_PREVIEWS = 4
_PREVIEW_SIDE = 128
#: What Pillow's decoders raise on what is no picture.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
#: Pixels of a picture that is drawn small.
_LARGEST = 2**26


@dataclass(frozen=True)
class Job:
    """One part to be made.

    Attributes:
        number: of the part.
        target: its file.
        records: what it is made of, or
        source: the part that it is made of.
        decided: the barrier's decisions on that part; None where no barrier stands between.
    """

    number: int
    target: Path
    records: list[Record] | None = None
    source: Path | None = None
    decided: Path | None = None


@dataclass
class Worker:
    """Runs the stages between two barriers over parts; models are loaded with the first.

    Attributes:
        stages: label and stage, in order; no barriers.
        barrier: label of the one before, whose decisions are applied.
        listed: dropped records of one stage and reason that a part names; None names all.
    """

    stages: Sequence[tuple[str, AnyStage]]
    barrier: str = ""
    listed: int | None = None
    _ready: bool = field(default=False, repr=False)

    def __call__(self, job: Job) -> None:
        """Makes a part and writes it."""
        if not self._ready:
            for label, stage in self.stages:
                if isinstance(stage, BatchStage):
                    if stage.batch_size < 1:
                        raise UserError(f"{label}.batch_size={stage.batch_size}: at least 1.")
                    stage.setup()
            self._ready = True
        if job.source is not None:
            before = Part.read(job.source)
            # What was counted before stays in the part where it was counted.
            part = Part(before.records)
        else:
            part = Part(list(job.records or ()))
        if job.decided is not None:
            self._step(part, self.barrier, self._decided(part.records, job.decided))
        for label, stage in self.stages:
            with fields_are_there(label, part.records):
                self._step(part, label, _outcomes(stage, part.records))
        part.save(job.target)

    def _decided(self, records: Sequence[Record], path: Path) -> Iterator[tuple[Record, Outcome]]:
        rows = json.loads(path.read_text(encoding="utf-8"))
        for record, row in zip(records, rows, strict=True):
            yield record, Dropped(*row) if isinstance(row, list) else {**record, **row}

    def _step(self, part: Part, label: str, outcomes: Iterator[tuple[Record, Outcome]]) -> None:
        count, began = Count(came=len(part.records)), time.perf_counter()
        kept: list[Record] = []
        for record, outcome in outcomes:
            if isinstance(outcome, Dropped):
                number = count.dropped.get(outcome.reason, 0) + 1
                count.dropped[outcome.reason] = number
                if self.listed is None or number <= self.listed:
                    part.dropped.append(_loss(record, label, outcome, number <= _PREVIEWS))
            else:
                kept.extend(outcome if isinstance(outcome, list) else [outcome])
        _check_ids(kept, label)
        count.went, count.seconds = len(kept), time.perf_counter() - began
        part.records, part.counts[label] = kept, count


@contextmanager
def fields_are_there(label: str, records: Sequence[Record]) -> Iterator[None]:
    """Tells a field that no stage made from a fault of a stage's own."""
    try:
        yield
    except KeyError as error:
        name = error.args[0] if error.args else None
        if isinstance(name, str) and not any(name in record for record in records):
            raise UserError(
                f"{label} reads {name!r}, and no record has it: the stage that makes it is left "
                f"out, or stands behind {label}."
            ) from error
        raise


def _outcomes(stage: AnyStage, records: list[Record]) -> Iterator[tuple[Record, Outcome]]:
    if isinstance(stage, BatchStage):
        for start in range(0, len(records), stage.batch_size):
            some = records[start : start + stage.batch_size]
            found = stage.process([dict(record) for record in some])
            if len(found) != len(some):
                raise UserError(
                    f"{stage.name} answered {len(found)} of {len(some)} records: a stage gives one "
                    "outcome for each."
                )
            yield from zip(some, found, strict=True)
    elif not isinstance(stage, Barrier):
        for record in records:
            yield record, stage(dict(record))


def _check_ids(records: Sequence[Record], label: str) -> None:
    ids = [record.get("id") for record in records]
    if len(set(ids)) != len(ids) or not all(isinstance(one, str) for one in ids):
        odd = next((one for one in ids if not isinstance(one, str) or ids.count(one) > 1), None)
        raise UserError(
            f"behind {label} the id {odd!r} is no text or stands on two records: a stage that "
            "makes several records of one gives each an id of its own."
        )


def _loss(record: Record, label: str, why: Dropped, shown: bool) -> Record:
    found: Record = {"id": record.get("id"), "stage": label, "reason": why.reason}
    if why.detail:
        found["detail"] = why.detail
    if shown:
        found |= shown_of(record)
    return found


def shown_of(record: Record) -> Record:
    """What a sheet shows of a record: `text`, and of a picture `preview`, a small JPEG."""
    found: Record = {}
    for name in ("caption", "text", "title"):
        if isinstance(record.get(name), str):
            found["text"] = record[name][:200]
            break
    data = record.get("image")
    if isinstance(data, bytes) and data:
        preview = _small(data)
        if preview:
            found["preview"] = preview
    return found


def _small(data: bytes) -> bytes:
    """A small picture; none of what is no picture, or one that would fill the memory."""
    from PIL import Image

    from rsvlm.curate.images import known_formats

    # Without rsvlm.data, which brings torch, seconds and memory that most workers need not.
    try:
        with Image.open(io.BytesIO(data), formats=known_formats()) as image:
            if image.width * image.height > _LARGEST:
                return b""
            image.draft("RGB", (_PREVIEW_SIDE, _PREVIEW_SIDE))
            image.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=80)
            return out.getvalue()
    except (*_DAMAGE, Image.DecompressionBombError):
        return b""


def decide(barrier: Barrier, paths: Sequence[Path], targets: Sequence[Path]) -> None:
    """Asks a barrier about the records of all parts, and writes a file of decisions for each.

    Args:
        barrier: keys of all records are in memory while it decides.
        paths: the parts.
        targets: the files.

    Raises:
        UserError: it does not answer for each record.
    """
    import numpy as np

    ids: list[str] = []
    sizes: list[int] = []
    blocks: list[Any] = []
    for path in paths:
        records = Part.read(path).records
        with fields_are_there(barrier.name, records):
            keys = [barrier.key(record) for record in records]
        ids.extend(record["id"] for record in records)
        sizes.append(len(records))
        if keys:
            blocks.append(np.stack(keys) if isinstance(keys[0], np.ndarray) else keys)
    arrays = bool(blocks) and isinstance(blocks[0], np.ndarray)
    keys_of_all = _joined(blocks) if arrays else list(chain.from_iterable(blocks))
    del blocks
    found = barrier.decide(ids, keys_of_all) if ids else []
    if len(found) != len(ids):
        raise UserError(f"{barrier.name} decided on {len(found)} of {len(ids)} records.")
    start = 0
    for size, target in zip(sizes, targets, strict=True):
        rows = [_row(one) for one in found[start : start + size]]
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, json.dumps(rows, ensure_ascii=False))
        start += size


def _joined(blocks: list[Any]) -> Any:
    """One array of many, which go one by one: all of them are not there twice."""
    import numpy as np

    blocks.reverse()
    made = np.empty((sum(map(len, blocks)), *blocks[-1].shape[1:]), blocks[-1].dtype)
    start = 0
    while blocks:
        block = blocks.pop()
        made[start : start + len(block)] = block
        start += len(block)
    return made


def _row(one: Mapping[str, Any] | Dropped) -> Any:
    return [one.reason, one.detail] if isinstance(one, Dropped) else dict(one)
