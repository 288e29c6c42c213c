"""Two gloo ranks give the single process's loss, weights and metrics; sharded or not."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rank_runs import environments
from warm import Script

from rsvlm import checkpoints
from rsvlm.app import run
from rsvlm.encoders.clip.model import clip

CONF = Path(__file__).parents[2] / "conf"
RECIPE = [
    "experiment=clip_tiny_scenes",
    "logger=csv",
    "data.dataset.size=64",
    "data.dataset.n=50",  # an odd number of test batches for two ranks
    "data.batch_size=16",
    "data.eval_batch_size=16",
    "data.workers=0",
    "trainer.max_epochs=2",
    "trainer.save_every=2",
    "trainer.log_every_n_steps=1",
    "callbacks.checkpoints.monitor=null",
    "seed=1",
]


def train(root, out, trainer, ranks=({"OMP_NUM_THREADS": "1"},)):
    """`train.py`; where one is started for two ranks, Lightning starts the second itself."""
    words = [*RECIPE, f"trainer={trainer}", f"hydra.run.dir={out}"]
    begun = [
        Script(out / f"rank_{rank}", "train.py", words, cwd=root, env=env)
        for rank, env in enumerate(ranks)
    ]
    for done in [one.wait() for one in begun]:
        assert done.returncode == 0, done.stderr[-3000:]
    with (out / "metrics.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    losses = [float(value) for _, name, value in rows if name == "train/loss"]
    results = json.loads((out / "metrics.json").read_text())["results"]
    values = {row["name"]: row["value"] for row in results}
    checkpoint = torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)
    return losses, values, checkpoint


@pytest.fixture(scope="module")
def single(tmp_path_factory):

    return train(CONF.parent, tmp_path_factory.mktemp("single"), "cpu")


@pytest.mark.parametrize("trainer", ["ddp_cpu", "fsdp_cpu"])
def test_two_ranks_equal_one(single, root, scratch, trainer):
    # As a user starts it, and as `torchrun` does.
    ranks = {} if trainer == "ddp_cpu" else {"ranks": environments()}
    losses, values, checkpoint = train(root, scratch, trainer, **ranks)
    assert len(losses) == 6
    # The ranks add the same float32 products in another order: 2e-6 was measured on the loss.
    assert losses == pytest.approx(single[0], abs=2e-5)
    state, expected = checkpoint["state_dict"], single[2]["state_dict"]
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        # Adam divides by the root of tiny second moments: 6 steps of 1e-3 spread rounding.
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=2e-3, msg=name)
    assert values.keys() == single[1].keys()
    assert values == pytest.approx(single[1], abs=4)
    optimizer = checkpoint["optimizer_states"][0]["state"]
    assert len(optimizer) == len(single[2]["optimizer_states"][0]["state"])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint whose path needs quoting."""
    torch.manual_seed(0)
    model = clip("tiny", activation="gelu")
    path = tmp_path_factory.mktemp("a b, c") / "tiny.ckpt"
    torch.save(checkpoints.pack(model, {}), path)
    return path


@pytest.mark.slow
def test_two_ranks_evaluate_a_checkpoint_as_one_does(root, compose, checkpoint, scratch):
    """The second rank gets `ckpt=` from the first; a probe's features meet from both."""
    words = ["experiment=eval_probe_scenes", "evaluation=knn", "model=clip_tiny", "logger=none"]
    words += ["data.dataset.n=41", "data.dataset.size=64", "data.workers=0"]
    words += ["data.eval_batch_size=16", f"ckpt={checkpoint}"]
    single = run.evaluate(compose("eval", [*words, "trainer=cpu"]), scratch / "one")
    done = subprocess.run(
        [sys.executable, "eval.py", *words, "trainer=ddp_cpu", f"hydra.run.dir={scratch}/two"],
        check=False,
        cwd=root,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((scratch / "two" / "metrics.json").read_text())["results"]
    assert {row["name"]: row["value"] for row in results} == pytest.approx(single)
    assert {row["count"] for row in results} == {41}
