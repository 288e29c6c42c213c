"""PEFT inside CLIP: the published settings, exact where they must be, nothing else trained."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm import checkpoints
from rsvlm.encoders.clip.model import CLIP, clip
from rsvlm.encoders.clip.towers import TextTransformer, VisionTransformer
from rsvlm.errors import UserError
from rsvlm.nn import adapters
from rsvlm.nn.adapter_settings import PRESETS, Lora, settings
from rsvlm.nn.transformer import Attention, Extra

KINDS = [kind for kind in PRESETS if kind != "none"]
VOCAB, CONTEXT, EOT = 120, 77, 119


def test_all_presets_are_there() -> None:
    assert KINDS == ["lora", "pfeiffer", "prefix", "unipelt"]


def build(kind: str, options: dict[str, Any] | None = None, seed: int = 0) -> CLIP:
    """A small CLIP with PEFT; its own weights depend on the seed alone."""
    torch.manual_seed(seed)
    visual = VisionTransformer(32, 16, width=48, layers=3, heads=3, embed_dim=24)
    text = TextTransformer(VOCAB, CONTEXT, width=32, layers=2, heads=4, embed_dim=24)
    model = CLIP(visual, text, arch="small", activation="quick_gelu")
    if kind != "none":
        tuned = settings(kind, options)
        for tower in (visual, text):
            adapters.attach(tower, kind, tuned)
        adapters.freeze(model, tuned)
    return model.eval()


def shake(model: nn.Module, size: float = 0.1, seed: int = 1) -> None:
    """Makes every PEFT parameter matter; fresh ones are zero or small."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if adapters.is_peft(name):
                parameter += size * torch.randn(parameter.shape, generator=generator)


def batch(count: int = 5) -> SimpleNamespace:
    """Images, and captions of 4 to 12 tokens padded to 77."""
    generator = torch.Generator().manual_seed(2)
    ids = torch.zeros(count, CONTEXT, dtype=torch.long)
    for row in range(count):
        ids[row, : 3 + 2 * row] = torch.randint(1, EOT, (3 + 2 * row,), generator=generator)
        ids[row, 3 + 2 * row] = EOT
    images = torch.randn(count, 3, 32, 32, generator=generator)
    return SimpleNamespace(images=images, input_ids=ids)


def features(model: CLIP, example: SimpleNamespace) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.encode_image(example.images), model.encode_text(example.input_ids)


# What is trained ----------------------------------------------------------------------------


def trained_by_hand(kind: str, dim: int, layers: int) -> int:
    """Numbers of a tower, from the preset and nothing else."""
    low_rank = 2 * (8 * dim + dim * 8)
    bottleneck = dim * (dim // 16) + dim // 16 + dim // 16 * dim + dim
    gate = dim + 1

    def prefix(length: int) -> int:
        return length * dim + dim * 512 + 512 + 512 * (2 * layers * dim) + 2 * layers * dim

    return {
        "lora": layers * low_rank,
        "pfeiffer": layers * bottleneck,
        "prefix": prefix(30),
        # Gates: of q, of v, of the prefix, of the bottleneck.
        "unipelt": layers * (low_rank + bottleneck + 4 * gate) + prefix(10),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_trained_numbers_at_vit_b_32(kind: str) -> None:
    model = clip("ViT-B-32", activation="quick_gelu", peft=kind, device="meta")
    base = clip("ViT-B-32", device="meta")
    by_hand = trained_by_hand(kind, 768, 12) + trained_by_hand(kind, 512, 12)
    counts = adapters.counts(model)
    assert counts["trained"] == by_hand
    assert counts["all"] == by_hand + adapters.counts(base)["all"]
    written_out = {"lora": 491_520, "pfeiffer": 1_294_272, "prefix": 16_454_144}
    assert counts["trained"] == written_out.get(kind, counts["trained"])
    own = {name for name, _ in base.named_parameters()}
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if name not in own
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_moves_the_peft_parameters_alone(kind: str) -> None:
    # A bottleneck of three units may have none that is on.
    wide = {"bottleneck": {"reduction": 2}} if PRESETS[kind].bottleneck else None
    model = build(kind, wide).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    example = batch()
    # Two steps: LoRA's A has no gradient while B is zero.
    for _ in range(2):
        optimizer.zero_grad()
        outputs = model(example)
        logits = 20 * outputs["image_features"] @ outputs["text_features"].T
        F.cross_entropy(logits, torch.arange(5)).backward()
        optimizer.step()
        model.clamp_logit_scale()
    for name, parameter in model.named_parameters():
        if adapters.is_peft(name):
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
            assert not torch.equal(parameter, before[name]), name
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name


def test_the_temperature_is_frozen_unless_asked_for() -> None:
    assert not clip("tiny", peft="lora").logit_scale.requires_grad
    model = clip("tiny", peft="lora", peft_options={"train_logit_scale": True}, logit_bias=-10.0)
    assert model.logit_scale.requires_grad and model.logit_bias.requires_grad
    assert model.peft_options == {"train_logit_scale": True}


# Where it starts ----------------------------------------------------------------------------


def test_fresh_parameters_are_distributed_as_adapterhubs() -> None:
    model = clip("tiny", activation="gelu", peft="unipelt", device="meta").to_empty(device="cpu")
    for parameter in model.parameters():
        nn.init.constant_(parameter, math.nan)
    model.reset_parameters()
    state = {n: p for n, p in model.named_parameters() if "visual.blocks.0" in n or "peft" in n}
    assert all(bool(p.isfinite().all()) for p in model.parameters())

    def std(end: str) -> float:
        return state[end].std().item()

    block = "visual.blocks.0."
    for target in "qv":
        down = state[f"{block}attn.peft.lora.{target}.down.weight"]
        assert down.shape == (8, 128)
        # Kaiming's uniform with a = sqrt(5): bound 1 / sqrt(dim).
        assert 0.95 * 128**-0.5 < down.abs().max() <= 128**-0.5
        assert state[f"{block}attn.peft.lora.{target}.up.weight"].count_nonzero() == 0
    assert std(f"{block}peft.down.weight") == pytest.approx(0.02, rel=0.1)
    assert std(f"{block}peft.up.weight") == pytest.approx(0.02, rel=0.1)
    assert std(f"{block}attn.peft.gates.weight") == pytest.approx(0.02, rel=0.2)
    assert state[f"{block}attn.peft.gates.bias"].count_nonzero() == 3
    for name in ("down", "up", "gate"):
        assert state[f"{block}peft.{name}.bias"].count_nonzero() == 0
    assert std("visual.peft.prefix.embedding.weight") == pytest.approx(1, rel=0.1)


def test_fresh_lora_changes_no_feature_and_the_others_do() -> None:
    base, example = features(build("none"), batch()), batch()
    for kind in KINDS:
        tuned = features(build(kind), example)
        same = [torch.equal(ours, theirs) for ours, theirs in zip(tuned, base, strict=True)]
        assert same == [kind == "lora"] * 2, kind


# What it computes ---------------------------------------------------------------------------


def test_lora_is_its_formula() -> None:
    torch.manual_seed(0)
    attention = Attention(32, 4)
    attention.peft = adapters._AttentionPeft(32, settings("lora", {"lora": {"alpha": 4}}))
    shake(attention, 0.5)
    for update in attention.peft.lora.values():
        nn.init.normal_(update.up.weight)
    x = torch.randn(3, 7, 32)
    seen = {}
    for name in "qkv":
        layer = getattr(attention, f"{name}_proj")
        seen[name] = F.linear(x, layer.weight, layer.bias)
        if name != "k":
            part = attention.peft.lora[name]
            # W x + (alpha / r) B A x
            seen[name] = seen[name] + 4 / 8 * x @ part.down.weight.T @ part.up.weight.T
    heads = [seen[name].view(3, 7, 4, 8).transpose(1, 2) for name in "qkv"]
    weights = (heads[0] @ heads[1].transpose(2, 3) / math.sqrt(8)).softmax(-1)
    expected = attention.out_proj((weights @ heads[2]).transpose(1, 2).flatten(2))
    # Measured: 1e-6 on values of size 8.
    torch.testing.assert_close(attention(x, extra=Extra()), expected, atol=5e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_the_pooled_last_block_change_no_feature(kind: str) -> None:
    model, example = build(kind), batch()
    shake(model)
    images, texts = features(model, example)
    cut = SimpleNamespace(images=example.images, input_ids=example.input_ids[:, :12])
    # Measured: 1e-6 on features of size 3; other kernels for other lengths.
    torch.testing.assert_close(features(model, cut)[1], texts, atol=5e-6, rtol=1e-5)
    alone = model.encode_text(example.input_ids[:1, :4]).detach()
    torch.testing.assert_close(alone, texts[:1], atol=5e-6, rtol=1e-5)

    # The slow way: every token of every block, one token read at the end.
    with torch.no_grad():
        tokens = model.visual.tokens(example.images)
        slow = model.visual.ln_post(tokens[:, 0]) @ model.visual.proj
        torch.testing.assert_close(images, slow, atol=5e-6, rtol=1e-5)
        text = model.text
        x = text.token_embedding(example.input_ids) + text.positional_embedding
        end = example.input_ids.argmax(-1)
        for block, extra in zip(text.blocks, text.peft(x, end), strict=True):
            x = block(x, True, None, extra)
        slow = text.ln_final(x[torch.arange(5), end]) @ text.text_projection
    torch.testing.assert_close(texts, slow, atol=5e-6, rtol=1e-5)


def test_prefix_is_seen_by_all_and_the_rest_stays_causal() -> None:
    model = build("prefix")
    text, ids = model.text, batch().input_ids[:, :12]
    end = ids.argmax(-1)

    def hidden(ids: Tensor) -> Tensor:
        x = text.token_embedding(ids) + text.positional_embedding[:12]
        for block, extra in zip(text.blocks, text.peft(x, end), strict=True):
            x = block(x, True, None, extra)
        return x.detach()

    before = hidden(ids)
    later = ids.clone()
    later[:, 6:] = 3
    torch.testing.assert_close(hidden(later)[:, :6], before[:, :6], atol=0, rtol=0)
    with torch.no_grad():
        model.text.peft.prefix.embedding.weight[-1] += 1
    assert ((hidden(ids) - before).abs().amax(-1) > 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_checkpointing_and_bfloat16(kind: str) -> None:
    model, example = build(kind).train(), batch()
    shake(model)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        sum(part.square().sum() for part in features_with_grad(model, example)).backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.set_grad_checkpointing()
    again = gradients()
    assert plain.keys() == again.keys() and len(plain) > 4
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = gradients()
    assert all(bool(value.isfinite().all()) for value in low.values())


def features_with_grad(model: CLIP, example: SimpleNamespace) -> list[Tensor]:
    return [
        model.encode_image(example.images, normalize=False).float(),
        model.encode_text(example.input_ids, normalize=False).float(),
    ]


# Folding ------------------------------------------------------------------------------------


def test_merged_lora_is_a_plain_model_with_the_same_features() -> None:
    model, example = build("lora"), batch()
    shake(model)
    before = features(model, example)
    assert adapters.merge(model) == []
    assert model.peft == "none" and model.peft_options == {}
    # Measured: 1e-6 on features of size 3.
    for ours, theirs in zip(features(model, example), before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    plain = build("none", seed=5)
    plain.load_state_dict(model.state_dict())
    for ours, theirs in zip(features(plain, example), before, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["prefix", "unipelt"])
def test_merged_prefix_is_a_table_with_the_same_features(kind: str) -> None:
    model, example = build(kind), batch()
    shake(model)
    before = features(model, example)
    left = adapters.merge(model)
    assert not [name for name in left if "prefix.up" in name]
    assert model.peft == kind and model.peft_options == {"prefix": {"flat": True}}
    if kind == "prefix":
        assert left == ["visual.peft.prefix.table", "text.peft.prefix.table"]
    other = build(kind, model.peft_options, seed=5)
    other.load_state_dict(model.state_dict())
    for same in (model, other):
        for ours, theirs in zip(features(same, example), before, strict=True):
            # Measured: 0; the table holds the very numbers.
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_what_depends_on_the_input_is_not_merged() -> None:
    model = build("pfeiffer")
    shake(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert len(adapters.merge(model)) == 5 * 4
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    gated = build("unipelt")
    assert any("lora.q" in name for name in adapters.merge(gated))


# Checkpoints --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_was_trained_is_saved(kind: str, tmp_path: Any) -> None:
    torch.manual_seed(0)
    base = clip("tiny", activation="gelu")
    torch.save(checkpoints.pack(base), tmp_path / "base.ckpt")

    def start(**options: Any) -> CLIP:
        model = clip("tiny", activation="gelu", peft=kind, **options).eval()
        part = "towers" if options else "new"
        report = checkpoints.load(model, tmp_path / "base.ckpt", **{part: ("peft",)})
        assert all(map(adapters.is_peft, report.missing)) and report.missing
        return model

    model = start()
    for name, value in base.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    shake(model)
    towers = dict.fromkeys(("visual", "text"), str(tmp_path / "base.ckpt"))
    torch.save(checkpoints.pack(model, towers=towers), tmp_path / "tuned.ckpt")
    packed = torch.load(tmp_path / "tuned.ckpt", weights_only=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert set(packed["state_dict"]) == trained | {"logit_scale"}
    again = start(device="meta")
    checkpoints.unpack(again, packed)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    other = clip("tiny", activation="gelu", peft=kind)
    with pytest.raises(UserError, match="others there"):
        checkpoints.unpack(other, packed)


# What is refused ----------------------------------------------------------------------------


def test_bad_settings_say_what_to_do() -> None:
    with pytest.raises(UserError, match=r"model\.peft='lorra'.*lora"):
        clip("tiny", peft="lorra")
    with pytest.raises(UserError, match=r"model\.peft=prefix has no option 'lora'"):
        clip("tiny", peft="prefix", peft_options={"lora": {"r": 4}})
    with pytest.raises(UserError, match=r"model\.peft=none has no option"):
        clip("tiny", peft_options={"train_logit_scale": True})
    with pytest.raises(UserError, match=r"peft_options\.lora has no 'rank'"):
        clip("tiny", peft="lora", peft_options={"lora": {"rank": 4}})
    with pytest.raises(UserError, match=r"peft_options\.lora=16"):
        clip("tiny", peft="lora", peft_options={"lora": 16})
    with pytest.raises(UserError, match=r"targets=\['o'\]"):
        Lora(targets=("o",))
    with pytest.raises(UserError, match="ResNetTower has none: use a ViT"):
        clip("RN50", peft="lora", device="meta")
    changed = clip("tiny", peft="unipelt", peft_options={"lora": {"r": 2, "targets": ["q"]}})
    assert changed.peft_options == {"lora": {"r": 2, "targets": ["q"]}}


# Patch dropout ------------------------------------------------------------------------------


def test_patch_dropout_is_off_in_eval_mode() -> None:
    plain = clip("tiny", activation="gelu").eval()
    dropped = clip("tiny", activation="gelu", patch_dropout=0.5)
    dropped.load_state_dict(plain.state_dict())
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(dropped.eval().encode_image(images), plain.encode_image(images))
        assert dropped.visual.tokens(images).shape[1] == 17
        dropped.train()
        assert dropped.visual.tokens(images).shape[1] == 9
        assert not torch.equal(dropped.encode_image(images), plain.encode_image(images))
