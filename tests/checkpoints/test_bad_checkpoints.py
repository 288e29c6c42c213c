"""Bad input: each case is one clear message that says what to do, and the model is unchanged."""

from __future__ import annotations

import fractions
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from rsvlm import checkpoints
from rsvlm.checkpoints.read import read
from rsvlm.errors import UserError


@pytest.fixture
def refused(ours):
    """`refused(path, match, ...)`: loading is an error of that text and changes nothing."""

    def check(path: Path | str, match: str, model: nn.Module | None = None, **options) -> str:
        model = model if model is not None else ours("vit", options.pop("activation", "gelu"))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(UserError, match=match) as error:
            checkpoints.load(model, path, **options)
        for name, value in model.state_dict().items():
            assert torch.equal(value, before[name])
        return str(error.value)

    return check


@pytest.fixture
def saved(reference, tmp_path):
    path = tmp_path / "a.pt"
    torch.save(reference().state_dict(), path)
    return path


# Files that are not what they should be


def test_truncated(saved, refused, tmp_path):
    whole = saved.read_bytes()
    for share in (0.3, 0.9, 0.999):
        saved.write_bytes(whole[: int(share * len(whole))])
        refused(saved, r"a\.pt is (damaged or )?cut short")
    inner = tmp_path / "inner.pt"
    inner.write_bytes(whole[: len(whole) // 2])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.write(inner, "name/epoch_20.pt")
    text = refused(tmp_path / "b.zip", r"b\.zip!name/epoch_20\.pt is (damaged or )?cut short")
    assert "/rsvlm-" not in text  # the temporary folder is nobody's business


def test_truncated_safetensors(reference, refused, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_file(reference().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "damaged or cut short")


def test_truncated_old_format(reference, refused, tmp_path):
    path = tmp_path / "a.pt"
    torch.save(reference().state_dict(), path, _use_new_zipfile_serialization=False)
    read(path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "damaged or cut short")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Not found</html>", "web page.*/resolve/"),
        (b"\n <html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "git lfs pull"),
        (b"GGUF\x03\x00\x00\x00 and more", "no checkpoint that can be read"),
        (b"{'a': 1}", "no checkpoint that can be read"),
    ],
)
def test_something_else_in_the_place_of_a_file(refused, tmp_path, content, match):
    (tmp_path / "a.pt").write_bytes(content)
    refused(tmp_path / "a.pt", match)


def test_zip_without_or_with_several_checkpoints(saved, refused, tmp_path):
    for count in (0, 2):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("readme.txt", "x")
            for i in range(count):
                file.write(saved, f"epoch_{i}.pt")
        refused(tmp_path / "a.zip", f"{count} checkpoints in it")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_archive(refused, tmp_path):
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(tmp_path / "ViT-B-32.pt"))
    refused(tmp_path / "ViT-B-32.pt", r"TorchScript archive.*zoo:clip_vitb32\.openai")


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_that_runs_code(reference, refused, tmp_path, zipped):
    target = tmp_path / "ran"
    content = {"state_dict": reference().state_dict(), "extra": Bomb(target)}
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    refused(tmp_path / "a.pt", r"nothing of it was run: .*(Path|getattr)(.|\n)*pickled=True")
    assert not target.exists()


def test_pickle_with_a_harmless_class_names_it(refused, tmp_path):
    torch.save({"args": fractions.Fraction(1, 3), "w": torch.ones(1)}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", r"fractions\.Fraction")


def test_no_tensors(refused, tmp_path):
    torch.save({"epoch": 3, "state_dict": {}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "no tensors.*epoch, state_dict")
    torch.save(torch.ones(3), tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "one tensor without a name")
    torch.save([1, 2], tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "holds a list")


def test_missing_file_and_empty_folder(refused, tmp_path):
    refused(tmp_path / "nothing.pt", "no file or folder")
    (tmp_path / "run").mkdir()
    refused(tmp_path / "run", "no weights, only nothing")


# Files of another model


def test_half_a_checkpoint_names_what_is_missing(reference, refused, tmp_path):
    state = reference().state_dict()
    half = {k: v for k, v in state.items() if "resblocks.2" not in k and k != "ln_final.weight"}
    torch.save(half, tmp_path / "half.pt")
    text = refused(tmp_path / "half.pt", "17 of the model's .* tensors are missing")
    assert "visual.blocks.2.* (16 tensors, such as visual.blocks.2.ln_1.weight)" in text
    assert "text.ln_final.weight" in text
    assert "visual.transformer.resblocks.2.* (12 tensors" in text  # as the file calls them
    few = {k: v for k, v in state.items() if "1.attn.in_proj_b" not in k}
    torch.save(few, tmp_path / "few.pt")
    text = refused(tmp_path / "few.pt", "6 of the model's")
    assert "visual.blocks.1.attn.q_proj.bias" in text
    assert "visual.transformer.resblocks.1.attn.in_proj_bias" in text
    assert "init_new=[text,visual]" in text
    images = {k: v for k, v in state.items() if k.startswith("visual.")}
    torch.save(images, tmp_path / "images.pt")
    text = refused(tmp_path / "images.pt", "are missing")
    assert "text.token_embedding.weight" in text and "init_new=[logit_scale,text]" in text


def test_unknown_names_come_with_the_nearest_known_ones(reference, refused, tmp_path):
    state = reference().state_dict()
    state["visual.transformer.resblocks.1.attn.in_proj_wieght"] = torch.zeros(3)
    state["totally.else"] = torch.zeros(3)
    torch.save(state, tmp_path / "a.pt")
    text = refused(tmp_path / "a.pt", "2 of .* names are unknown in the open_clip layout")
    assert "(near: visual.transformer.resblocks.1.attn.in_proj_weight" in text
    assert "totally.else  (nothing near it)" in text


def test_another_architecture_says_which_it_looks_like(refused, tmp_path):
    """With the real sizes: only shapes matter, so the tensors are views of one number."""
    from rsvlm.encoders.clip.model import clip

    other = clip("ViT-L-14-336", device="meta").state_dict()
    torch.save({k: torch.zeros(()).expand(v.shape) for k, v in other.items()}, tmp_path / "a.pt")
    model = clip("ViT-B-32", activation="quick_gelu", device="meta")
    with pytest.raises(UserError) as error:
        checkpoints.load(model, tmp_path / "a.pt")
    text = str(error.value)
    assert "It looks like ViT-L-14-336 (width 1024, patch 14, 24 layers, embedding 768" in text
    assert "the model is ViT-B-32. Use model=clip_vitl14_336 (or georsclip_vitl14_336)" in text
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_resnet_for_a_vit_and_back(reference, ours, refused, tmp_path):
    torch.save(reference("resnet").state_dict(), tmp_path / "rn.pt")
    refused(tmp_path / "rn.pt", r"a ResNet of stages \(1, 2, 1, 1\), width 16")
    torch.save(reference().state_dict(), tmp_path / "vit.pt")
    model = ours("resnet", "gelu")
    refused(tmp_path / "vit.pt", "none of the known ones .width 32, patch 8, 3 layers", model)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["query_tokens", "Qformer.bert.encoder.layer.0.attention.self.query.weight"], "BLIP-2"),
        (["image_encoder.pos_embed", "mask_decoder.iou_token.weight"], "Segment Anything"),
        (["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"], "LLaMA"),
        (["model.mm_projector.0.weight", "model.layers.0.self_attn.q_proj.weight"], "LLaVA"),
        (["cls_token", "blocks.0.attn.qkv.weight"], "DINO, MAE or timm"),
        (["base_model.model.q.lora_A.weight"], "PEFT"),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.weight"], "a ResNet"),
        (["vision_model.embeddings.patch_embedding.weight"], "SigLIP"),
        (["text.transformer.resblocks.0.ln_1.weight"], "CustomTextCLIP"),
        (["logit_scale", *(f"x.{i}" for i in range(40))], "none that is known"),
        (["something.odd"], "none that is known"),
    ],
)
def test_another_family_says_which_it_looks_like(refused, tmp_path, names, family):
    torch.save({name: torch.zeros(2) for name in names}, tmp_path / "a.pt")
    text = refused(tmp_path / "a.pt", f"It looks like .*{family}")
    assert "native, itra, open_clip, hf_clip" in text and names[0] in text


# Activations


def test_nothing_says_the_activation(saved, refused):
    text = refused(saved, "nothing says", activation=None)
    for word in ("quick_gelu", "gelu"):
        assert f"ckpt={saved} model.activation={word} " in text


@pytest.mark.parametrize("name", ["RS5M_ViT-B-32.pt", "SkyCLIP_ViT_B32_top50pct/epoch_20.pt"])
def test_activations_that_disagree(saved, ours, refused, name, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    saved.rename(path)
    right = "quick_gelu" if "RS5M" in name else "gelu"
    wrong = "gelu" if "RS5M" in name else "quick_gelu"
    model = ours("vit", wrong)
    model.arch = "ViT-B-32"
    text = refused(path, f"says {right}, model.activation says {wrong}", model)
    assert f"ckpt={path} model.activation={right}" in text
    assert f"model.activation={wrong}" in text
    for same in (right, None):
        model = ours("vit", same)
        model.arch = "ViT-B-32"
        checkpoints.load(model, path)
        assert model.activation == right


# Parts


def test_new_parts_stay_fresh_and_must_exist(reference, ours, refused, tmp_path):
    state = reference().state_dict()
    visual = {k: v for k, v in state.items() if k.startswith("visual.") or k == "logit_scale"}
    torch.save(visual, tmp_path / "a.pt")
    model = ours("vit", "gelu")
    before = model.text.token_embedding.weight.clone()
    report = checkpoints.load(model, tmp_path / "a.pt", new=["text"])
    assert torch.equal(model.text.token_embedding.weight, before)
    assert torch.equal(model.visual.proj, state["visual.proj"])
    assert set(report.fresh) == {n for n in model.state_dict() if n.startswith("text.")}
    assert "start fresh" in str(report)
    report = checkpoints.load(ours("vit", "gelu"), tmp_path / "a.pt", towers=["text"])
    assert len(report.towers) == len(report.missing) and "left to towers" in str(report)
    refused(tmp_path / "a.pt", r"init_new: .*'texts'. Did you mean text", new=["texts"])
    refused(tmp_path / "a.pt", "are missing", new=["text.blocks"])
    with pytest.raises(UserError, match="start fresh and have no values on meta"):
        checkpoints.load(ours("vit", "gelu", "meta"), tmp_path / "a.pt", new=["text"])


def test_rows_of_a_grown_vocabulary(reference, ours, tmp_path):
    state = reference().state_dict()
    torch.save(state, tmp_path / "a.pt")
    model = ours("vit", "gelu")
    model.text.token_embedding = nn.Embedding(103, 16)
    fresh = model.text.token_embedding.weight[100:].clone()
    with pytest.raises(UserError, match=r"token_embedding\.weight: \[100, 16\].*\[103, 16\]"):
        checkpoints.load(model, tmp_path / "a.pt")
    report = checkpoints.load(model, tmp_path / "a.pt", new=["text.token_embedding"])
    assert report.loaded == report.total
    assert torch.equal(model.text.token_embedding.weight[:100], state["token_embedding.weight"])
    assert torch.equal(model.text.token_embedding.weight[100:], fresh)


def test_tied_tensors_stay_tied_on_meta(tmp_path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

    torch.save(Tied().state_dict(), tmp_path / "a.pt")
    with torch.device("meta"):
        model = Tied()
    checkpoints.load(model, tmp_path / "a.pt")
    assert model.a.weight is model.b.weight and not model.a.weight.is_meta
    assert isinstance(model.a.weight, nn.Parameter)
