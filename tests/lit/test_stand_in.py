"""A rank whose batch asks nothing runs another's, where the model lies in shards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rsvlm.evaluation.base import Evaluation
from rsvlm.evaluation.probes import NeighboursEvaluation
from rsvlm.lit.stand_in import stand_in

ROOT = Path(__file__).parents[2]


class Strategy:
    """Two ranks' worth of talk, from one rank's side."""

    def __init__(self, from_other):
        self.from_other, self.sent = from_other, []

    def batch_to_device(self, batch, device, dataloader_idx):
        return batch

    def broadcast(self, batch, src):
        self.sent.append((batch, src))
        return self.from_other if batch is None else batch


def task_of(filled, rank=0, sharded=True, from_other=None):
    return SimpleNamespace(
        sharded=sharded,
        device=torch.device("cpu"),
        global_rank=rank,
        all_gather=lambda own: torch.tensor(filled),
        trainer=SimpleNamespace(strategy=Strategy(from_other)),
    )


@pytest.mark.parametrize("sharded, filled", [(False, [1, 0]), (True, [1, 1]), (True, [0, 0])])
def test_nothing_is_sent_where_all_ranks_do_the_same(sharded, filled):
    task = task_of(filled, sharded=sharded)
    assert stand_in(task, ["a"] * filled[0]) is None and not task.trainer.strategy.sent


def test_the_first_rank_with_a_batch_gives_it_to_those_without():
    giver = task_of([0, 1, 1], rank=1)
    assert stand_in(giver, ["b"]) is None and giver.trainer.strategy.sent == [(["b"], 1)]
    other = task_of([0, 1, 1], rank=2, from_other=["b"])
    assert stand_in(other, ["c"]) is None and other.trainer.strategy.sent == [(None, 1)]
    empty = task_of([0, 1, 1], rank=0, from_other=["b"])
    assert stand_in(empty, []) == ["b"] and empty.trainer.strategy.sent == [(None, 1)]


def test_a_rehearsal_runs_the_model_and_keeps_nothing():
    class Asked(Evaluation):
        protocol = "x"

        def predict(self, model, batch):
            return [model(batch)]

        def metric_from(self, records, facts):
            raise AssertionError

    calls = []
    evaluation = Asked()
    evaluation.kept = None
    evaluation.rehearse(calls.append, "batch")
    model = SimpleNamespace(encode_image=calls.append)
    NeighboursEvaluation().rehearse(model, SimpleNamespace(images="images"))
    assert calls == ["batch", "images"]


@pytest.mark.slow
def test_two_ranks_in_shards_end_where_one_has_no_question(tmp_path):
    """Questions of one kind, which few pictures have; validation in a fit, then the test."""
    found = {}
    for trainer in ("cpu", "fsdp_cpu"):
        out = tmp_path / trainer
        words = ["model=skyeyegpt_tiny", "task=captioner", "data=scenes", "evaluation=vqa"]
        words += ["data.dataset.n=8", "data.dataset.size=64", "+data.dataset.parts=[turns]"]
        words += ["evaluation.kinds=[rural_urban]", "data.eval_batch_size=2", "data.workers=0"]
        words += ["model.generation.max_new_tokens=4", "logger=none", f"trainer={trainer}"]
        words += ["loss=answer", "data.batch_size=2", "trainer.max_steps=1"]
        words += ["callbacks.checkpoints.monitor=null", "seed=1", f"hydra.run.dir={out}"]
        done = subprocess.run(
            [sys.executable, "train.py", *words],
            check=False,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        rows = json.loads((out / "metrics.json").read_text())["results"]
        found[trainer] = {row["name"]: (row["value"], row["count"]) for row in rows}
    assert found["cpu"] == found["fsdp_cpu"]
    assert 0 < next(count for _, count in found["cpu"].values()) < 8
