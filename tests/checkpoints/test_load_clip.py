"""From a file of open_clip, transformers, ITRA or ours to the same features."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from rsvlm import checkpoints
from rsvlm.errors import UserError

# Measured: at most 1e-6 off; fused attention and split projections sum in another order.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def features_equal(model, reference, images, ids) -> None:
    with torch.no_grad():
        torch.testing.assert_close(
            model.encode_image(images), reference.encode_image(images), **CLOSE
        )
        torch.testing.assert_close(model.encode_text(ids), reference.encode_text(ids), **CLOSE)
    torch.testing.assert_close(model.logit_scale, reference.logit_scale)


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("kind", "activation"),
    [("vit", "gelu"), ("vit", "quick_gelu"), ("resnet", "quick_gelu"), ("resnet", "gelu")],
)
def test_open_clip_file_gives_open_clip_features(
    reference, ours, inputs, tmp_path, kind, activation, device
):
    theirs = reference(kind, activation)
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    model = ours(kind, activation, device)
    report = checkpoints.load(model, tmp_path / "a.pt")
    assert report.dialect == "open_clip" and model.activation == activation
    assert report.loaded == report.total == len(model.state_dict())
    assert str(report).startswith(f"loaded {report.total}/{report.total} tensors from ")
    assert "\n" not in str(report)
    features_equal(model, theirs, *inputs(64 if kind == "resnet" else 32))


def test_the_other_activation_gives_other_features(reference, ours, inputs, tmp_path):
    """The trap that the rules about activations are there for: nothing else would show it."""
    theirs = reference("vit", "quick_gelu")
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    model = ours("vit", "gelu")
    checkpoints.load(model, tmp_path / "a.pt")
    images, _ = inputs(32)
    with torch.no_grad():
        assert not torch.allclose(model.encode_image(images), theirs.encode_image(images), **CLOSE)


def training_checkpoint(state):
    parameters = list(state.values())
    optimizer = torch.optim.AdamW([torch.nn.Parameter(p.clone()) for p in parameters[:2]])
    wrapped = {f"module.{name}": value for name, value in state.items()}
    return {
        "epoch": 20,
        "name": "x",
        "state_dict": wrapped,
        "optimizer": optimizer.state_dict(),
        "scaler": {"scale": 65536.0},
    }


def test_training_checkpoint_bare_and_in_a_zip(reference, ours, inputs, tmp_path):
    theirs = reference("vit", "gelu")
    torch.save(training_checkpoint(theirs.state_dict()), tmp_path / "epoch_20.pt")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(tmp_path / "epoch_20.pt", "SomeName/epoch_20.pt")
        file.writestr("__MACOSX/SomeName/._epoch_20.pt", b"junk")
    for name in ("epoch_20.pt", "a.zip"):
        model = ours("vit", "gelu")
        checkpoints.load(model, tmp_path / name)
        features_equal(model, theirs, *inputs(32))


def test_half_precision_and_compiled_names(reference, ours, tmp_path):
    theirs = reference()
    state = {f"_orig_mod.module.{k}": v.half() for k, v in theirs.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    model = ours("vit", "gelu", "meta")
    checkpoints.load(model, tmp_path / "a.safetensors")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    # Half precision keeps eleven bits.
    torch.testing.assert_close(
        model.text.token_embedding.weight, theirs.token_embedding.weight, atol=1e-3, rtol=1e-3
    )


def test_state_dict_of_an_openai_archive(reference, ours, inputs, tmp_path):
    theirs = reference("resnet", "quick_gelu")
    extra = {n: torch.tensor(1) for n in ("input_resolution", "context_length", "vocab_size")}
    torch.save({**theirs.state_dict(), **extra}, tmp_path / "a.pt")
    model = ours("resnet", "quick_gelu")
    report = checkpoints.load(model, tmp_path / "a.pt")
    assert sorted(report.dropped) == sorted(extra)
    features_equal(model, theirs, *inputs(64))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_itra_layout(reference, ours, inputs, tmp_path, kind):
    theirs = reference(kind, "quick_gelu")
    state = {}
    for name, value in theirs.state_dict().items():
        if name.startswith("visual."):
            state["image_backbone." + name.removeprefix("visual.")] = value
        else:
            state[name if name == "logit_scale" else "text_backbone." + name] = value
    # ITRA's temperature is a vector of one.
    state["logit_scale"] = state["logit_scale"].reshape(1)
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "a.pt")
    model = ours(kind, "quick_gelu")
    assert checkpoints.load(model, tmp_path / "a.pt").dialect == "itra"
    features_equal(model, theirs, *inputs(64 if kind == "resnet" else 32))


@pytest.fixture
def hf_clip(scramble):
    transformers = pytest.importorskip("transformers")
    shared = {"projection_dim": 24, "bos_token_id": 98, "eos_token_id": 99, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config={
            **shared,
            "hidden_size": 16,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 100,
            "max_position_embeddings": 12,
            "hidden_act": "gelu",
        },
        vision_config={
            "projection_dim": 24,
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "hidden_act": "gelu",
        },
    )
    return scramble(transformers.CLIPModel(config))


def test_hugging_face_folder(hf_clip, ours, inputs, tmp_path):
    hf_clip.save_pretrained(tmp_path)
    model = ours("vit")
    report = checkpoints.load(model, tmp_path)
    assert report.dialect == "hf_clip" and model.activation == "gelu"  # from config.json
    images, ids = inputs(32)
    with torch.no_grad():
        out = hf_clip(input_ids=ids, pixel_values=images)
    unit = model.encode_image(images, normalize=True), model.encode_text(ids, normalize=True)
    torch.testing.assert_close(unit[0], out.image_embeds, **CLOSE)
    torch.testing.assert_close(unit[1], out.text_embeds, **CLOSE)

    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["hidden_act"] = "quick_gelu"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"text_config\.hidden_act.* says quick_gelu"):
        checkpoints.load(ours("vit"), tmp_path)


def test_hugging_face_folder_of_parts(hf_clip, ours, tmp_path):
    hf_clip.save_pretrained(tmp_path, max_shard_size="30KB")
    parts = sorted(tmp_path.glob("model-*-of-*.safetensors"))
    assert len(parts) > 2
    one, two, three = ours("vit", "gelu"), ours("vit", "gelu"), ours("vit", "gelu")
    checkpoints.load(one, tmp_path)
    checkpoints.load(three, parts[1])  # one part stands for all
    index = tmp_path / "model.safetensors.index.json"
    text = index.read_text()
    index.unlink()
    checkpoints.load(two, tmp_path)
    for name, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[name])
        assert torch.equal(value, three.state_dict()[name])

    parts[0].unlink()
    with pytest.raises(UserError, match=f"holds {len(parts) - 1} of {len(parts)} parts"):
        checkpoints.load(ours("vit"), tmp_path)
    index.write_text(text)
    with pytest.raises(UserError, match=f"lacks 1 of the {len(parts)} parts.*{parts[0].name}"):
        checkpoints.load(ours("vit"), tmp_path)


def test_one_tower_of_a_clip(reference, ours, inputs, tmp_path):
    theirs = reference("vit", "gelu")
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    tower = ours("vit", "gelu").visual
    report = checkpoints.load(tower, tmp_path / "a.pt", part="visual")
    assert report.loaded == len(tower.state_dict())
    images, _ = inputs(32)
    torch.testing.assert_close(tower(images), theirs.encode_image(images), **CLOSE)


def test_other_image_size_is_an_error_unless_interpolation_is_asked_for(
    reference, ours, inputs, tmp_path
):
    theirs, wanted = reference("vit", "gelu"), reference("vit48", "gelu")
    torch.save(theirs.state_dict(), tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"4 x 4 patches.*6 x 6.*model\.image_size=32"):
        checkpoints.load(ours("vit48", "gelu"), tmp_path / "a.pt")
    model = ours("vit48", "gelu")
    report = checkpoints.load(model, tmp_path / "a.pt", interpolate=True)
    assert "resized from 17 to 37" in str(report)
    from open_clip.factory import load_checkpoint

    load_checkpoint(wanted, str(tmp_path / "a.pt"))
    features_equal(model, wanted, *inputs(48))


def test_loading_lets_go_of_the_file(reference, ours, tmp_path):
    """The file is mapped into memory while it is read; a later overwrite must change nothing."""
    path = tmp_path / "a.pt"
    torch.save(reference().state_dict(), path)
    model = ours("vit", "gelu", "meta")
    checkpoints.load(model, path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    path.write_bytes(b"\0" * path.stat().st_size)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-32-quickgelu", "RN50-quickgelu"])
def test_full_size(scratch: Path, scramble, name: str):
    import open_clip

    from rsvlm.encoders.clip.model import clip

    theirs = scramble(open_clip.create_model(name))
    torch.save(theirs.state_dict(), scratch / "a.pt")
    activation = "quick_gelu" if "quick" in name else "gelu"
    model = clip(name.removesuffix("-quickgelu"), activation=activation, device="meta").eval()
    checkpoints.load(model, scratch / "a.pt")
    images, ids = torch.randn(2, 3, 224, 224), open_clip.tokenize(["an airport", "two bridges"])
    with torch.no_grad():
        ours_image = model.encode_image(images, normalize=True)
        theirs_image = theirs.encode_image(images, normalize=True)
        ours_text = model.encode_text(ids, normalize=True)
        theirs_text = theirs.encode_text(ids, normalize=True)
    torch.testing.assert_close(ours_image, theirs_image, **CLOSE)
    torch.testing.assert_close(ours_text, theirs_text, **CLOSE)
