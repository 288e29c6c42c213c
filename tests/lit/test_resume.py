"""A run that was killed anywhere and resumed equals one that was not, bit for bit."""

import csv
from pathlib import Path

import pytest
import torch

from rsvlm.app import run
from rsvlm.errors import UserError
from rsvlm.lit.contrastive import Contrastive

# 3 epochs of 4 batches, with all that draws random numbers switched on.
CONF = Path(__file__).parents[2] / "conf"
RECIPE = [
    "experiment=clip_tiny_scenes",
    "trainer=cpu",
    "logger=csv",
    "data.dataset.size=64",
    "data.dataset.n=48",
    "data.batch_size=12",
    "data.eval_batch_size=48",
    "data.workers=1",
    "model.dropout=0.1",
    "trainer.max_epochs=3",
    "trainer.save_every=3",
    "trainer.log_every_n_steps=1",
    "trainer.limit_test_batches=0",
    "scheduler.warmup_steps=2",
    "seed=3",
]


class Killed(BaseException):
    """Stands for a signal: nothing in between may catch it."""


def state(out):
    return torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)


def rows(out):
    with (out / "metrics.csv").open() as file:
        found = [tuple(row) for row in csv.reader(file)][1:]
    return [row for row in found if "per_second" not in row[1]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, request):
    """The run that nothing interrupts."""
    from rsvlm.config.compose import compose

    cfg = compose("train", RECIPE)
    out = tmp_path_factory.mktemp("whole")
    run.fit(cfg, out, overrides=[])
    return out


# Before the first checkpoint, between two, right after one, at an epoch's end and start, near the
# end; checkpoints are written at steps 3, 4, 6, 8, 9 and 12. The quick suite has one before any
# and one between two.
@pytest.mark.parametrize(
    ("kill", "where"),
    [
        (2, "start"),
        (7, "middle"),
        *(
            pytest.param(kill, where, marks=pytest.mark.slow)
            for kill, where in ((4, "start"), (8, "start"), (11, "middle"))
        ),
    ],
)
def test_killed_and_resumed_equals_uninterrupted(whole, compose, monkeypatch, scratch, kill, where):
    with monkeypatch.context() as patch:
        hook = {"start": "on_train_batch_start", "middle": "optimizer_step"}[where]
        before = getattr(Contrastive, hook)

        def stop(self, *args, **kwargs):
            if self.global_step == kill:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(Contrastive, hook, stop)
        with pytest.raises(Killed):
            run.fit(compose("train", RECIPE), scratch, overrides=[])
    torch.manual_seed(123)  # whatever state the new process has
    words = [f"resume={scratch}"]
    run.fit(compose("train", words), overrides=words)

    expected, got = state(whole), state(scratch)
    assert got["global_step"] == expected["global_step"] == 12
    assert expected["state_dict"].keys() == got["state_dict"].keys()
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(tensor, got["state_dict"][name]), name
    for a, b in zip(
        expected["optimizer_states"][0]["state"].values(),
        got["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert torch.equal(a["exp_avg"], b["exp_avg"])
    assert sorted(rows(scratch)) == sorted(rows(whole))
    assert (scratch / "best.ckpt").is_file()


def test_dropout_and_augmentation_were_on(whole):
    saved = state(whole)
    assert saved["rsvlm"]["config"]["model"]["dropout"] == 0.1
    losses = [float(value) for _, name, value in rows(whole) if name == "train/loss"]
    assert len(losses) == 12
    assert len(set(losses)) == 12


def test_a_checkpoint_holds_no_objects_and_no_random_state(whole):
    saved = state(whole)
    assert "rsvlm" in saved
    assert not [key for key in saved if "rng" in key]


def test_resume_of_another_model_is_refused(whole, compose, scratch):
    for name in ("last.ckpt", "config.yaml"):
        (scratch / name).write_bytes((whole / name).read_bytes())
    text = (scratch / "config.yaml").read_text().replace("arch: tiny", "arch: small")
    (scratch / "config.yaml").write_text(text)
    words = [f"resume={scratch}"]
    with pytest.raises(UserError, match=r"visual\.|arch"):
        run.fit(compose("train", words), overrides=words)
