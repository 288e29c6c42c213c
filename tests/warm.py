"""Processes that import nothing anew: forks of a server that has imported what a run imports.

A process of its own takes 3 to 9 s of processor time before its first line; a fork takes none. The
server is started with the first of them, once in each of pytest's workers. It has computed
nothing, so that autograd, gloo and OpenMP may begin in a fork as they do in a process.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from light_pictures import lighten

METHOD = "forkserver"
SERVER = multiprocessing.get_context(METHOD)
SERVER.set_forkserver_preload(
    [
        *("lightning.pytorch", "torchmetrics", "open_clip", "matplotlib.backends.backend_agg"),
        *("rsvlm.app.entry", "rsvlm.app.run", "rsvlm.report.figures"),
    ]
)


class Done(NamedTuple):
    """How a process ended, as `subprocess` says it."""

    returncode: int
    stdout: str
    stderr: str


class Script:
    """A script of Python's, started as `python <script> <words>` would."""

    def __init__(
        self,
        folder: Path,
        script: str | Path,
        words: Sequence[str] = (),
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ):
        folder.mkdir(parents=True, exist_ok=True)
        self.said = folder / "stdout.txt", folder / "stderr.txt"
        cwd = cwd or Path.cwd()
        args = (str(cwd / script), list(words), str(cwd), {**os.environ, **(env or {})}, self.said)
        self.process = SERVER.Process(target=_run, args=args)
        self.process.start()

    def wait(self) -> Done:
        """Waits for its end."""
        self.process.join()
        texts = [path.read_text(errors="replace") for path in self.said]
        return Done(self.process.exitcode, *texts)


def _run(script, words, cwd, env, said):
    for number, path in enumerate(said, 1):
        with open(path, "wb", 0) as file:
            os.dup2(file.fileno(), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    from lightning.pytorch.utilities import rank_zero_only

    rank_zero_only.rank = int(env.get("LOCAL_RANK", 0))  # which it read as it was imported
    lighten()
    sys.argv = [script, *words]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")
