"""SkyEyeGPT, LLaVA and RS-CapRet through the entry points: train, kill, resume, measure, ask.

The language model comes from a folder, as published ones do, and is frozen but for what tunes it.
"""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from rsvlm import checkpoints
from rsvlm.app import run
from rsvlm.encoders.clip.model import clip
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.inference.build import build_model
from rsvlm.lit.captioner import Captioner
from rsvlm.metrics.captions.records import read_rows

CONF = Path(__file__).parents[2] / "conf"
SHARED = [
    "task=captioner",
    "trainer=cpu",
    "logger=csv",
    "data.dataset.size=56",
    "data.dataset.n=12",
    "data.augment=null",
    "data.workers=0",
    "model.lm.words=null",
    "model.generation.max_new_tokens=6",
]
TRAIN = [
    "data.batch_size=4",
    "trainer.limit_val_batches=0",
    "trainer.max_epochs=2",
    "trainer.limit_train_batches=3",
    "trainer.save_every=2",
    "trainer.log_every_n_steps=1",
    "scheduler.warmup_steps=2",
    "optimizer.lr=1e-3",
    "evaluation=captions",
    "evaluation.metrics=[bleu1,bleu4]",
]
CHAT = [*SHARED, "loss=answer", "data.dataset.parts=[captions,turns,references]"]
MODELS = {
    "skyeyegpt": [
        *CHAT,
        "model=skyeyegpt_tiny",
        "model.tuning=lora",
        "+model.instructions.tasks=[caption,refer]",
        "data.workers=1",
    ],
    "llava_lora": [*CHAT, "model=llava_tiny", "model.tuning=lora", "model.packing=rows"],
    "llava_moe_lora": [*CHAT, "model=llava_tiny", "model.tuning=moe_lora"],
    "rscapret": [
        *SHARED,
        "loss=caption_retrieval",
        "model=rscapret_tiny",
        "model.lm.tuning=frozen",
        "model.dropout=0.1",
    ],
}
SLOW = {"llava_lora"}
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in MODELS]
# With a worker of its own and LoRA, and with a row that each step mends; experts go on alike.
SLOW_TO_RESUME = SLOW | {"llava_moe_lora"}
RESUMED = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW_TO_RESUME else n for n in MODELS]


class Killed(BaseException):
    """Stands for a signal."""


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    """A folder with a language model and its tokenizer, and a CLIP for RS-CapRet's frozen tower."""
    folder = tmp_path_factory.mktemp("language")
    torch.manual_seed(7)
    lm = LanguageModel("tiny", words="world")
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    torch.save(checkpoints.pack(clip("tiny")), folder / "clip.ckpt")
    return folder


def words_of(name, language):
    words = [*MODELS[name], f"model.lm.weights={language}", "model.lm.size=null"]
    return words + [f"model.vision.weights={language / 'clip.ckpt'}"] * (name == "rscapret")


@pytest.fixture(scope="module")
def whole(language, tmp_path_factory):
    """name -> the run that nothing interrupts, and the model as it left training."""
    from rsvlm.config.compose import compose

    done = {}

    def trained(name):
        if name not in done:
            words = [*words_of(name, language), *TRAIN]
            cfg = compose("train", words)
            out = tmp_path_factory.mktemp(name)
            models = []
            build = build_model
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(
                    "rsvlm.inference.build.build_model",
                    lambda cfg, out, say: models.append(build(cfg, out, say=say)) or models[0],
                )
                run.fit(cfg, out, overrides=[])
            done[name] = out, models[0]
        return done[name]

    return trained


def state(out):
    return torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)


@pytest.mark.parametrize("name", NAMES)
def test_the_frozen_language_model_stays_and_only_what_learns_is_saved(whole, language, name):
    out, model = whole(name)
    with (out / "metrics.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    losses = [float(value) for _, word, value in rows if word == "train/loss"]
    assert len(losses) == 6 and sum(losses[3:]) < sum(losses[:3])
    assert any(word == "train/balance" for _, word, _ in rows) == (name == "llava_moe_lora")
    published = load_file(language / "model.safetensors")
    now = {
        key.removeprefix("lm.model.").replace(".base_layer.", "."): tensor
        for key, tensor in model.state_dict().items()
    }
    assert len(published) == 21
    for key, tensor in published.items():
        assert now[key].numpy().tobytes() == tensor.numpy().tobytes(), key
    saved = state(out)
    learns = {f"model.{key}" for key, p in model.named_parameters() if p.requires_grad}
    buffers = {f"model.{key}" for key, _ in model.named_buffers()}
    assert learns <= set(saved["state_dict"]) <= learns | buffers
    towers = saved["rsvlm"]["towers"]
    assert set(towers) == ({"lm", "vision"} if name == "rscapret" else {"lm"})
    assert towers["lm"]["source"] == str(language)


@pytest.mark.parametrize("name", RESUMED)
def test_killed_and_resumed_equals_uninterrupted(whole, language, compose, scratch, name):
    with pytest.MonkeyPatch.context() as patch:
        before = Captioner.optimizer_step

        def killer(self, *args, **kwargs):
            if self.global_step == 4:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(Captioner, "optimizer_step", killer)
        with pytest.raises(Killed):
            cfg = compose("train", [*words_of(name, language), *TRAIN])
            run.fit(cfg, scratch / "run", overrides=[])
    torch.manual_seed(123)  # whatever state the new process has
    words = [f"resume={scratch / 'run'}"]
    run.fit(compose("train", words), overrides=words)
    ours, theirs = state(scratch / "run"), state(whole(name)[0])
    assert ours["global_step"] == theirs["global_step"] == 6
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for key, tensor in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][key], tensor), key
    first, second = (
        read_rows(folder / "predictions.jsonl") for folder in (scratch / "run", whole(name)[0])
    )
    assert first == second


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_is_measured_and_asked(whole, language, compose, scratch, name, capsys):
    out, _ = whole(name)
    given = [*words_of(name, language), f"ckpt={out / 'last.ckpt'}"]
    measured = run.evaluate(compose("eval", [*given, *TRAIN[-2:], "logger=none"]), scratch / "e")
    rows = json.loads((out / "metrics.json").read_text())["results"]
    assert measured == {row["name"]: row["value"] for row in rows}
    words = ("bleu1", "bleu4", "caption_empty")
    assert set(measured) == {f"test/scenes/coco/{word}" for word in words}
    image = scratch / "a.png"
    Image.new("RGB", (72, 40), "green").save(image)
    prompt = {"skyeyegpt": "[refer] the storage tank", "rscapret": ""}.get(name, "Is it green?")
    asked = run.predict(
        compose("predict", [*given, f"image={image}", f"prompt={prompt}"]), scratch / "p"
    )
    assert asked.text.strip() and asked.text.splitlines()[0] in capsys.readouterr().out


def test_another_tuning_than_the_checkpoints_is_told(whole, language, compose, scratch):
    out, _ = whole("llava_moe_lora")
    given = [*words_of("llava_moe_lora", language), f"ckpt={out / 'last.ckpt'}"]
    for tuning in ("lora", "full"):
        words = [*given, f"model.tuning={tuning}", *TRAIN[-2:]]
        with pytest.raises(UserError, match=r"trained with model\.tuning=moe_lora.*say model\.tun"):
            run.evaluate(compose("eval", words), scratch / tuning, overrides=words)


def test_a_full_run_starts_lora_and_experts_and_is_no_checkpoint_of_them(compose, scratch):
    """`-m model.tuning=full,lora,moe_lora init=<a run>`: what tuning adds needs no init_new."""
    base = [word for word in MODELS["llava_moe_lora"] if "tuning" not in word and "lm." not in word]
    quick = [*TRAIN, "trainer.max_epochs=1", "trainer.limit_train_batches=1"]
    quick += ["trainer.limit_test_batches=0"]
    run.fit(compose("train", [*base, *quick, "model.tuning=full"]), scratch / "full", overrides=[])
    last = scratch / "full" / "last.ckpt"
    whole = state(scratch / "full")["state_dict"]
    for tuning in ("lora", "moe_lora"):
        words = [*base, *quick, f"model.tuning={tuning}"]
        cfg = compose("train", [*words, f"init={last}"])
        run.fit(cfg, scratch / tuning, overrides=words)
        own = state(scratch / tuning)
        assert set(own["rsvlm"]["towers"]) == {"lm"}
        lost = set(whole) - set(own["state_dict"])
        assert lost and all(key.startswith("model.lm.") for key in lost)
        cfg = compose("predict", [*words[: len(base)], f"model.tuning={tuning}", f"ckpt={last}"])
        with pytest.raises(UserError, match=rf"without what model\.tuning={tuning} adds.*init="):
            build_model(cfg)
        model = build_model(compose("eval", [*words, f"ckpt={scratch / tuning / 'last.ckpt'}"]))
        head = model.lm.model.get_output_embeddings().weight
        assert torch.equal(head, whole["model.lm.model.lm_head.weight"])
