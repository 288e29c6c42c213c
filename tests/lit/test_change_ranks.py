"""The bi-temporal family on two gloo ranks gives the single process's losses, weights, metrics.

Run as a program, this file is one rank (`rank_runs.py`).
"""

import sys

import pytest
from rank_runs import alone_and_together, hold_equal, train

SHARED = [
    "logger=csv",
    "data.dataset.n=22",  # an odd number of test batches for two ranks
    "data.dataset.size=32",
    "data.batch_size=8",
    "data.eval_batch_size=8",
    "data.cache=none",
    "data.workers=0",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.save_every=3",
    "trainer.log_every_n_steps=1",
    "callbacks.checkpoints.monitor=null",
    "evaluation.metrics=[bleu4,rouge_l,cider]",
    "seed=1",
]
RECIPES = {
    "mmodalcc": [
        "experiment=mmodalcc_tiny_scenes",
        "model.image_size=32",
        "model.rgb.widths=[8,16]",
        "model.semantic.widths=[8,16]",
        "model.dim=16",
        "model.words.more_than=0",
        "model.batch_norm=frozen",
        "model.encoder_dropout=0",
        "model.dropout=0",
        "model.word_dropout=0",
        "evaluation.options.beam_size=2",
        # Adam would blow up the rounding of gradients that are nearly 0 to whole steps.
        "optimizer.eps=1e-3",
    ],
    "deltavlm": [
        "experiment=deltavlm_tiny_scenes",
        "model.vision.image_size=28",
        "model.bridge.csrm_dropout=0",
        "model.generation.max_new_tokens=12",
    ],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return alone_and_together(__file__, RECIPES, SHARED, tmp_path_factory)


@pytest.mark.parametrize("name", list(RECIPES))
def test_two_ranks_equal_one(runs, name):
    steps, values, _ = runs[name][0]
    assert len(steps["loss"]) == 4 and len(values) >= 10
    hold_equal(*runs[name])


if __name__ == "__main__":
    train(RECIPES, SHARED, sys.argv[1], "ddp_cpu")
