"""Options of the contrastive family as a user types them: each is a word of its yaml, and works."""

import csv

import pytest
import torch

from rsvlm.app import run
from rsvlm.encoders.clip.model import STATISTICS, clip
from rsvlm.errors import UserError

BASE = [
    "experiment=clip_tiny_scenes",
    "trainer=cpu",
    "logger=csv",
    "data.dataset.n=12",
    "data.cache=none",
    "data.batch_size=12",
    "data.workers=0",
    "trainer.max_epochs=1",
    "trainer.log_every_n_steps=1",
    "trainer.limit_val_batches=0",
    "trainer.limit_test_batches=0",
    "callbacks.checkpoints.monitor=null",
]


def train(compose, out, *words):
    run.fit(compose("train", [*BASE, *words]), out, overrides=[])
    with (out / "metrics.csv").open() as file:
        losses = [float(v) for _, name, v in csv.reader(file) if name == "train/loss"]
    saved = torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)
    return losses, saved


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    from rsvlm.config.compose import compose

    return train(compose, tmp_path_factory.mktemp("p"))


@pytest.mark.parametrize("word", ["loss.chunk=5", "task.micro_batch=5", "loss.local_loss=false"])
def test_what_saves_memory_changes_no_number(compose, plain, scratch, word):
    losses, saved = train(compose, scratch, word)
    # Measured 5e-7: sums in another order.
    assert losses == pytest.approx(plain[0], abs=1e-5)
    for name, tensor in plain[1]["state_dict"].items():
        # Adam's first steps have the size of the rate, 1e-3, even where a gradient is rounding.
        torch.testing.assert_close(saved["state_dict"][name], tensor, rtol=0, atol=5e-3, msg=name)


@pytest.mark.parametrize(
    "word",
    [
        "model.patch_dropout=0.5",
        "loss.label_smoothing=0.1",
        "model.statistics=imagenet",
    ],
)
def test_what_changes_training_changes_the_loss(compose, plain, scratch, word):
    losses, _ = train(compose, scratch, word)
    assert len(losses) == len(plain[0]) == 1
    assert losses != pytest.approx(plain[0], abs=1e-6)


def test_the_sigmoid_loss_trains_with_its_bias(compose, scratch):
    words = ["loss=siglip", "model.logit_bias=-10", "model.logit_scale=2.3026", "loss.chunk=5"]
    losses, saved = train(compose, scratch, *words)
    # Of 12 x 12 pairs 12 match; at a bias of -10 each of them costs ten, the others nothing.
    assert 5 < losses[0] < 12
    assert float(saved["state_dict"]["model.logit_bias"]) != -10
    with pytest.raises(UserError, match=r"model\.logit_bias=-10"):
        train(compose, scratch / "again", "loss=siglip")


def test_images_are_normalised_by_the_named_statistics():
    assert set(STATISTICS) >= {"clip", "imagenet", "rs5m", "pub11", "rs3", "geometa"}
    for name, (mean, std) in STATISTICS.items():
        model = clip("tiny", activation="gelu", statistics=name)
        assert (model.mean, model.std) == (mean, std)
        white = model._normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
        expected = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
        assert white[0, :, 0, 0].tolist() == pytest.approx(expected)
    with pytest.raises(UserError, match="Did you mean imagenet"):
        clip("tiny", statistics="imagnet")
