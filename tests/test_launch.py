"""Sweeps, launchers, and what is refused before anything is built, through the entry points."""

import json
import logging
import os
import re
import subprocess
import sys

import pytest
from warm import Script

SMALL = [
    "experiment=clip_tiny_scenes",
    "trainer=cpu",
    "logger=csv",
    "data.dataset.n=24",
    "data.batch_size=12",
    "data.workers=0",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
    "callbacks.checkpoints.monitor=null",
]


def start(root, script, *words):
    """A process of its own: what only that shows."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, script, *words],
        check=False,
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def refused(root, monkeypatch, capfd):
    """`train.py` with words, in this process: a launch that is refused need import nothing anew.

    Returns what it says.
    """
    from hydra.core.singleton import Singleton

    from rsvlm.app.entry import COMMAND, main

    state, handlers, level = Singleton.get_state(), logging.root.handlers[:], logging.root.level
    # Put back what the entry point sets.
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setenv(COMMAND, "train")
    monkeypatch.chdir(root)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        with pytest.raises(SystemExit) as end:
            main("train")
        assert end.value.code not in (None, 0)
        return f"{capfd.readouterr().err}{end.value.code}"

    yield run
    Singleton.set_state(state)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.parametrize(
    ("words", "say"),
    [
        (["hydra/launcher=local_jobs"], "add -m"),
        (["-m", "seed=0,1", "trainer=ddp"], "hydra/launcher=slurm_8gpu"),
        (["experiment=clip_smal_rsicd"], "clip_small_rsicd"),
        (["ckpt=some.ckpt"], "init="),
        (["optimizer.lrr=1"], "optimizer.lrr"),
        (["+optimizer.lrr=1"], "Did you mean lr"),
        (["model.peft=lroa"], "error: model.peft='lroa'. Did you mean lora"),
        (["data=rsicd", "data.root=/no/where", *SMALL[1:3]], "dataset_rsicd.json"),
    ],
)
def test_a_launch_that_would_fail_is_one_clear_error(refused, tmp_path, words, say):
    places = [f"hydra.run.dir={tmp_path}/run", f"hydra.sweep.dir={tmp_path}/sweep"]
    said = refused(*words, *places)
    assert say in said, said[-2000:]
    assert "Traceback" not in said


def test_a_refusal_is_the_last_line_of_the_process_too(root, tmp_path):
    done = start(root, "train.py", "ckpt=some.ckpt", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode != 0
    assert "init=" in done.stderr.splitlines()[-1], done.stderr[-2000:]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("launcher", ["basic", pytest.param("local_jobs", marks=pytest.mark.slow)])
def test_a_sweep_leaves_numbered_runs(root, tmp_path, launcher):
    """In one process; and SLURM's own path with submitit's local executor in its place."""
    if launcher == "local_jobs":
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs rsvlm[slurm]")
    sweep = tmp_path / "sweep"
    words = ["-m", *SMALL, "seed=0,1", f"hydra/launcher={launcher}", f"hydra.sweep.dir={sweep}"]
    done = Script(tmp_path / "said", "train.py", words, cwd=root).wait()
    assert done.returncode == 0, done.stderr[-3000:]
    losses = []
    for number in ("0", "1"):
        results = json.loads((sweep / number / "metrics.json").read_text())
        assert results["recipe"] == "clip_tiny_scenes"
        assert results["model"] == "clip_tiny"
        assert {row["count"] for row in results["results"]} == {24}
        losses.append((sweep / number / "metrics.csv").read_text())
        assert (sweep / number / "report.html").is_file()
    assert losses[0] != losses[1]


def test_predict_asks_and_searches(root, tmp_path):
    """A run's checkpoint answers about a picture and looks through a folder."""
    from rsvlm.synthetic import Scenes

    folder = tmp_path / "pictures, all"
    folder.mkdir()
    for i in range(3):
        Scenes("test", size=64)[i].images[0].save(folder / f"{i}.png")

    def typed(script, *words):
        done = Script(tmp_path / f"{len(said)}", script, words, cwd=root).wait()
        assert done.returncode == 0, done.stderr[-3000:]
        said.append(done.stdout)
        return done.stdout

    said = []
    typed("train.py", *SMALL, f"hydra.run.dir={tmp_path}/run")
    model = ["model=clip_tiny", f"ckpt={tmp_path}/run/last.ckpt", f"hydra.run.dir={tmp_path}/p"]
    asked = typed("predict.py", *model, f"image={folder}/0.png", "prompt=an airport; a [long] lake")
    assert "an airport" in asked and "a [long] lake" in asked
    found = typed("predict.py", *model, f"gallery={folder}", "text=a lake, with trees")
    named = sorted(re.findall(r"^ *-?0\.\d{4}  (.+)$", found, re.MULTILINE))
    assert named == ["0.png", "1.png", "2.png"]
    assert (tmp_path / "p" / "answer.png").is_file()
