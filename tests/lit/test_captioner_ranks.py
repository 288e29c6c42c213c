"""SkyEyeGPT and LLaVA with experts on two gloo ranks give the single process's run.

Run as a program, this file is one rank (`rank_runs.py`).
"""

import sys

import pytest
from rank_runs import alone_and_together, hold_equal, train

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return alone_and_together(
        __file__, RECIPES, SHARED, tmp_path_factory, ("loss", "grad_norm", "balance")
    )


@pytest.mark.parametrize("name", list(RECIPES))
def test_two_ranks_equal_one(runs, name):
    steps, values, _ = runs[name][0]
    assert len(steps["loss"]) == 4 and len(steps["balance"]) == 4 * (name == "llava")
    assert len(values) == 4  # three of the protocol, and how many answers are empty
    hold_equal(*runs[name])


if __name__ == "__main__":
    train(RECIPES, SHARED, sys.argv[1], "ddp_cpu")
