"""Recipes trained by one process and by two gloo ranks, for the tests that hold both together.

A rank is the test file itself, run as a program that has imported Lightning already (`warm.py`);
all recipes train in it.
"""

import csv
import json
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from warm import Script


def train(recipes, shared, out, trainer):
    """Trains all recipes (name to words), each into its own folder of `out`, which is {out}."""
    from rsvlm.app import run
    from rsvlm.config.compose import compose

    for name, words in recipes.items():
        given = [word.replace("{out}", str(out)) for word in (*words, *shared)]
        given.append(f"trainer={trainer}")
        cfg = compose("train", given)
        run.fit(cfg, Path(out) / name, overrides=given)


def environments():
    """What each of two ranks on this machine finds set, as `torchrun` sets it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "NODE_RANK": "0",
        "WORLD_SIZE": "2",
    }
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]


@contextmanager
def two_ranks(script, folder):
    """A test file as a program in two ranks, each given the folder, beside the block's own work."""
    ranks = [
        Script(folder / f"rank_{rank}", script, [str(folder)], env=env)
        for rank, env in enumerate(environments())
    ]
    yield
    ended = [rank.wait() for rank in ranks]
    said = [text[-3000:] for done in ended for text in (done.stdout, done.stderr)]
    assert [done.returncode for done in ended] == [0, 0], "\n\n".join(said)


def found(out, scalars):
    """Scalars of each step, metrics, and the last checkpoint's tensors."""
    with (out / "metrics.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    steps = {
        word: [float(value) for _, name, value in rows if name == f"train/{word}"]
        for word in scalars
    }
    results = json.loads((out / "metrics.json").read_text())["results"]
    values = {row["name"]: row["value"] for row in results}
    state = torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return steps, values, state


def alone_and_together(script, recipes, shared, folders, scalars=("loss", "grad_norm")):
    """For each recipe what one process found, and what two ranks found.

    Args:
        script: the test file, which as a program trains into the folder that it is given.
        recipes: see `train`.
        shared: see `train`.
        folders: pytest's `tmp_path_factory`.
        scalars: words of `train/...` that are compared.
    """
    alone, together = folders.mktemp("alone"), folders.mktemp("together")
    with two_ranks(script, together):
        train(recipes, shared, alone, "cpu")
    return {
        name: (found(alone / name, scalars), found(together / name, scalars)) for name in recipes
    }


def hold_equal(alone, together):
    """Asserts that both found the same, up to the order of float sums."""
    (steps, values, state), (got_steps, got_values, got_state) = alone, together
    for word, expected in steps.items():
        assert got_steps[word] == pytest.approx(expected, rel=1e-5), word
    assert got_state.keys() == state.keys()
    for key, tensor in state.items():
        torch.testing.assert_close(
            got_state[key], tensor, rtol=0, atol=1e-5, msg=f"{key}: {{}}".format
        )
    assert got_values.keys() == values.keys()
    assert got_values == pytest.approx(values, abs=1e-6)
