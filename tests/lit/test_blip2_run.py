"""BLIP-2 through the entry points' functions: train, tune over a start, caption, draw."""

import json

import pytest
import torch
from PIL import Image

from rsvlm.app import run
from rsvlm.errors import UserError
from rsvlm.metrics.captions.records import read_rows
from rsvlm.synthetic.export import FORMATS, export

TINY = [
    "model=blip2_tiny",
    "trainer=cpu",
    "logger=none",
    "data.workers=0",
    "model.vision.image_size=28",
    "model.generation.max_new_tokens=6",
]
SHORT = [
    "optimizer.lr=1e-3",
    "scheduler.warmup_steps=0",
    "data.batch_size=4",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=3",
    "trainer.precision=32-true",
    "callbacks.checkpoints.monitor=null",
    "evaluation.metrics=[bleu1]",
    "evaluation.val_metrics=[bleu1]",
    "init=null",
]


@pytest.fixture(scope="module")
def rsicd(tmp_path_factory):
    root = tmp_path_factory.mktemp("rsicd") / "RSICD"
    export(FORMATS["rsicd"], root, {"train": 12, "val": 2, "test": 3}, size=32)
    return root


@pytest.fixture
def fit(compose, rsicd, tmp_path):
    def go(*words):
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        words = ["experiment=blip2_rsicd", *TINY, *SHORT, f"data.root={rsicd}", *words]
        run.fit(compose("train", words), out, overrides=words)
        return out

    return go


def weights(out):
    return torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]


def test_tuned_over_a_start_a_checkpoint_holds_what_was_trained(fit, compose, rsicd, tmp_path):
    start = fit("model.tuning=full")
    assert len(weights(start)) > 100
    assert len(read_rows(start / "predictions.jsonl")) == 3
    base = f"init={start / 'last.ckpt'}"
    seen, said = (fit(f"model.tuning={t}", base) for t in ("lora", "lm_lora"))
    for out, part in ((seen, "model.vision."), (said, "model.lm.")):
        kept = weights(out)
        assert kept and all(name.startswith(part) and ".lora_" in name for name in kept)
        assert any(v.abs().sum() > 0 for n, v in kept.items() if "lora_B" in n)

    words = ["experiment=blip2_rsicd", *TINY, *SHORT, f"data.root={rsicd}"]
    words.append(f"ckpt={seen / 'last.ckpt'}")
    again = run.evaluate(compose("eval", [*words, "model.tuning=lora"]), tmp_path / "again")
    told = json.loads((seen / "metrics.json").read_text())["results"]
    assert again == {row["name"]: row["value"] for row in told}
    with pytest.raises(UserError, match=r"trained with model\.tuning=lora"):
        wrong = [*words, "model.tuning=bridge"]
        run.evaluate(compose("eval", wrong), tmp_path / "wrong", overrides=wrong)


@pytest.mark.parametrize("model", ["rscapret_tiny", "llava_tiny", "skyeyegpt_tiny"])
def test_the_captions_recipe_takes_any_model_that_writes(compose, rsicd, tmp_path, model):
    words = [word for word in TINY if "vision" not in word and "model=" not in word]
    words = ["experiment=eval_caption_rsicd", *words, f"model={model}", f"data.root={rsicd}"]
    values = run.evaluate(compose("eval", [*words, "evaluation.metrics=[bleu1]"]), tmp_path / "a")
    assert set(values) == {"test/rsicd/coco/bleu1", "test/rsicd/coco/caption_empty"}


def test_predict_captions_where_nothing_is_asked_and_draws_candidates(compose, tmp_path, capsys):
    Image.new("RGB", (40, 30), "olive").save(tmp_path / "a.png")
    words = [*TINY, f"image={tmp_path / 'a.png'}"]
    answer = run.predict(compose("predict", words), tmp_path)
    assert answer.text in capsys.readouterr().out and not answer.candidates
    drawn = run.predict(compose("predict", [*words, "model.candidates=20"]), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(drawn.candidates) == 20 and len(lines) >= 20
