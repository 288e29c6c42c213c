"""A sweep with W&B itself, offline: a run of its own for each job, ended at the job's end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_each_job_of_a_sweep_has_a_run_that_ends(tmp_path):
    pytest.importorskip("wandb")
    words = ["experiment=clip_tiny_scenes", "trainer=cpu", "logger=wandb", "data.workers=0"]
    words += ["data.dataset.n=16", "data.dataset.size=32", "data.batch_size=8", "evaluation=none"]
    words += ["trainer.max_steps=1", "callbacks.checkpoints.monitor=null"]
    words += [
        "trainer.log_every_n_steps=1",
        "optimizer.lr=1e-4,3e-4",
        f"hydra.sweep.dir={tmp_path}",
    ]
    done = subprocess.run(
        [sys.executable, "train.py", "-m", *words],
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ids = [json.loads((tmp_path / job / "run.json").read_text())["wandb"] for job in "01"]
    # A run that is not ended is taken for the next job's, and its end is no traceback.
    assert len(set(ids)) == 2
    for job, id in zip("01", ids, strict=True):
        (folder,) = (tmp_path / job / "wandb").glob("offline-run-*")
        assert folder.name.endswith(id) and (folder / f"run-{id}.wandb").stat().st_size > 0
