"""The pixel family on two gloo ranks gives the single process's run; a killed run goes on.

Masks are spread unevenly: half of the samples are asked for what is not there, so that steps have a
rank without any. Run as a program, this file is one rank (`rank_runs.py`).
"""

import sys

import pytest
import torch
from rank_runs import alone_and_together, hold_equal, train

pytestmark = pytest.mark.slow

SHARED = [
    "experiment=geopix_tiny_scenes",
    "logger=csv",
    "data.dataset.n=14",
    "data.dataset.size=32",
    "data.dataset.least=0.0",
    "data.batch_size=4",
    "data.eval_batch_size=4",
    "data.cache=none",
    "model.instructions.absent=0.9",
    "trainer.max_epochs=2",
    "trainer.limit_val_batches=0",
    "trainer.log_every_n_steps=1",
    "model.generation.max_new_tokens=4",
    "evaluation.mode=teacher_forced",
    # Adam would blow up the rounding of gradients that are nearly 0 to whole steps.
    "optimizer.eps=1e-3",
    "seed=1",
]
RECIPES = {"paper": ["model.memory.variant=paper"], "released": ["model.memory.variant=released"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    words = ("loss", "grad_norm", "mask_bce", "mask_dice")
    return alone_and_together(__file__, RECIPES, SHARED, tmp_path_factory, words)


@pytest.mark.parametrize("name", list(RECIPES))
def test_two_ranks_equal_one_with_masks_spread_unevenly(runs, name):
    steps, values, _ = runs[name][0]
    assert len(steps["loss"]) == len(steps["mask_bce"]) >= 4
    assert "test/scenes/lisa/giou" in values
    hold_equal(*runs[name])


class Killed(BaseException):
    """Stands for a signal: nothing in between may catch it."""


def test_a_killed_run_resumes_to_the_same_weights(compose, monkeypatch, tmp_path):
    from rsvlm.app import run
    from rsvlm.lit.pixel import Pixel

    words = [
        *SHARED,
        *RECIPES["paper"],
        "trainer=cpu",
        "trainer.save_every=2",
        "trainer.limit_test_batches=0",
    ]
    run.fit(compose("train", words), tmp_path / "whole", overrides=[])
    with monkeypatch.context() as patch:
        before = Pixel.on_train_batch_start

        def stop(self, *args, **kwargs):
            if self.global_step == 5:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(Pixel, "on_train_batch_start", stop)
        with pytest.raises(Killed):
            run.fit(compose("train", words), tmp_path / "killed", overrides=[])
    torch.manual_seed(123)  # whatever state the new process has
    again = [f"resume={tmp_path / 'killed'}"]
    run.fit(compose("train", again), overrides=again)
    states = [
        torch.load(tmp_path / name / "last.ckpt", map_location="cpu", weights_only=True)
        for name in ("whole", "killed")
    ]
    assert all(
        torch.equal(value, states[1]["state_dict"][name])
        for name, value in states[0]["state_dict"].items()
    )


if __name__ == "__main__":
    train(RECIPES, SHARED, sys.argv[1], "ddp_cpu")
