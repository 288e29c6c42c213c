"""Where parts are made: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from rsvlm.curate.parts import Part
from rsvlm.curate.work import Job, Worker
from rsvlm.errors import UserError, extra
from rsvlm.files import numbered

#: Parts that wait for a worker, each with its records in memory.
_AHEAD = 2


class Engine(Protocol):
    """Makes parts."""

    @property
    def per_part(self) -> int:
        """Records of the input that a part is made of."""
        ...

    @property
    def listed(self) -> int | None:
        """Dropped records of one stage and reason that a part names; None names all."""
        ...

    def map(self, worker: Worker, jobs: Iterable[Job], spare: Path) -> Iterator[int]:
        """Has a worker do jobs, in any order; gives the number of each when its part is written.

        Args:
            worker: is pickled, once for each process.
            jobs: read as they are needed.
            spare: a folder for what the engine has to keep.
        """


@dataclass(frozen=True)
class Local:
    """This machine.

    Args:
        workers: processes; 1 works in this one.
        per_part: records of the input that a part is made of.
        listed: dropped records of one stage and reason that a part names; None names all.

    Raises:
        UserError: a number below 1.
    """

    workers: int = 1
    per_part: int = 1000
    listed: int | None = None

    def __post_init__(self) -> None:
        _check(self.workers, self.per_part)

    def map(self, worker: Worker, jobs: Iterable[Job], spare: Path) -> Iterator[int]:
        """See `Engine`."""
        if self.workers == 1:
            for job in jobs:
                worker(job)
                yield job.number
            return
        # Spawned, as a fork of a process whose threads work in torch may stand still.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.workers, context, _arrive, (worker,)) as pool:
            waiting: set[Future[int]] = set()
            try:
                for job in jobs:
                    waiting.add(pool.submit(_do, job))
                    if len(waiting) >= self.workers * _AHEAD:
                        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                        yield from (one.result() for one in done)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker was killed, most often for memory: the same command goes on from the "
                    "parts that are done; give engine.workers=1 or engine.per_part=200 (in a new "
                    "folder) if it happens again."
                ) from error
            finally:
                for one in waiting:
                    one.cancel()


_worker: Worker | None = None


def _arrive(worker: Worker) -> None:
    global _worker
    _worker = worker
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process with its parent: of one that is killed, models would stay in memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(job: Job) -> int:
    assert _worker is not None
    _worker(job)
    return job.number


@dataclass(frozen=True)
class Ray:
    """Ray Data: parts are handed to actors on one machine or a cluster; needs the extra `ray`.

    All machines see the folder of the command, and those that it names, under the same path, and
    have rsvlm installed (and the modules of stages of one's own, by PYTHONPATH). Restarting
    goes by the parts, as everywhere: Ray's own checkpoints kept nothing of a run that was killed.

    Args:
        workers: actors.
        address: of a cluster, `auto` for the one that this machine belongs to; None starts a
            session here, some 20 seconds and 2 GB.
        cpus: of one worker.
        gpus: of one worker; a fraction shares one.
        per_part: records of the input that a part is made of.
        listed: dropped records of one stage and reason that a part names; None names all.

    Raises:
        UserError: a number below 1.
    """

    workers: int = 2
    address: str | None = None
    cpus: float = 1
    gpus: float = 0
    per_part: int = 1000
    listed: int | None = None

    def __post_init__(self) -> None:
        _check(self.workers, self.per_part)

    def map(self, worker: Worker, jobs: Iterable[Job], spare: Path) -> Iterator[int]:
        """See `Engine`."""
        with extra("ray", "engine=local needs it not."):
            import ray
            import ray.data
        rows = [{"job": pickle.dumps(job)} for job in _on_disk(jobs, spare)]
        if not rows:
            return
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # progress is told by ours
        began = not ray.is_initialized()
        if began:
            _begin(ray, self.address, self.workers * self.cpus)
        try:
            dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
            actor: Any = _Actor
            done = dataset.map(
                actor,
                fn_constructor_args=(worker, os.getcwd()),
                compute=ray.data.ActorPoolStrategy(size=self.workers),
                num_cpus=self.cpus,
                num_gpus=self.gpus or None,
            )
            for row in done.iter_rows():
                if row["error"]:
                    raise UserError(row["error"])
                yield int(row["number"])
        except (
            ray.exceptions.RayActorError,
            ray.exceptions.WorkerCrashedError,
            ray.exceptions.OutOfMemoryError,
        ) as error:
            first = str(error).partition("\n")[0]
            raise UserError(
                f"a worker of Ray died ({first}), most often for memory: the same command goes on "
                "from the parts that are done; give engine.workers=1 or engine.per_part=200 (in a "
                "new folder) if it happens again."
            ) from error
        finally:
            if began:
                ray.shutdown()


class _Actor:
    """A worker in Ray's hands; a user's error comes back as a text, not in Ray's own words.

    Args:
        worker: does the jobs.
        folder: where the command was typed, from which its paths are meant; a cluster's workers
            begin where the cluster was started.
    """

    def __init__(self, worker: Worker, folder: str) -> None:
        self.worker = worker
        with suppress(OSError):  # a machine that has it not is given whole paths
            os.chdir(folder)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        job = pickle.loads(row["job"])
        try:
            self.worker(job)
        except (UserError, OSError) as error:
            return {"number": job.number, "error": str(error)}
        return {"number": job.number, "error": ""}


def _on_disk(jobs: Iterable[Job], spare: Path) -> Iterator[Job]:
    """Jobs whose input lies in files, which travel by name."""
    for job in jobs:
        if job.records is None:
            yield job
            continue
        path = numbered(spare, job.number, ".zip")
        if not path.is_file():
            Part(job.records).save(path)
        yield replace(job, records=None, source=path)


def _begin(ray: Any, address: str | None, cpus: float) -> None:
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    if address is None:
        # Else Ray looks for a cluster that runs here, or ran, and takes no number of CPUs then.
        options |= {"address": "local", "num_cpus": max(2, round(cpus) + 1)}
    else:
        options = {"address": address, "log_to_driver": False}
    try:
        ray.init(logging_level="ERROR", **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).partition("\n")[0]
        raise UserError(
            f"no Ray cluster at engine.address={address} ({first}): ray start --head starts one, "
            "and engine.address=null works on this machine alone. One that asks for a token is "
            "reached with RAY_AUTH_MODE=token and its ~/.ray/auth_token."
        ) from error


def _check(workers: int, per_part: int) -> None:
    for name, value in {"workers": workers, "per_part": per_part}.items():
        if value < 1:
            raise UserError(f"engine.{name}={value}: it is at least 1.")
