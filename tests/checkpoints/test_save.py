"""Our own checkpoints: what they hold, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rsvlm import checkpoints
from rsvlm.checkpoints.frozen import fingerprint
from rsvlm.errors import UserError

SOURCE = "hf://org/tower@main"


class Bridged(nn.Module):
    """A frozen tower with an adapter inside, and a part that is trained."""

    def __init__(self, seed: int = 0, width: int = 4) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.lm = nn.Sequential(nn.Linear(width, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
        self.lm.add_module("lora", nn.Linear(4, 4))
        self.bridge = nn.Linear(4, 4)
        for name, parameter in self.lm.named_parameters():
            parameter.requires_grad_("lora" in name)


def round_trip(packed, path):
    torch.save(packed, path)
    return torch.load(path, weights_only=True)


def test_a_frozen_tower_with_a_source_is_not_saved(tmp_path):
    model = Bridged()
    packed = round_trip(
        checkpoints.pack(model, {"seed": 0, "lr": [1e-3, None], "a": {"b": "c"}}, {"lm": SOURCE}),
        tmp_path / "a.ckpt",
    )
    kept = set(packed["state_dict"])
    assert {"bridge.weight", "lm.lora.weight", "lm.1.running_mean"} <= kept
    assert not {"lm.0.weight", "lm.1.weight", "lm.2.bias"} & kept
    assert packed["rsvlm"]["config"]["a"] == {"b": "c"}

    other = Bridged()
    nn.init.zeros_(other.bridge.weight)
    checkpoints.unpack(other, packed)
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])

    # From the file, the tower's weights must be announced.
    report = checkpoints.load(Bridged(), tmp_path / "a.ckpt", towers=["lm"])
    assert report.dialect == "native" and len(report.towers) == 6
    with pytest.raises(UserError, match=f"no weights of lm.*{SOURCE}.*model.lm.weights={SOURCE}"):
        checkpoints.load(Bridged(), tmp_path / "a.ckpt")


def test_a_frozen_tower_without_a_source_is_saved_whole(tmp_path):
    model = Bridged()
    for towers in (None, {"lm": None}):
        packed = checkpoints.pack(model, {}, towers)
        assert packed["state_dict"].keys() == model.state_dict().keys()
    torch.save(packed, tmp_path / "a.ckpt")
    other = Bridged(seed=1)
    report = checkpoints.load(other, tmp_path / "a.ckpt")
    assert report.loaded == report.total
    assert torch.equal(other.lm[0].weight, model.lm[0].weight)


def test_another_towers_weights_are_refused(tmp_path):
    model = Bridged()
    packed = checkpoints.pack(model, {}, {"lm": SOURCE})
    torch.save(packed, tmp_path / "a.ckpt")
    other = Bridged()
    with torch.no_grad():
        other.lm[2].weight[1, 2] += 0.1
    before = other.bridge.weight.clone()
    for attempt in (
        lambda: checkpoints.check_packed(other, packed),
        lambda: checkpoints.unpack(other, packed),
        lambda: checkpoints.load(other, tmp_path / "a.ckpt", towers=["lm"]),
    ):
        with pytest.raises(UserError, match=rf"lm\.2\.weight sums to .*weights={SOURCE}"):
            attempt()
    assert torch.equal(other.bridge.weight, before)
    with pytest.raises(UserError, match=r"lm\.0\.weight is \[4, 5\], then \[4, 4\]"):
        checkpoints.check_packed(Bridged(width=5), packed)


def test_fingerprints_do_not_depend_on_precision_or_place():
    model = Bridged()
    names = [name for name, _ in model.named_parameters()]
    exact = fingerprint(model, names)
    assert fingerprint(Bridged().to(torch.bfloat16), names) == exact
    assert fingerprint(Bridged(seed=1), names) != exact
    assert fingerprint(Bridged().to("meta"), names)["sums"] == {}
    packed = checkpoints.pack(model, {}, {"lm": SOURCE})
    checkpoints.check_packed(Bridged().to("meta"), packed)  # as far as shapes can tell


def test_trained_tensors_that_are_missing_are_named():
    model = Bridged()
    packed = checkpoints.pack(model, {}, {"lm": SOURCE})
    del packed["state_dict"]["lm.lora.weight"]
    with pytest.raises(UserError, match=r"missing:\n  lm\.lora\.weight"):
        checkpoints.check_packed(Bridged(), packed)


def test_configurations_are_plain():
    from omegaconf import OmegaConf

    with pytest.raises(UserError, match=r"config\.a\[1\] is a ListConfig.*to_container"):
        checkpoints.pack(Bridged(), {"a": [1, OmegaConf.create([2])]})
    with pytest.raises(UserError, match=r"no part 'llm'"):
        checkpoints.pack(Bridged(), {}, {"llm": SOURCE})


def lightning(packed):
    """As the trainer writes it: the model under `model.`, beside it what the task keeps."""
    state = {f"model.{name}": value for name, value in packed["state_dict"].items()}
    return {
        "epoch": 1,
        "global_step": 2,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {**state, "loss.scale": torch.ones(())},
        "optimizer_states": [],
        "rsvlm": packed["rsvlm"],
    }


def test_a_clip_carries_its_activation(ours, inputs, tmp_path):
    model = ours("vit", "quick_gelu")
    torch.save(lightning(checkpoints.pack(model, {"seed": 0})), tmp_path / "last.ckpt")
    images, ids = inputs(32)
    for device in ("cpu", "meta"):
        other = ours("vit", None, device)
        report = checkpoints.load(other, tmp_path)
        assert other.activation == "quick_gelu" and report.loaded == report.total
        assert torch.equal(other.encode_image(images), model.encode_image(images))
        assert torch.equal(other.encode_text(ids), model.encode_text(ids))
        raw = (images * 20).to(torch.uint8)
        assert torch.equal(other.encode_image(raw), model.encode_image(raw))
    with pytest.raises(UserError, match=r"checkpoint itself says quick_gelu.*says gelu"):
        checkpoints.load(ours("vit", "gelu"), tmp_path)


def test_a_run_of_another_model_is_refused(ours):
    packed = checkpoints.pack(ours("vit", "gelu"), {})
    with pytest.raises(UserError, match="its arch is test-vit, here it is test-resnet"):
        checkpoints.check_packed(ours("resnet", "gelu"), packed)
    with pytest.raises(UserError, match="its class is CLIP, here it is Bridged"):
        checkpoints.check_packed(Bridged(), packed)
    with pytest.raises(UserError, match="its activation is gelu, here it is quick_gelu"):
        checkpoints.check_packed(ours("vit", "quick_gelu"), packed)


def test_our_own_checkpoint_of_another_architecture_says_which(tmp_path):
    from rsvlm.encoders.clip.model import clip

    torch.save(checkpoints.pack(clip("tiny", activation="gelu"), {}), tmp_path / "a.ckpt")
    with pytest.raises(
        UserError, match=r"looks like tiny .*the model is small\. Use model=clip_tiny"
    ):
        checkpoints.load(clip("small", activation="gelu", device="meta"), tmp_path / "a.ckpt")


def test_bare_state_dict_in_our_own_names(ours, tmp_path):
    model, other = ours("vit", "gelu"), ours("vit", "gelu", "meta")
    torch.save(model.state_dict(), tmp_path / "a.pt")
    assert checkpoints.load(other, tmp_path / "a.pt").dialect == "native"
    assert all(torch.equal(v, other.state_dict()[n]) for n, v in model.state_dict().items())


def test_a_head_that_is_the_embedding_table_may_be_written_once(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(5, 3)
            self.head = torch.nn.Linear(3, 5, bias=False)
            self.head.weight = self.table.weight

    torch.save({"table.weight": torch.arange(15.0).view(5, 3)}, tmp_path / "a.pt")
    for device in ("cpu", "meta"):
        with torch.device(device):
            model = Tied()
        report = checkpoints.load(model, tmp_path / "a.pt")
        assert report.loaded == report.total == 2
        assert model.head.weight is model.table.weight
        assert model.head.weight[1, 0] == 3
