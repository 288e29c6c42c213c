"""SkyEyeGPT: parity, MiniGPT-v2's layout, text as wired by hand, training, prompts, bad input."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from golden_case import read_case
from model_options import build

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.load import load_contents
from rsvlm.checkpoints.read import unwrap
from rsvlm.checkpoints.resolve import Source
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.eva_layouts import eva_dialect
from rsvlm.encoders.language import LanguageModel
from rsvlm.encoders.tokenizers import word_tokenizer, words_of
from rsvlm.errors import UserError
from rsvlm.inference.ask import ask
from rsvlm.losses.language import AnswerLoss

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASE = Path(GOLDEN or "") / "minigptv2"
KEYS = Path(__file__).parents[1] / "keys" / "skyeyegpt.txt"
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
WORDS = words_of(["INST Img caption refer vqa identify give me the location of a tank and two"])
EVA = {"image_size": 56, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0}


# Parity ---------------------------------------------------------------------------------------


def of_case(config, side):
    return build(
        "skyeyegpt",
        tuning=None,
        packing="none",
        vision={
            "image_size": side,
            "patch_size": config["patch_size"],
            "dim": config["embed_dim"],
            "depth": config["depth"],
            "heads": config["num_heads"],
            "mlp_ratio": config["mlp_ratio"],
        },
        bridge={"group": config["tokens_per_group"]},
        lm={
            "size": {
                "model_type": "llama",
                "hidden_size": config["llm_hidden"],
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "vocab_size": 16,
            },
            "tuning": "frozen",
        },
    ).eval()


def same(found, expected):
    """A large case keeps every k-th position or channel only."""
    steps = [-(-n // m) for n, m in zip(found.shape, expected.shape, strict=True)]
    thinned = found[tuple(slice(None, None, step) for step in steps)]
    torch.testing.assert_close(thinned, expected, **CLOSE)


@pytest.mark.parity("minigptv2")
def test_minigptv2_equals_the_published_code(tmp_path):
    case = read_case(CASE)
    config, expected = case.spec["config"], case.tensors
    torch.save({"model": case.state(), "epoch": 3}, tmp_path / "checkpoint_49.pth")
    model = of_case(config, config["img_size"])
    if config["img_size"] != config["pretrained_img_size"]:
        with pytest.raises(UserError, match=r"model.vision.image_size="):
            checkpoints.load(model, tmp_path / "checkpoint_49.pth", towers=["lm"])
    report = checkpoints.load(
        model, tmp_path / "checkpoint_49.pth", towers=["lm"], interpolate=True
    )
    assert report.dialect == "MiniGPT-v2" and not report.fresh
    assert all(name.startswith("lm.") for name in report.missing)
    same(model.vision.pos_embed.data, expected["pos_embed"])
    images = case.inputs()["input.image"]
    with torch.no_grad():
        raw = model.vision(images)
        same(raw, expected["vision_raw"])
        same(model.bridge.norm(raw), expected["vision_tokens"])
        same(model.bridge(raw), expected["llm_inputs"])
    for name, positions in expected.items():
        if not name.startswith("pos_embed_"):
            continue
        side = int(name.removeprefix("pos_embed_").split("x")[0]) * config["patch_size"]
        tower = EvaViT(
            image_size=side,
            patch_size=config["patch_size"],
            dim=config["embed_dim"],
            depth=config["depth"],
            heads=config["num_heads"],
            mlp_ratio=config["mlp_ratio"],
        )
        checkpoints.load(
            tower,
            tmp_path / "checkpoint_49.pth",
            part="vision",
            dialects=model.dialects,
            interpolate=True,
        )
        same(tower.pos_embed.data, positions)


# A checkpoint in MiniGPT-v2's layout ----------------------------------------------------------


@pytest.fixture(scope="module")
def wired(tmp_path_factory):
    """EVA's file, LLaMA's folder, and the modules behind them, tuned by peft itself."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("minigpt")
    torch.manual_seed(3)
    tokenizer = word_tokenizer(WORDS)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    llama = LlamaForCausalLM(config).eval()
    llama.save_pretrained(folder / "llama")
    tokenizer.save_pretrained(folder / "llama")
    eva = EvaViT(**EVA).eval()
    torch.save(revert(eva.state_dict(), eva_dialect(2)), folder / "eva_vit_g.pth")
    lora = LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    llama = get_peft_model(llama, lora).eval()
    proj = torch.nn.Linear(128, 32)
    with torch.no_grad():
        for name, parameter in llama.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    return folder, eva, proj, llama, tokenizer


def published(proj, llama, *, old):
    """What MiniGPT-v2's training saves, with the names of peft 0.2 or of later ones."""
    state = {f"llama_proj.{n}": v.clone() for n, v in proj.state_dict().items()}
    for name, value in llama.named_parameters():
        if "lora_" in name:
            name = name.replace(".default", "") if old else name
            state[f"llama_model.{name}"] = value.detach().clone()
    config = {"model": {"arch": "minigpt_v2", "image_size": 56, "lora_r": 4}, "run": {}}
    return {"model": state, "optimizer": {}, "config": config, "scaler": None, "epoch": 3}


def of_files(folder, **options):
    lm = {"size": None, "weights": folder / "llama", "lora": {"r": 4, "alpha": 16}}
    return build(
        "skyeyegpt",
        vision={**EVA, "weights": folder / "eva_vit_g.pth", **options.pop("vision", {})},
        lm={**lm, "tuning": "lora", **options.pop("lm", {})},
        generation={"max_new_tokens": 12},
        **{"tuning": None, "packing": "none", **options},
    )


def picture(seed=0, size=56):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("images", [1, 2])
def test_a_minigpt_file_gives_the_text_of_the_modules_wired_by_hand(wired, tmp_path, old, images):
    folder, eva, proj, llama, tokenizer = wired
    torch.save(published(proj, llama, old=old), tmp_path / "SkyEyeGPT.pth")
    model = of_files(folder)
    report = checkpoints.load(model, tmp_path / "SkyEyeGPT.pth", towers=["vision", "lm"])
    assert report.dialect == ("MiniGPT-v2 (peft 0.2)" if old else "MiniGPT-v2")
    assert report.loaded == 2 + 2 * 2 * 2
    pictures = [picture(n) for n in range(images)]
    prompt = "[refer] give me the location of the tank"

    seen = torch.stack(pictures).float().div(255).sub(eva.image_mean).div(eva.image_std)
    with torch.no_grad():
        tokens = torch.nn.functional.layer_norm(eva(seen), (32,))[:, 1:]
        visual = proj(tokens.reshape(images, 4, 128))
        parts = ["[INST] <Img>", *["</Img> <Img>"] * (images - 1), f"</Img> {prompt} [/INST]"]
        ids = [tokenizer(part, add_special_tokens=False).input_ids for part in parts]
        ids[0] = [1, *ids[0]]
        words = [llama.get_input_embeddings()(torch.tensor(part)) for part in ids]
        row = [words[0]]
        for shown, text in zip(visual, words[1:], strict=True):
            row += [shown, text]
        embeds = torch.cat(row)[None]
        written = llama.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
        )
    answer = ask(model.eval(), pictures, prompt)
    assert answer.text == tokenizer.decode(written[0], skip_special_tokens=True).strip() != ""


def test_a_model_on_meta_takes_the_file_and_its_towers(wired, tmp_path):
    folder, _, proj, llama, _ = wired
    torch.save(published(proj, llama, old=False), tmp_path / "a.pth")
    real = of_files(folder)
    checkpoints.load(real, tmp_path / "a.pth", towers=["vision", "lm"])
    numbers = dict(EVA)
    lm = {"size": None, "weights": folder / "llama", "lora": {"r": 4}}
    model = build("skyeyegpt", vision=numbers, lm=lm, device="meta")
    checkpoints.load(model.vision, folder / "eva_vit_g.pth")
    checkpoints.load(model.lm, folder / "llama", towers=["lora_A", "lora_B"])
    checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    model.to("cpu")
    for name, value in real.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value)


def test_the_wrong_architecture_is_told(wired, tmp_path):
    folder, _, proj, llama, _ = wired
    model = of_files(folder)

    def load(change, name="SkyEyeGPT.pth", into=model):
        content = published(proj, llama, old=False)
        change(content)
        torch.save(content, tmp_path / name)
        checkpoints.load(into, tmp_path / name, towers=["vision", "lm"])

    def first_version(content):
        content["config"]["model"]["arch"] = "minigpt4"
        content["model"] = {
            "llama_proj.weight": torch.zeros(32, 768),
            "llama_proj.bias": torch.zeros(32),
        }

    def other_size(content):
        content["config"]["model"]["image_size"] = 448

    def wider(content):
        content["model"]["llama_proj.weight"] = torch.zeros(48, 128)

    def other_layers(content):
        content["model"] = {n.replace("v_proj", "o_proj"): v for n, v in content["model"].items()}

    def without(content):
        content["model"] = {n: v for n, v in content["model"].items() if "lora_B" not in n}

    for change, message in (
        (first_version, r"another architecture \(minigpt4, its llama_proj reads 768 numbers\)"),
        (other_size, r"images of 448 px, the model takes 56: say model.vision.image_size=448"),
        (wider, r"language model of width 48, this one has 32"),
        (other_layers, r"LoRA of o_proj, q_proj; the model has LoRA of q_proj, v_proj"),
        (without, r"It lacks LoRA \(B\)"),
    ):
        with pytest.raises(UserError, match=message):
            load(change)
    with pytest.raises(UserError, match=r"LoRA of nothing: say model.tuning=lora"):
        load(lambda content: None, into=of_files(folder, lm={"tuning": "frozen"}))
    other = EvaViT(**EVA)
    with pytest.raises(UserError, match=r"It looks like MiniGPT-v2 \(SkyEyeGPT\)"):
        checkpoints.load(other, tmp_path / "SkyEyeGPT.pth")


# The published file ---------------------------------------------------------------------------


def manifest():
    lines = [line.split(" ", 1) for line in KEYS.read_text().splitlines()]
    return {name: torch.empty(json.loads(shape), device="meta") for name, shape in lines}


def test_skyeyegpt_manifest_loads_at_full_size(tmp_path):
    model = build("skyeyegpt", device="meta")
    assert model.image_tokens == 256 and model.image_size == 448
    for names in (manifest(), {n.replace(".default", ""): v for n, v in manifest().items()}):
        contents = unwrap({"epoch": 1, "model": names}, tmp_path / "SkyEyeGPT.pth")
        source = Source("SkyEyeGPT.pth")
        report = load_contents(
            model, contents, source, towers=["vision", "lm"], dialects=model.dialects
        )
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert report.loaded == len(trained) == len(names) and not report.dropped
        assert set(report.missing) == set(model.state_dict()) - trained
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 56_627_200


# Training and prompts -------------------------------------------------------------------------


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    lm = {"size": "tiny", "words": WORDS, "lora": {"r": 4}, "tuning": "lora"}
    return build(
        "skyeyegpt",
        vision={**EVA, **options.pop("vision", {})},
        lm={**lm, **options.pop("lm", {})},
        generation={"max_new_tokens": 12},
        **{"tuning": None, "packing": "none", **options},
    )


def item(model, number, text, asked, kind="refer", images=1, **more):
    sample = Sample(
        [picture(number + k, 80) for k in range(images)],
        layout="single" if images == 1 else "frames",
        turns=[
            Turn("user", asked, tuple(range(images)), kind=kind),
            Turn("assistant", text, kind=kind),
        ],
        meta={"id": f"p{number}"},
        **more,
    )
    return TransformedDataset([sample], model.preprocess, training=False, caption="all")[0, 0]


def loss_of(model, batch):
    return AnswerLoss()(model(batch), batch)["answer"]


def test_gradients_reach_exactly_the_published_trainable_set():
    model = tiny().train()
    batch = model.collate(training=True)([item(model, n, "a tank", "the tank") for n in range(2)])
    loss_of(model, batch).backward()
    for name, parameter in model.named_parameters():
        trained = name.startswith("bridge.proj.") or "lora_" in name
        assert parameter.requires_grad == trained == (parameter.grad is not None), name
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    optimizer.step()
    for name, value in frozen.items():
        assert torch.equal(dict(model.named_parameters())[name], value)


def test_it_learns_and_answers_with_boxes_of_the_stored_image():
    model = tiny(lm={"tuning": "full"}, train_vision=True, bridge={"train_norm": True})
    box = (8.0, 16.0, 40.0, 64.0)  # of 80 px
    tank = Instance(3, "tank", phrase="the tank", box=box)
    rows = [
        item(model, 0, "tank", "the tank", instances=[tank]),
        item(model, 9, "two", "how many tanks?", kind="count"),
        item(model, 5, "a tank and a tank", "describe", kind="caption", images=2),
    ]
    rows[0].sample.turns[1].instance_ids = (3,)
    batch = model.collate(training=True)(rows)
    assert (batch.input_ids == -200).sum(1).tolist() == [4, 4, 8]
    assert batch.answers == ["{<10><20><50><80>}", "two", "a tank and a tank"]
    assert [p.split("] ")[1].split("]")[0] for p in batch.prompts[:1]] == ["<Img></Img> [refer"]
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    model.train()
    first = loss_of(model, batch).item()
    for _ in range(60):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    # The same rows without their answers, in training's words.
    collate = model.collate(training=False, instructions={"measuring": False})
    answers = model.generate(collate(rows), max_new_tokens=24)
    assert [a.text for a in answers] == batch.answers
    assert [len(a.boxes) for a in answers] == [1, 0, 0]
    assert answers[0].boxes[0] == pytest.approx(box)


def test_prompts_are_the_ancestors():
    model = tiny()
    generate = model.collate(training=False)
    batch = generate([item(model, 0, "a tank", "what is it?", kind="vqa")])
    question = "Based on the image, respond to this question with a short answer: what is it?"
    assert batch.prompts == [f"[INST] <Img></Img> [vqa] {question} [/INST]"]
    # What a user types stays as it is typed.
    typed = item(model, 0, "", "Describe this image in detail.", kind=None)
    assert generate([typed]).prompts == [
        "[INST] <Img></Img> Describe this image in detail. [/INST]"
    ]
    talk = item(model, 0, "a tank", "[identify] {<1><2><30><40>}", kind=None)
    talk.sample.turns += [Turn("user", "[refer] it"), Turn("assistant", "{<1><2><3><4>}")]
    batch = model.collate(training=True)([talk])
    row = batch.input_ids[0].masked_fill(batch.input_ids[0] == -200, 0)
    # Parts are tokenised one by one, so each begins as a word does.
    assert model.lm.tokenizer.decode(row).replace("<pad>", "") == (
        "<s> [INST] <Img> </Img> [identify] {<1><2><30><40>} [/INST] a tank</s>"
        "<s> [INST] [refer] it [/INST] {<1><2><3><4>}</s>"
    )
    learnt = batch.labels[batch.labels != -100]
    assert model.lm.tokenizer.decode(learnt) == "a tank</s> {<1><2><3><4>}</s>"


def test_a_batch_answers_as_its_rows_alone():
    model = tiny().eval()
    rows = [item(model, n, "", "the tank" + " and a tank" * n, kind=None) for n in range(3)]
    collate = model.collate(training=False)
    for row, answer in zip(rows, model.generate(collate(rows)), strict=True):
        (alone,) = model.generate(collate([row]))
        assert alone.text == answer.text
        # Measured: 5e-7; padding is summed in another order.
        assert alone.score == pytest.approx(answer.score, abs=1e-5)


def test_our_checkpoint_holds_what_was_trained_and_loads(wired, tmp_path):
    folder, _, proj, llama, _ = wired
    torch.save(published(proj, llama, old=False), tmp_path / "a.pth")
    model = of_files(folder)
    checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    sources = {"vision": str(folder / "eva_vit_g.pth"), "lm": str(folder / "llama")}
    packed = checkpoints.pack(model, towers=sources)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert set(packed["state_dict"]) == {*trained, "bridge.norm.weight", "bridge.norm.bias"}
    torch.save(packed, tmp_path / "last.ckpt")
    again = of_files(folder)
    checkpoints.load(again, tmp_path / "last.ckpt", towers=["vision", "lm"])
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_bad_input_says_what_to_do():
    model = tiny().eval()
    for prompt, message in (
        ("[refr] the tank", r"knows no task \[refr\].*Did you mean \[refer\].*\[caption\], \[det"),
        ("<ImageHere> the tank", "holds the image placeholder <ImageHere>"),
        (" ", "the question is empty"),
        ("tank " * 600, r"the question alone has 6\d\d words.*max_length=500"),
    ):
        with pytest.raises(UserError, match=message):
            ask(model, [picture()], prompt)
    collate = model.collate(training=False)
    batch = collate([item(model, 0, "", "the tank", kind=None)])
    batch.image_rows = [(0, 0)]
    with pytest.raises(UserError, match="4 image places in its text and 8 visual"):
        model.generate(batch)
    batch.image_rows, batch.input_ids = (
        [(0,)],
        batch.input_ids.masked_fill(batch.input_ids == -200, 5),
    )
    with pytest.raises(UserError, match="0 image places in its text and 4 visual"):
        model.generate(batch)
    with pytest.raises(UserError, match=r"9 tokens of patches.*groups of 4"):
        tiny(vision={"image_size": 42})
    with pytest.raises(UserError, match="Did you mean skyeyegpt"):
        tiny(system="skyeyegp")
    with pytest.raises(UserError, match=r"model.tuning=full and model.lm.tuning=lora differ"):
        tiny(tuning="full")


def test_tiny_option_builds():
    model = build("skyeyegpt_tiny")
    assert isinstance(model.lm, LanguageModel) and model.image_tokens == 4
    assert all(p.requires_grad for p in model.parameters())
