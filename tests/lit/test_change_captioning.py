"""Change captioners through the entry points: train, kill, resume, evaluate."""

import json

import pytest
import torch

from rsvlm.app import run
from rsvlm.errors import UserError
from rsvlm.lit.bitemporal import Bitemporal
from rsvlm.lit.optim import adam_by_part
from rsvlm.metrics.captions.records import read_rows

RECIPE = [
    "experiment=mmodalcc_tiny_scenes",
    "trainer=cpu",
    "logger=csv",
    "callbacks=patience",
    "callbacks.checkpoints.monitor=val/scenes/coco/bleu4",
    "data.dataset.n=24",
    "data.dataset.size=32",
    "data.batch_size=8",
    "data.cache=none",
    "model.image_size=32",
    "model.rgb.widths=[8,16]",
    "model.semantic.widths=[8,16]",
    "model.dim=16",
    "model.words.more_than=0",
    "evaluation.metrics=[bleu4,cider]",
    "evaluation.options.beam_size=2",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.save_every=2",
    "trainer.log_every_n_steps=1",
    "task.clip_value={decoder: 5, rgb: 5}",
    "seed=1",
]


class Killed(BaseException):
    """Stands for a signal."""


def state(out):
    return torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    from rsvlm.config.compose import compose

    cfg = compose("train", RECIPE)
    out = tmp_path_factory.mktemp("whole")
    run.fit(cfg, out, overrides=[])
    return out


def test_a_run_leaves_its_numbers_its_words_and_its_answers(whole):
    names = {row["name"] for row in json.loads((whole / "metrics.json").read_text())["results"]}
    assert {
        "test/scenes/coco/cider",
        "test/scenes/coco/change_cider",
        "test/scenes/coco/no_change_bleu4",
        "test/scenes/scenes/change_accuracy",
    } <= names
    lines = read_rows(whole / "predictions.jsonl")
    assert len(lines) == 24 and all(len(line["references"]) == 5 for line in lines)
    assert (whole / "words.json").is_file() and (whole / "pictures" / "answers.png").is_file()
    assert (whole / "pictures" / "attention.png").is_file()
    # A file of predictions is what the command line scores.
    assert {"prediction", "references", "changed"} <= set(lines[0])


def test_killed_and_resumed_equals_uninterrupted(whole, compose, monkeypatch, scratch):
    with monkeypatch.context() as patch:
        before = Bitemporal.on_train_batch_start

        def killer(self, *args, **kwargs):
            if self.global_step == 4:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(Bitemporal, "on_train_batch_start", killer)
        with pytest.raises(Killed):
            run.fit(compose("train", RECIPE), scratch / "run", overrides=[])
    cfg = compose("train", [f"resume={scratch / 'run'}"])
    run.fit(cfg, overrides=[f"resume={scratch / 'run'}"])
    ours, theirs = state(scratch / "run"), state(whole)
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], tensor), name
    first, second = (read_rows(f / "predictions.jsonl") for f in (scratch / "run", whole))
    assert first == second


def test_a_checkpoint_brings_its_words(whole, compose, scratch):
    # Its run's word map has been left behind.
    held = (whole / "words.json").rename(scratch / "held.json")
    try:
        words = [f"ckpt={whole / 'last.ckpt'}", "data.dataset.n=4"]
        words += ["evaluation.options.beam_size=1"]
        values = run.evaluate(compose("eval", [*RECIPE[:3], *RECIPE[5:], *words]), scratch)
        assert "test/scenes/coco/cider" in values
        assert json.loads((scratch / "words.json").read_text()) == json.loads(held.read_text())
    finally:
        held.rename(whole / "words.json")


def test_a_published_checkpoint_needs_its_word_map(compose, scratch):
    torch.save({"a": torch.zeros(1)}, scratch / "published.pt")
    cfg = compose("eval", [*RECIPE[:3], *RECIPE[5:], f"ckpt={scratch / 'published.pt'}"])
    with pytest.raises(UserError, match=r"model\.words\.path="):
        run.evaluate(cfg, scratch / "out")


def test_unknown_parts_are_named(compose, scratch):
    cfg = compose("train", [*RECIPE[:-2], "task.clip_value={decodr: 1}"])
    with pytest.raises(UserError, match=r"no part 'decodr'.*decoder"):
        run.fit(cfg, scratch, overrides=[])
    model = torch.nn.ModuleDict({"decoder": torch.nn.Linear(2, 2)})
    with pytest.raises(UserError, match="decodr"):
        adam_by_part(model, lr=1.0, parts={"decodr": 0.1})


def test_patience_decays_the_decoder_and_stops():
    from types import SimpleNamespace

    from rsvlm.lit.early_stopping import PlateauDecayAndStop

    model = torch.nn.ModuleDict(
        {"decoder": torch.nn.Linear(2, 2), "encoder": torch.nn.Linear(2, 2)}
    )
    optimizer = adam_by_part(model, lr=1.0)
    trainer = SimpleNamespace(
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        callback_metrics={"val/x": 1.0},
        optimizers=[optimizer],
        lr_scheduler_configs=[],
        should_stop=False,
        global_step=0,
    )
    callback = PlateauDecayAndStop("val/x", parts=["decoder"], stop=6)
    rates = []
    for step in range(7):
        trainer.global_step = step + 1
        callback.on_validation_end(trainer, None)
        rates.append(optimizer.param_groups[0]["lr"])
        assert trainer.should_stop == (step == 6)
    assert rates == pytest.approx([1, 1, 1, 0.7, 0.7, 0.7, 0.49])
    assert optimizer.param_groups[1]["lr"] == 1
    again = PlateauDecayAndStop("val/x", parts=["decoder"], stop=6)
    again.load_state_dict(callback.state_dict())
    assert again.count == 6
