"""Going on with a run: which folder may, and from which of its checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rsvlm.app.run_folder import run_state
from rsvlm.app.run_log import say
from rsvlm.checkpoints.verify import LAST, PREVIOUS
from rsvlm.errors import UserError


def check_is_training(run: Path) -> None:
    """Holds a folder to be a training's.

    Raises:
        UserError: it is an evaluation's, which has nothing to go on with here.
    """
    verb = run_state(run).get("verb")
    if verb is None and not (run / "run.json").is_file() and not (run / LAST).is_file():
        verb = "eval"
    if verb == "bench":
        raise UserError(f"resume={run}: this is a bench's folder: rsvlm bench resume={run}")
    if verb not in (None, "train"):
        raise UserError(
            f"resume={run}: this is the folder of an evaluation, and rsvlm train goes on with "
            f"trainings. Measure again with rsvlm eval, or train: rsvlm train resume=<folder of a "
            "training>."
        )


def requeued(out: Path) -> bool:
    """Whether the batch system started this job again in a folder that it had before.

    Raises:
        UserError: the folder holds a run, and nothing says that this is to go on with it.
    """
    if not (out / LAST).is_file():
        return False
    again = int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    if again or "submitit" in (os.environ.get("SUBMITIT_EXECUTOR") or ""):
        say(f"this job was started again: going on with {out}.")
        return True
    raise UserError(
        f"{out} holds a run already. Go on with it, rsvlm train resume={out}, or choose another "
        "folder (hydra.run.dir=), which is otherwise new for each run."
    )


def newest_whole(run: Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that is whole, with what it holds; None before the first.

    A damaged last checkpoint is told, and the one before it taken.

    Raises:
        UserError: checkpoints are there, and none is whole.
    """
    from rsvlm.lit.trainer import load_own

    reasons = []
    for name in (LAST, PREVIOUS):
        path = run / name
        if not path.is_file():
            continue
        try:
            held = load_own(path)
        except UserError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            say(f"{reason} Going on from {path}, step {held['global_step']}.")
        return path, held
    if not reasons:
        return None
    best = run / "best.ckpt"
    other = (
        f"Start a new training from the best one, rsvlm train init={best}"
        if best.is_file()
        else "Start the run anew"
    )
    raise UserError(f"no checkpoint of {run} is whole: {' '.join(reasons)} {other}.")
