"""RS-MoE through the entry points: both stages, kill, resume, ask; its adapters in peft."""

import json

import pytest
import torch
from PIL import Image

from rsvlm.app import run
from rsvlm.errors import UserError
from rsvlm.inference.build import build_model
from rsvlm.lit.moe_llm import MoELLM

QUICK = [
    "trainer=cpu",
    "logger=csv",
    "data.dataset.n=12",
    "data.dataset.parts=[turns]",
    "data.batch_size=4",
    "data.workers=0",
    "model.chat.kinds=[description]",
    "trainer.limit_val_batches=0",
    "trainer.limit_test_batches=0",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=1",
    "trainer.limit_train_batches=3",
    "trainer.save_every=2",
    "trainer.log_every_n_steps=1",
    "scheduler.warmup_steps=2",
]
SECOND = ["experiment=rsmoe_tiny_stage2", *QUICK, "model.router=learned"]


class Killed(BaseException):
    """Stands for a signal."""


def state(out):
    return torch.load(out / "last.ckpt", map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """The folders of a first stage and of the second one that starts from it."""
    from rsvlm.config.compose import compose

    folder = tmp_path_factory.mktemp("rsmoe")
    first = ["experiment=rsmoe_tiny_stage1", *QUICK]
    run.fit(compose("train", first), folder / "first", overrides=first)
    second = [*SECOND, f"init={folder / 'first' / 'last.ckpt'}"]
    run.fit(compose("train", second), folder / "second", overrides=second)
    return folder / "first", folder / "second", second


def test_the_second_stage_trains_experts_alone_and_leaves_the_first_to_the_byte(stages, compose):
    first, second, words = stages
    held = state(second)
    assert held["global_step"] == 6
    names = {name.split(".")[1] for name in held["state_dict"]}
    assert names == {"experts", "router"}
    towers = held["rsvlm"]["towers"]
    assert set(towers) == {"vision", "bridge", "lm"}
    assert {kept["source"] for kept in towers.values()} == {str(first / "last.ckpt")}
    whole = state(first)["state_dict"]
    given = [*words[: len(SECOND)], f"ckpt={second / 'last.ckpt'}"]
    model = build_model(compose("eval", given))
    for name, value in model.state_dict().items():
        if not name.startswith(("experts.", "router.")):
            assert value.numpy().tobytes() == whole[f"model.{name}"].numpy().tobytes(), name
    ups = [v for n, v in model.state_dict().items() if n.endswith(".up")]
    assert ups and all(value.abs().sum() > 0 for value in ups)


def test_killed_and_resumed_equals_uninterrupted(stages, compose, scratch):
    _, second, words = stages
    with pytest.MonkeyPatch.context() as patch:
        before = MoELLM.optimizer_step

        def killer(self, *args, **kwargs):
            if self.global_step == 4:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(MoELLM, "optimizer_step", killer)
        with pytest.raises(Killed):
            run.fit(compose("train", words), scratch / "run", overrides=words)
    torch.manual_seed(123)
    again = [f"resume={scratch / 'run'}"]
    run.fit(compose("train", again), overrides=again)
    ours, theirs = state(scratch / "run"), state(second)
    assert ours["state_dict"].keys() == theirs["state_dict"].keys()
    for name, value in theirs["state_dict"].items():
        assert torch.equal(ours["state_dict"][name], value), name


def test_what_is_asked_shows_each_experts_prompt_and_part(stages, compose, scratch, capsys):
    image = scratch / "a.png"
    Image.new("RGB", (72, 40), "green").save(image)
    prompt = "Describe this image in detail."
    words = [f"ckpt={stages[1] / 'last.ckpt'}", f"image={image}", f"prompt={prompt}"]
    answer = run.predict(compose("predict", ["model=rsmoe_tiny", *words]), scratch / "p", words)
    said = capsys.readouterr().out
    for part in answer.parts:
        assert f"{part.expert} ({part.weight:.2f}) was asked {part.prompt!r}" in said
    # Logits are mixed: the one text is not told as each expert's own.
    assert said.count(answer.text) == 1 and "wrote this with the others" in said


def test_each_experts_adapter_loads_in_peft_with_its_scale(stages, compose, scratch):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    from rsvlm.export.formats import export

    given = [*SECOND, f"ckpt={stages[1] / 'last.ckpt'}"]
    model = build_model(compose("eval", given)).eval()
    with torch.no_grad():
        for name, parameter in model.experts.named_parameters():
            if name.endswith(".up"):
                parameter.normal_(std=0.3)
    export(model, "peft", scratch / "adapters")
    assert sorted(p.name for p in (scratch / "adapters").iterdir()) == sorted(model.tasks)
    model.lm.model.save_pretrained(scratch / "base")
    ids = torch.arange(4, 20)[None]
    mask = torch.ones_like(ids)
    adapters = model.experts.groups[0].adapters
    for place, task in enumerate(model.tasks):
        base = AutoModelForCausalLM.from_pretrained(scratch / "base")
        theirs = peft.PeftModel.from_pretrained(base, scratch / "adapters" / task).eval()
        config = json.loads((scratch / "adapters" / task / "adapter_config.json").read_text())
        assert (config["r"], config["lora_alpha"]) == (8, 8)
        with torch.no_grad(), adapters.speaking(model.lm.model, torch.eye(3)[place : place + 1]):
            ours = model.lm(model.lm.embed(ids), mask, ids)["logits"]
            torch.testing.assert_close(
                theirs(input_ids=ids).logits[0, :-1], ours, atol=1e-4, rtol=0
            )


def test_what_cannot_start(stages, compose, scratch):
    with pytest.raises(UserError, match=r"init=<run of the first stage>"):
        run.fit(compose("train", SECOND), scratch / "a", overrides=SECOND)
    words = [*SECOND, f"init={stages[0] / 'last.ckpt'}", "model.draft=true"]
    words += [
        "+data.augment._target_=rsvlm.data.transforms.Augment",
        "+data.augment._partial_=true",
    ]
    with pytest.raises(UserError, match="keeps the LLM block's answer"):
        run.fit(compose("train", words), scratch / "b", overrides=words)
    quick = [word for word in QUICK if not word.startswith("model.")]
    words = ["model=llava_tiny", "task=moe_llm", "loss=answer", *quick]
    with pytest.raises(UserError, match="has no experts: set task=captioner"):
        run.fit(compose("train", words), scratch / "c", overrides=words)


def test_a_first_stage_of_another_language_model_is_told(stages, compose, scratch):
    size = "{model_type: llama, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}"
    words = [*SECOND, f"init={stages[0] / 'last.ckpt'}", f"model.lm.size={size}"]
    with pytest.raises(UserError, match="language model of width 64, this one has 32"):
        run.fit(compose("train", words), scratch / "d", overrides=words)
