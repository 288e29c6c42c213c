"""EVA-ViT: its sizes, its file, frozen parts, cached features, positions of another image size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from golden_case import read_case

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.encoders.eva import EvaViT
from rsvlm.errors import UserError

GOLDEN = os.environ.get("RSVLM_GOLDEN")
MINIGPT = Path(GOLDEN or "") / "minigptv2"
TINY = {"image_size": 28, "patch_size": 14, "dim": 32, "depth": 3, "heads": 4}


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    return EvaViT(**(TINY | changes)).eval()


def pictures(count=2, side=28):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)


def test_full_size_is_the_published_one():
    model = EvaViT(device="meta")
    assert sum(p.numel() for p in model.parameters()) == 985_894_528
    assert model.tokens == 257 and model.dim == 1408 and len(model.blocks) == 39
    assert model.blocks[0].mlp.fc1.out_features == 6144
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-6}
    model.freeze(train_last=2)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 50_497_536
    assert model.frozen_blocks == 37


def test_uint8_is_normalised_as_floats_are():
    model, images = tiny(), pictures()
    scaled = (images.float() / 255 - model.image_mean) / model.image_std
    with torch.no_grad():
        torch.testing.assert_close(model(images), model(scaled))
    assert model(images).shape == (2, 5, 32)


def test_cached_features_give_the_same_output():
    model, images = tiny(), pictures()
    model.freeze(train_last=1)
    with torch.no_grad():
        whole = model(images)
        for block in range(4):
            kept = model.features_to(images, block)
            assert torch.equal(model.from_features(kept, block), whole)


def test_only_the_last_blocks_get_gradients():
    model = tiny()
    model.freeze(train_last=1)
    output = model(pictures())
    output.sum().backward()
    assert not model.features_to(pictures(), 2).requires_grad
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("blocks.2."), name
    model.requires_grad_(True)
    assert model.frozen_blocks == 0
    model(pictures()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_its_file_loads_and_the_last_published_block_is_dropped(tmp_path, device):
    longer, model = tiny(seed=1, depth=4), EvaViT(**TINY, device=device)
    state = revert(longer.state_dict(), longer.dialects[0])
    assert state["blocks.3.attn.q_bias"].shape == (32,)
    state |= {"norm.weight": torch.ones(32), "head.weight": torch.ones(2, 32)}
    torch.save(state, tmp_path / "eva_vit_g.pth")
    report = checkpoints.load(model, tmp_path / "eva_vit_g.pth")
    assert report.loaded == report.total and report.dialect == "eva_vit_g"
    assert len(report.dropped) == 13 + 2
    images = pictures()
    with torch.no_grad():
        expected = longer.features_to(images, 3)
        assert torch.equal(model.eval()(images), expected)
        assert torch.equal(model.to("cpu")(images), expected)


@pytest.mark.parity("minigptv2")
def test_minigptv2_positions_and_tokens_at_another_image_size(tmp_path):
    case = read_case(MINIGPT)
    config = case.spec["config"]
    model = EvaViT(
        image_size=config["img_size"],
        patch_size=config["patch_size"],
        dim=config["embed_dim"],
        depth=config["depth"],
        heads=config["num_heads"],
        mlp_ratio=config["mlp_ratio"],
    ).eval()
    head = "visual_encoder."
    state = {n.removeprefix(head): v for n, v in case.state().items() if n.startswith(head)}
    torch.save(state, tmp_path / "eva.pth")
    with pytest.raises(UserError, match=r"made for images of 56 px.*interpolate=True"):
        checkpoints.load(model, tmp_path / "eva.pth")
    report = checkpoints.load(model, tmp_path / "eva.pth", interpolate=True)
    assert "pos_embed resized from 17 to 65 positions" in str(report)
    close = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
    torch.testing.assert_close(model.pos_embed.data, case.tensors["pos_embed"], **close)
    with torch.no_grad():
        tokens = model(case.inputs()["input.image"])
    torch.testing.assert_close(tokens, case.tensors["vision_raw"], **close)


def test_rounding_to_half_keeps_what_lavis_keeps_in_float32():
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-5)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.round_to_half()
    for name, parameter in model.named_parameters():
        changed = not torch.equal(parameter, before[name])
        linear = not any(word in name for word in ("norm", "q_bias", "v_bias", "cls", "pos_"))
        assert changed == linear, name
        assert parameter.dtype == torch.float32


def test_rounding_is_done_when_the_towers_own_file_is_loaded(tmp_path):
    source = tiny(seed=1)
    torch.save(revert(source.state_dict(), source.dialects[0]), tmp_path / "eva_vit_g.pth")
    for rounded in (False, True):
        model = tiny(half_rounded=rounded)
        report = checkpoints.load(model, tmp_path / "eva_vit_g.pth")
        same = torch.equal(model.patch_embed.weight, source.patch_embed.weight)
        assert same != rounded and ("rounded to float16" in str(report)) == rounded


def test_bad_sizes_say_what_to_do():
    with pytest.raises(UserError, match="not a multiple of patch_size=14"):
        EvaViT(image_size=30)
    with pytest.raises(UserError, match="not divisible by heads=3"):
        EvaViT(**(TINY | {"heads": 3}))
    with pytest.raises(UserError, match=r"28 x 28 pixels, got 42 x 42"):
        tiny()(pictures(side=42))
    with pytest.raises(UserError, match="has 3 blocks"):
        tiny().freeze(train_last=4)
