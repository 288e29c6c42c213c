"""The folder of a run: one of its own, also for two that start in the same second."""

from __future__ import annotations

import os
import time
from pathlib import Path

#: (parent, prefix) -> the folder that this process took, which Hydra asks for more than once.
_TAKEN: dict[tuple[str, str], str] = {}


def new_folder(parent: str, prefix: str = "") -> str:
    """`<parent>/<prefix><time>`, made here and now; `_2`, `_3`, ... where another run was faster.

    Ranks that are started from outside (torchrun, srun) share one folder, whose name follows from
    what they have in common. Ranks that Lightning starts are given their first rank's.

    Args:
        parent: where folders of runs of this name lie.
        prefix: before the time.
    """
    key = (str(parent), prefix)
    if key in _TAKEN:
        return _TAKEN[key]
    shared = _shared()
    if shared is not None:
        path = Path(parent) / f"{prefix}{shared}"
        path.mkdir(parents=True, exist_ok=True)
    else:
        path = _before(Path(parent), prefix) or _exclusive(
            Path(parent), prefix + time.strftime("%Y-%m-%d_%H-%M-%S")
        )
        _mark(path, prefix)
    _TAKEN[key] = str(path)
    return str(path)


def forget() -> None:
    """Makes the next run of this process take a folder of its own."""
    _TAKEN.clear()


def _exclusive(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = parent / (name if number == 1 else f"{name}_{number}")
        try:
            path.mkdir()  # by one process alone
        except FileExistsError:
            number += 1
        else:
            return path


def _marker(parent: Path, prefix: str) -> Path | None:
    job = os.environ.get("SLURM_JOB_ID")
    return parent / f".{prefix}slurm_{job}" if job else None


def _before(parent: Path, prefix: str) -> Path | None:
    """The folder that this SLURM job had before it was put into the queue again."""
    marker = _marker(parent, prefix)
    if marker is None or not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    if not marker.is_file():
        return None
    path = parent / marker.read_text(encoding="utf-8").strip()
    return path if path.is_dir() and path.parent == parent else None


def _mark(path: Path, prefix: str) -> None:
    marker = _marker(path.parent, prefix)
    if marker is not None:
        marker.write_text(path.name, encoding="utf-8")


def _shared() -> str | None:
    """A name that all ranks know, where several were started from outside; else None."""
    env = os.environ
    if "SLURM_PROCID" in env and int(env.get("SLURM_NTASKS") or 1) > 1:
        # Without the count of restarts: a job that is started again goes on in its folder.
        return "slurm_" + "_".join(env.get(f"SLURM_{word}", "0") for word in ("JOB_ID", "STEP_ID"))
    if "TORCHELASTIC_RUN_ID" in env and int(env.get("WORLD_SIZE") or 1) > 1:
        run, again = env["TORCHELASTIC_RUN_ID"], env.get("TORCHELASTIC_RESTART_COUNT", "0")
        begun = _started(os.getppid()) if run == "none" else f"torchrun_{run}"
        return f"{begun}_{again}" if begun else None
    return None


def _started(pid: int) -> str | None:
    """When a process of this machine was started; the same for all who ask."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    seconds = boot + int(fields[19]) // os.sysconf("SC_CLK_TCK")
    return time.strftime("%Y-%m-%d_%H-%M-%S", time.localtime(seconds))
