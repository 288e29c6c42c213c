"""The end of a run that a signal stopped: what to type next, and SLURM's queue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

from lightning.pytorch.utilities import rank_zero_only

from rsvlm.app.run_log import say


def ended(verb: str, folder: str, signum: int, step: int | None) -> int:
    """Says how to go on, asks SLURM to start the job again where it was to stop soon.

    Args:
        verb: of the command line.
        folder: of the run.
        signum: what stopped it.
        step: of the checkpoint that was written; None where none was.

    Returns:
        The exit status, as shells have it for a signal.
    """
    if getattr(rank_zero_only, "rank", 0) == 0:
        name = signal.Signals(signum).name
        saved = f" at step {step}, which last.ckpt holds" if step is not None else ""
        if verb == "predict":
            say(f"stopped by {name}.")
        elif verb == "curate":
            say(f"stopped by {name}. Go on: the same words again")
        else:
            say(f"stopped by {name}{saved}. Go on: rsvlm {verb} resume={folder}")
            _requeue(signum)
    return 128 + signum


def _requeue(signum: int) -> None:
    """SIGUSR1 before a time limit or a preemption: the same job again, which finds its folder.

    SIGTERM is also what `scancel` sends, and then nobody wants the job again.
    """
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = (
        f"{job}_{os.environ.get('SLURM_ARRAY_TASK_ID')}" if job else os.environ.get("SLURM_JOB_ID")
    )
    if signum != signal.SIGUSR1 or not job:
        return
    if shutil.which("scontrol") is None:
        say(f"job {job} cannot be put into the queue again: there is no scontrol here.")
        return
    done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, text=True)
    if done.returncode:
        say(f"job {job} could not be put into the queue again: {done.stderr.strip()}")
    else:
        say(f"job {job} is in the queue again, and goes on from last.ckpt.")
