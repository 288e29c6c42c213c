"""RS-MoE's stages on two gloo ranks give the single process's run.

Run as a program, this file is one rank (`rank_runs.py`).
"""

import sys

import pytest
from rank_runs import alone_and_together, hold_equal, train

pytestmark = pytest.mark.slow

SHARED = [
    "task=moe_llm",
    "loss=answer",
    "logger=csv",
    "model=rsmoe_tiny",
    "data.dataset.n=16",
    "data.dataset.size=56",
    "data.dataset.parts=[turns]",
    "data.augment=null",
    "data.batch_size=8",
    "data.eval_batch_size=8",
    "data.workers=0",
    "+model.chat.which=all",
    "+model.chat.kinds=[description,count,scene]",
    "evaluation=detailed_captions",
    "evaluation.metrics=[bleu4,rouge_l]",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=0",
    "trainer.log_every_n_steps=1",
    "model.generation.max_new_tokens=4",
    # Adam would blow up the rounding of gradients that are nearly 0 to whole steps.
    "optimizer.eps=1e-3",
    "seed=1",
]
RECIPES = {
    "first": ["model.stage=first"],
    "second": [
        "model.stage=second",
        "model.router=learned",
        "model.combine=concatenated",
        "init={out}/first/last.ckpt",
    ],
    "joint": ["model.stage=joint", "model.router=learned", "model.combine=concatenated"],
    "logits": ["model.stage=joint", "model.router=learned", "model.combine=logits"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return alone_and_together(
        __file__, RECIPES, SHARED, tmp_path_factory, ("loss", "grad_norm", "balance")
    )


@pytest.mark.parametrize("name", list(RECIPES))
def test_two_ranks_equal_one(runs, name):
    steps, values, _ = runs[name][0]
    assert len(steps["loss"]) == 2 and len(steps["balance"]) == 2 * (name != "first")
    assert len(values) >= 2
    hold_equal(*runs[name])


if __name__ == "__main__":
    train(RECIPES, SHARED, sys.argv[1], "ddp_cpu")
