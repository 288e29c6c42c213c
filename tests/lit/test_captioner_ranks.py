"""SkyEyeGPT and LLaVA with experts on two gloo ranks give the single process's run.

Run as a program, this file is one rank: both models train in it, for importing Lightning takes
longer than either.
"""

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SHARED = [
    "task=captioner",
    "loss=answer",
    "logger=csv",
    "data.dataset.n=22",  # an odd number of test batches for two ranks
    "data.dataset.size=56",
    "data.dataset.parts=[captions,turns,references]",
    "data.augment=null",
    "data.batch_size=8",
    "data.eval_batch_size=8",
    "data.workers=0",
    "evaluation=captions",
    "evaluation.metrics=[bleu4,rouge_l,cider]",
    "trainer.max_epochs=2",
    "trainer.limit_val_batches=0",
    "trainer.log_every_n_steps=1",
    "model.generation.max_new_tokens=8",
    # Adam would blow up the rounding of gradients that are nearly 0 to whole steps.
    "optimizer.eps=1e-3",
    "seed=1",
]
RECIPES = {
    "skyeyegpt": ["model=skyeyegpt_tiny", "model.tuning=lora", "model.lm.lora.dropout=0"],
    "llava": ["model=llava_tiny", "model.tuning=moe_lora", "model.lm.moe.dropout=0"],
}


def train(out, trainer):
    """Trains both models, each into its own folder of `out`."""
    from hydra import compose, initialize_config_dir

    from rsvlm import run
    from rsvlm.cli import command_line

    run.register()
    for name, words in RECIPES.items():
        given = command_line([*words, *SHARED, f"trainer={trainer}"], ROOT / "conf")
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("train", given)
        run.fit(cfg, Path(out) / name, overrides=[])


def found(out):
    """Losses and gradient norms of each step, metrics, and the last checkpoint's tensors."""
    with (out / "metrics.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    words = ("loss", "grad_norm", "balance")
    steps = {
        word: [float(value) for _, name, value in rows if name == f"train/{word}"] for word in words
    }
    results = json.loads((out / "metrics.json").read_text())["results"]
    values = {row["name"]: row["value"] for row in results}
    state = torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return steps, values, state


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = []
    for rank in range(2):
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "NODE_RANK": "0",
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
        }
        command = [sys.executable, __file__, str(together)]
        ranks.append(
            subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        )
    train(alone, "cpu")
    said = [rank.communicate()[0].decode(errors="replace")[-3000:] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n\n".join(said)
    return {name: (found(alone / name), found(together / name)) for name in RECIPES}


@pytest.mark.parametrize("name", list(RECIPES))
def test_two_ranks_equal_one(runs, name):
    (steps, values, state), (got_steps, got_values, got_state) = runs[name]
    assert len(steps["loss"]) == 4 and len(steps["balance"]) == 4 * (name == "llava")
    for word, expected in steps.items():
        assert got_steps[word] == pytest.approx(expected, rel=1e-5), word
    assert got_state.keys() == state.keys()
    for key, tensor in state.items():
        torch.testing.assert_close(
            got_state[key], tensor, rtol=0, atol=1e-5, msg=f"{key}: {{}}".format
        )
    assert len(values) == 3 and got_values.keys() == values.keys()
    assert got_values == pytest.approx(values, abs=1e-6)


if __name__ == "__main__":
    train(sys.argv[1], "ddp_cpu")
