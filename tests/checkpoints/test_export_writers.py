"""Exports of models that write, judged by the libraries and layouts that they are for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_options import build, hf_vlm

import rsvlm
from rsvlm import checkpoints
from rsvlm.checkpoints.merge_lora import merged
from rsvlm.cli import export as tool
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, Turn
from rsvlm.data.transforms import to_pil
from rsvlm.encoders.language import LanguageModel
from rsvlm.encoders.tokenizers import words_of
from rsvlm.errors import UserError
from rsvlm.export.formats import export

CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
WORDS = words_of(
    [
        "A chat between a curious user and an artificial intelligence assistant The gives",
        "helpful detailed polite answers to the user's questions USER ASSISTANT tank two how many",
    ]
)
ARCH = {"image_size": 56, "patch_size": 14, "width": 32, "layers": 3, "heads": 4, "mlp_ratio": 2.0}
QUESTION = "how many tank ?"


def scrambled(model, seed=5):
    """Weights that make a difference, LoRA's B included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                draw = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(0.1 * draw if "lora" in name else 0.3 * draw)
    return model.eval()


def tiny(tuning="lora", **options):
    lm = {"size": "tiny", "words": WORDS, "tuning": tuning, **options.pop("lm", {})}
    lm["lora"] = {"r": 4, "alpha": 16, "targets": ["q_proj", "down_proj"], "dropout": 0.1}
    return scrambled(llava(lm=lm, generation={"max_new_tokens": 8}, **options))


def llava(**options):
    vision = {"arch": ARCH, "image_size": None}
    return build("llava", vision=vision, tuning=None, packing="none", **options)


def picture(high, wide):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, high, wide), generator=generator, dtype=torch.uint8)


def asked(model, image, *, training=False):
    turns = [Turn("user", QUESTION, (0,)), Turn("assistant", "two tank")]
    view = TransformedDataset([Sample([image], turns=turns)], model.preprocess, training=False)
    return model.collate(training=training)([view[0, 0]])


@pytest.mark.parametrize("resize", ["pad", "crop", "squash"])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_transformers_loads_a_llava_and_answers_alike(tmp_path, resize, tuning, caplog):
    from transformers import AutoImageProcessor, AutoProcessor, LlavaForConditionalGeneration

    pytest.importorskip("peft")
    model = tiny(tuning, resize=resize)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    written = export(model, "llava_hf", tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not caplog.text
    theirs, info = LlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    processor = AutoProcessor.from_pretrained(tmp_path)
    processor.image_processor = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    # All three resize alike where nothing is to be padded or cut; transformers' crop rounds a
    # margin that does not divide by two otherwise.
    image = picture(80, 60) if resize != "squash" else picture(56, 70)
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(
        text=[prompt], images=[to_pil(image)], return_tensors="pt", add_special_tokens=False
    )
    batch = asked(model, image)
    image_id = theirs.config.image_token_id
    assert torch.equal(
        inputs["input_ids"], batch.input_ids.masked_fill(batch.input_ids == -200, image_id)
    )
    pixels = batch.images.float().div(255).sub(model.vision.image_mean)
    torch.testing.assert_close(inputs["pixel_values"], pixels.div(model.vision.image_std), **CLOSE)
    answer = model.generate(batch, max_new_tokens=8)[0]
    with torch.no_grad():
        logits = theirs.eval()(**inputs).logits[0, -1]
        new = theirs.generate(**inputs, max_new_tokens=8, do_sample=False)
    ids = new[0, inputs["input_ids"].shape[1] :]
    assert answer.text == processor.tokenizer.decode(ids, skip_special_tokens=True).strip()
    learnt = asked(model, image, training=True)
    with torch.no_grad():
        ours = model(learnt)["logits"][0]  # the first answer's word, behind the same prompt
    torch.testing.assert_close(logits[: len(ours)], ours, **CLOSE)
    assert len(logits) == len(ours) + 1 and logits.argmax() < len(ours)


def test_an_exported_llava_is_a_model_of_transformers_for_us_too(tmp_path):
    model = tiny("full", resize="pad")
    export(model, "llava_hf", tmp_path)
    again = hf_vlm(lm={"weights": tmp_path, "tuning": "frozen"}).eval()
    image = picture(40, 80)
    first, second = asked(model, image), asked(again, image)
    assert first.geometry == second.geometry
    (one,) = model.generate(first, max_new_tokens=8)
    (two,) = again.generate(second, max_new_tokens=8)
    # Measured: 1.3e-4; pixels are normalised in another order, which these large weights multiply.
    assert one.text == two.text and one.score == pytest.approx(two.score, abs=1e-3)


def test_lora_folds_into_the_weights():
    pytest.importorskip("peft")
    model = tiny("lora")
    plain = tiny("frozen")
    plain.load_state_dict(merged(model))
    batch = asked(model, picture(56, 56), training=True)
    with torch.no_grad():
        torch.testing.assert_close(plain(batch)["logits"], model(batch)["logits"], **CLOSE)
    with pytest.raises(UserError, match=r"experts .* choose by what they read"):
        merged(tiny("moe_lora"))


@pytest.mark.parametrize("targets", [["q_proj", "down_proj"], ["k_proj"]])
def test_peft_loads_the_adapter_of_a_language_model(tmp_path, targets, caplog):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = LanguageModel("tiny", words=WORDS)
    base.model.save_pretrained(tmp_path / "base")
    base.tokenizer.save_pretrained(tmp_path / "base")
    lm = {"size": None, "words": None, "weights": tmp_path / "base"}
    model = llava(
        lm={**lm, "tuning": "lora", "lora": {"r": 4, "alpha": 16, "targets": targets}},
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    written = export(model, "peft", tmp_path / "adapter")
    assert {path.name for path in written} == {p.name for p in (tmp_path / "adapter").iterdir()}
    assert "bridge.layers.0.weight" in caplog.text  # trained, and no part of an adapter
    theirs = peft.PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    ).eval()
    assert theirs.peft_config["default"].base_model_name_or_path == str(tmp_path / "base")
    ids = torch.arange(4, 20)[None]
    mask = torch.ones_like(ids)
    with torch.no_grad():
        ours = model.eval().lm(model.lm.embed(ids), mask, ids)["logits"]
        torch.testing.assert_close(theirs(input_ids=ids).logits[0, :-1], ours, **CLOSE)
        bare = base.eval()(base.embed(ids), mask, ids)["logits"]
    assert not torch.allclose(ours, bare, atol=1e-2)
    # And back: an adapter's file over the same base.
    again = llava(lm={**lm, "tuning": "lora", "lora": {"r": 4, "alpha": 16,
                  "targets": targets}})  # fmt: skip
    checkpoints.load(again, written[1], towers=["vision", "bridge", "lm"])
    same = again.lm.model.state_dict()
    assert all(torch.equal(v, same[n]) for n, v in model.lm.model.state_dict().items())


def test_peft_loads_the_adapter_of_an_image_text_model(tmp_path):
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForImageTextToText

    # CLIP's tower has layers of the same names, which are not tuned.
    base = hf_vlm(lm={"size": "tiny_llava", "words": "world", "tuning": "frozen"})
    base.lm.model.save_pretrained(tmp_path / "base")
    base.lm.processor.save_pretrained(tmp_path / "base")
    model = hf_vlm(lm={"weights": tmp_path / "base", "lora": {"r": 4, "targets": ["q_proj"]}})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    export(model, "peft", tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(tmp_path / "base"), tmp_path / "adapter"
    ).eval()
    batch = asked(model, picture(56, 56), training=True)
    where = batch.labels[:, 1:] != -100
    with torch.no_grad():
        logits = theirs(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, **batch.inputs
        ).logits[:, :-1][where]
        torch.testing.assert_close(logits, model.eval()(batch)["logits"], **CLOSE)


@pytest.mark.parametrize("tuning", ["lora", "full"])
@pytest.mark.parametrize("size", ["tiny_llava", "tiny_qwen2_5_vl"])
def test_a_tuned_model_of_transformers_is_a_folder_again(tmp_path, tuning, size):
    from transformers import AutoModelForImageTextToText

    pytest.importorskip("peft")
    lm = {"size": size, "words": "world", "tuning": tuning, "lora": {"r": 4}}
    model = scrambled(hf_vlm(lm=lm))
    written = export(model, "transformers", tmp_path)
    assert {path.name for path in written} == {path.name for path in tmp_path.iterdir()}
    _, info = AutoModelForImageTextToText.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    again = hf_vlm(lm={"weights": tmp_path, "tuning": "frozen"}).eval()
    batch = asked(model, picture(40, 56), training=True)
    with torch.no_grad():
        # Measured: 2.3e-5 of logits up to 9.4; LoRA is added to the weights, not to what they give.
        torch.testing.assert_close(again(batch)["logits"], model(batch)["logits"], **CLOSE)
    same = asked(again, picture(40, 56), training=True)
    assert torch.equal(same.input_ids, batch.input_ids)


def finder(seed):
    torch.manual_seed(seed)
    sizes = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "heads": 4}
    return build(
        "rscapret",
        vision={"arch": {**sizes, "embed_dim": 16}, "activation": "gelu", "weights": None},
        lm={"size": "tiny_opt", "words": WORDS},
        shared_dim=16,
    )


def test_an_rscapret_goes_through_fromages_layout(tmp_path):
    model = finder(0)
    (path,) = export(model, "fromage", tmp_path)
    again = finder(1)
    # CLIP's projection is used by neither.
    checkpoints.load(again, path, towers=["proj"])
    again.vision.tower.load_state_dict({**again.vision.tower.state_dict(),
                                        "proj": model.vision.tower.proj})  # fmt: skip
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.state_dict().items())
    # Towers with files of their own stay out, as FROMAGe prunes them.
    model.vision.weights, model.lm.weights = "clip.pt", "opt"
    (path,) = export(model, "fromage", tmp_path)
    names = set(torch.load(path, weights_only=True)["state_dict"])
    keys = (Path(__file__).parents[1] / "keys" / "fromage.txt").read_text().split("\n")
    published = {line.split()[0] for line in keys if line and not line.startswith("#")}
    assert names <= published and {"ret_input_embeddings.weight", "model.logit_scale"} <= names
    pruned = finder(1)
    report = checkpoints.load(pruned, path, towers=["vision", "lm"])
    assert report.loaded == len(names)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_skyeyegpt_goes_through_minigpts_layout(tmp_path, tuning):
    pytest.importorskip("peft")

    def made(seed):
        torch.manual_seed(seed)
        return build(
            "skyeyegpt",
            tuning=None,
            vision={"image_size": 56, "dim": 32, "depth": 2, "heads": 4, "mlp_ratio": 2.0},
            lm={"size": "tiny", "words": WORDS, "tuning": tuning, "lora": {"r": 4}},
        )

    model, again = scrambled(made(0)), made(1)
    (path,) = export(model, "minigptv2", tmp_path)
    checkpoints.load(again, path)
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in model.state_dict().items())
    names = set(torch.load(path, weights_only=True)["model"])
    assert "llama_proj.weight" in names
    lora = "llama_model.base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    assert (lora in names) is (tuning == "lora")


def saved_run(model, path, node):
    torch.save(checkpoints.pack(model, {"model": node}), path)


def test_the_command_takes_a_runs_checkpoint(tmp_path, capsys, compose):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    cfg = compose("train", ["model=llava_tiny", "model.tuning=lora"])
    torch.manual_seed(0)
    model = scrambled(instantiate(cfg.model))
    saved_run(model, tmp_path / "last.ckpt", OmegaConf.to_container(cfg.model, resolve=True))
    restored = rsvlm.load(tmp_path / "last.ckpt")
    assert all(torch.equal(v, restored.state_dict()[n]) for n, v in model.state_dict().items())
    tool.main(
        ["--ckpt", f"{tmp_path}/last.ckpt", "--to", "llava_hf", "--out", f"{tmp_path}/folder"]
    )
    printed = capsys.readouterr().out.split()
    assert f"{tmp_path}/folder/model.safetensors" in printed
    again = hf_vlm(lm={"weights": tmp_path / "folder", "tuning": "frozen"}).eval()
    image = picture(56, 56)
    (one,) = model.generate(asked(model, image), max_new_tokens=8)
    (two,) = again.generate(asked(again, image), max_new_tokens=8)
    assert one.text == two.text


def test_bad_input_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="takes a LLaVA, not a HFVLM"):
        export(hf_vlm(lm={"size": "tiny_llava"}), "llava_hf", tmp_path)
    with pytest.raises(UserError, match=r"takes a CLIP, not a LLaVA: choose llava_hf"):
        export(tiny("full"), "open_clip", tmp_path)
    with pytest.raises(UserError, match=r"it was not trained with model\.tuning=lora"):
        export(tiny("full"), "peft", tmp_path)
    with pytest.raises(UserError, match=r"not a LLaVA; a LLaVA goes to llava_hf"):
        export(tiny("full"), "transformers", tmp_path)
    with pytest.raises(UserError, match="takes an RS-CapRet, not a LLaVA"):
        export(tiny("full"), "fromage", tmp_path)
    with pytest.raises(UserError, match="takes a SkyEyeGPT, not a LLaVA"):
        export(tiny("full"), "minigptv2", tmp_path)
    with pytest.raises(UserError, match="two linear layers, this one has 3"):
        export(tiny("full", bridge={"depth": 3}), "llava_hf", tmp_path)
    with pytest.raises(UserError, match="experts"):
        export(tiny("moe_lora"), "llava_hf", tmp_path)
    with pytest.raises(UserError, match="no tokenizer"):
        export(tiny("full", lm={"words": None}), "llava_hf", tmp_path)
    with pytest.raises(UserError, match=r"there is no export to 'llava-hf'.*Did you mean llava_hf"):
        export(tiny("full"), "llava-hf", tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".safetensors"]
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"does not say which model it is: name it, model="):
        rsvlm.load(tmp_path / "a.pt")
