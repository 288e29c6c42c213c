"""A pipeline from its input to a data set: parts, barriers, what is written, the manifest.

    out/
      .curate/plan.json             what is being made; another plan is another folder
      .curate/<n>/part-000000.zip   the parts behind the n-th barrier
      .curate/<n>/decided-*.json    what that barrier said of each record
      dropped.jsonl manifest.json   and what the writer makes

A part that is there is done. The same command does what is missing, and gives what a run that was
never stopped gives; so do more workers, in any order, on any machine.
"""

from __future__ import annotations

import itertools
import json
import operator
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rsvlm.curate.engines import Engine, Local
from rsvlm.curate.parts import Count, Part, counts_of, dropped_of
from rsvlm.curate.plan import WORK, begun, fingerprinted
from rsvlm.curate.record import AnyStage, Barrier, Record, Source, Writer
from rsvlm.curate.work import Job, Worker, decide, fields_are_there
from rsvlm.errors import UserError
from rsvlm.files import Busy, held, numbered, write_text, written_whole


@dataclass(frozen=True)
class Pipeline:
    """What makes a data set.

    Attributes:
        name: as its configuration has it.
        source: of the records.
        stages: label -> stage, in order.
        writer: of what comes through.
        settings: plain values that all of it was built from, for the manifest.
    """

    name: str
    source: Source
    stages: Mapping[str, AnyStage]
    writer: Writer
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        step: from 1, of
        steps: what stands between barriers.
        parts: done, of this step, of
        of: all; 0 where it is not known.
        came: records that came into this step so far, and
        went: out of it.
        labels: the stages of this step.
    """

    step: int
    steps: int
    parts: int
    of: int
    came: int
    went: int
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What a run made.

    Attributes:
        manifest: as manifest.json has it.
        folder: of the run.
        fresh: False where it had been whole before.
        kept: the parts with the records that came through, for a dry run's sheet; they stay there
            only where `keep` asked for it, or of a dry run.
    """

    manifest: Mapping[str, Any]
    folder: Path
    fresh: bool
    kept: Sequence[Path] = ()


def run(
    pipeline: Pipeline,
    out: str | Path,
    engine: Engine | None = None,
    *,
    limit: int | None = None,
    dry_run: bool = False,
    keep: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Runs a pipeline, or goes on with what is there of it.

    Args:
        pipeline: see `Pipeline`.
        out: a folder of its own.
        engine: see `engines`; None works in this process.
        limit: first records of the input that are taken; None takes all.
        dry_run: everything but the writer.
        keep: leave the parts there when the data set is written.
        progress: called after each part.

    Raises:
        UserError: the folder holds something else, or is being written by another process; the
            input cannot be used.
        WriteError: the disk is full, or may not be written to.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit={limit}: it is at least 1, or null for all.")
    engine = engine or Local()
    out = Path(out)
    plan = _plan(pipeline, engine, limit, dry_run)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with held(out):
            return _held(pipeline, out, engine, plan, limit, dry_run, keep, progress)
    except Busy as error:
        raise UserError(
            f"{out} is being written by another run ({error.pid or 'unknown'} on "
            f"{error.host or 'another machine'}): wait until it has ended, or give another out=."
        ) from error


def _held(
    pipeline: Pipeline,
    out: Path,
    engine: Engine,
    plan: dict[str, Any],
    limit: int | None,
    dry_run: bool,
    keep: bool,
    progress: Callable[[Progress], None] | None,
) -> Report:
    work = out / WORK
    if begun(out, plan) and (out / "manifest.json").is_file():
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        # A process that ended right behind the manifest left its parts.
        if not (keep or dry_run):
            shutil.rmtree(work, ignore_errors=True)
        made = sorted(work.glob(f"{_last(pipeline)}/part-*.zip"))
        return Report(manifest, out, fresh=False, kept=made)
    # What a killed process was writing; nobody else writes here now, and tars are large.
    for half in out.rglob("*.[0-9]*.part"):
        half.unlink(missing_ok=True)
    parts = _parts(pipeline, work, engine, limit, progress)
    counts = _sum(pipeline, work)
    came = next(iter(counts.values())).came if counts else 0
    facts: Mapping[str, Any] = {}
    if not dry_run:
        facts = _written(pipeline.writer, parts, out)
    dropped = _write_dropped(out / "dropped.jsonl", pipeline, work)
    manifest = {
        **plan,
        "records": {"read": came, "kept": list(counts.values())[-1].went if counts else came},
        "stages": [
            {
                "label": label,
                "name": stage.name,
                "version": stage.version,
                **asdict(counts.get(label, Count())),
            }
            for label, stage in pipeline.stages.items()
        ],
        "listed": dropped,
        "written": dict(facts),
    }
    write_text(out / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    if not (keep or dry_run):
        shutil.rmtree(work, ignore_errors=True)
    return Report(manifest, out, fresh=True, kept=parts)


def _parts(
    pipeline: Pipeline,
    work: Path,
    engine: Engine,
    limit: int | None,
    progress: Callable[[Progress], None] | None,
) -> list[Path]:
    """Makes the parts of each step; gives those of the last."""
    steps = _steps(pipeline)
    before: list[Path] = []
    for number, (label, barrier, stages) in enumerate(steps):
        folder = work / str(number)
        worker = Worker(stages, label, engine.listed)
        done = list(folder.glob("part-*.zip"))
        told = _Told(progress, number, len(steps), (label, *(name for name, _ in stages)), done)
        if barrier is None:
            jobs = _input(pipeline.source, folder, engine.per_part, limit, told)
        else:
            decided = [folder / f"decided-{i:06d}.json" for i in range(len(before))]
            if not (folder / "decided.json").is_file():
                decide(barrier, before, decided)
                write_text(folder / "decided.json", json.dumps({"parts": len(before)}))
            told.of = len(before)
            jobs = iter(
                [
                    Job(i, numbered(folder, i, ".zip"), None, source, decided[i])
                    for i, source in enumerate(before)
                    if not numbered(folder, i, ".zip").is_file()
                ]
            )
        for made in engine.map(worker, jobs, work / "input"):
            told(numbered(folder, made, ".zip"))
        count = len(before) if barrier is not None else _count(folder)
        before = [numbered(folder, i, ".zip") for i in range(count)]
    shutil.rmtree(work / "input", ignore_errors=True)
    return before


class _Told:
    """Says how far a step is, from the counts of its parts."""

    def __init__(
        self,
        progress: Callable[[Progress], None] | None,
        step: int,
        steps: int,
        labels: Sequence[str],
        done: Sequence[Path],
    ) -> None:
        self.progress, self.step, self.steps = progress, step, steps
        self.labels = tuple(filter(None, labels))
        self.parts = self.of = self.came = self.went = 0
        if progress is not None:
            for path in done:
                self._add(path)

    def _add(self, path: Path) -> None:
        counts = list(counts_of(path).values())
        self.parts += 1
        if counts:
            self.came += counts[0].came
            self.went += counts[-1].went

    def __call__(self, path: Path) -> None:
        if self.progress is None:
            return
        self._add(path)
        self.progress(
            Progress(
                self.step + 1, self.steps, self.parts, self.of, self.came, self.went, self.labels
            )
        )


def _input(
    source: Source, folder: Path, per_part: int, limit: int | None, told: _Told
) -> Iterator[Job]:
    """Jobs of the input's parts that are not there; notes how many parts there are at its end."""
    end = folder / "input.json"
    known = json.loads(end.read_text(encoding="utf-8"))["parts"] if end.is_file() else None
    if known is not None and all(numbered(folder, i, ".zip").is_file() for i in range(known)):
        return
    length = operator.length_hint(source, 0)
    length = min(length, limit) if limit and length else length
    told.of = -(-length // per_part)
    records = iter(itertools.islice(iter(source), limit))
    number = 0
    while some := list(itertools.islice(records, per_part)):
        path = numbered(folder, number, ".zip")
        if not path.is_file():
            yield Job(number, path, some)
        number += 1
    if not number:
        raise UserError("the input holds no records: look at input= (or osm=, masks=).")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(end, json.dumps({"parts": number}))


def _count(folder: Path) -> int:
    return int(json.loads((folder / "input.json").read_text(encoding="utf-8"))["parts"])


def _steps(
    pipeline: Pipeline,
) -> list[tuple[str, Barrier | None, list[tuple[str, AnyStage]]]]:
    """The stages cut at barriers: (label and barrier before, stages behind it)."""
    steps: list[tuple[str, Barrier | None, list[tuple[str, AnyStage]]]] = [("", None, [])]
    for label, stage in pipeline.stages.items():
        if isinstance(stage, Barrier):
            steps.append((label, stage, []))
        else:
            steps[-1][2].append((label, stage))
    return steps


def _last(pipeline: Pipeline) -> int:
    return len(_steps(pipeline)) - 1


def _step_files(pipeline: Pipeline, work: Path) -> Iterator[Path]:
    """Every part of every step, in order."""
    for number in range(_last(pipeline) + 1):
        yield from sorted((work / str(number)).glob("part-*.zip"))


def _sum(pipeline: Pipeline, work: Path) -> dict[str, Count]:
    found: dict[str, Count] = {}
    for path in _step_files(pipeline, work):
        for label, count in counts_of(path).items():
            found.setdefault(label, Count()).add(count)
    return found


def _written(writer: Writer, parts: Sequence[Path], out: Path) -> Mapping[str, Any]:
    try:
        return writer.write(_records_of(parts), out)
    except KeyError:
        with fields_are_there("the writer", list(itertools.islice(_records_of(parts), 1))):
            raise


def _records_of(parts: Sequence[Path]) -> Iterator[Record]:
    for path in parts:
        yield from Part.read(path).records


def _write_dropped(path: Path, pipeline: Pipeline, work: Path) -> int:
    """The list of what was dropped, without pictures; gives its length."""
    number = 0
    with written_whole(path) as beside, beside.open("w", encoding="utf-8") as file:
        for part in _step_files(pipeline, work):
            for row in dropped_of(part):
                line = {name: value for name, value in row.items() if name != "preview"}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                number += 1
    return number


def losses(report: Report) -> Iterator[Record]:
    """What was dropped, with its small pictures, of a run whose parts are still there."""
    for path in sorted((report.folder / WORK).glob("*/part-*.zip")):
        yield from dropped_of(path)


def _plan(pipeline: Pipeline, engine: Engine, limit: int | None, dry_run: bool) -> dict[str, Any]:
    return fingerprinted(
        {
            "pipeline": pipeline.name,
            "source": [pipeline.source.name, pipeline.source.version],
            "input": pipeline.source.fingerprint(),
            "plan": [[label, one.name, one.version] for label, one in pipeline.stages.items()],
            "writer": [pipeline.writer.name, pipeline.writer.version],
            "settings": json.loads(json.dumps(pipeline.settings, sort_keys=True, default=str)),
            "limit": limit,
            "dry_run": dry_run,
            "per_part": engine.per_part,
        }
    )
