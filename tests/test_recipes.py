"""Each published recipe takes one optimiser step: full size on `meta`, and for real, narrower.

The real step divides all widths by 16 and keeps every other number as published: layers, heads,
patches, batch, optimiser, schedule. Gradient checkpointing and micro-batches, which do not change
the numbers, make the large batches fit.
"""

import dataclasses
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.collate.pairs import PairBatch
from rsvlm.encoders.clip import model as clip_module
from rsvlm.encoders.clip.architectures import sizes

CONF = Path(__file__).parents[1] / "conf"
RECIPES = sorted(
    p.stem
    for p in (CONF / "experiment").glob("*.yaml")
    if "train.py" in (text := p.read_text(encoding="utf-8"))
    and "scenes" not in p.stem
    and "override /task" not in text  # the other families have files of their own
)
# One of a published ViT-B/32, one small; the others are `slow`.
QUICK = {"remoteclip_vitb32_ret3det10seg4", "clip_mini_rsicd"}


def batch(count, side, device):
    ids = torch.randint(1, 49000, (count, 24), device=device)
    return PairBatch(
        images=torch.randint(0, 255, (count, 3, side, side), dtype=torch.uint8, device=device),
        input_ids=ids.index_fill(1, torch.tensor([23], device=device), 49407),
        image_of_text=torch.arange(count, device=device),
        index=torch.arange(count, device=device),
        label=torch.full((count,), -1, device=device),
        texts=[f"caption {i}" for i in range(count)],
        ids=[str(i) for i in range(count)],
        truncated=0,
        skipped=[],
    )


def step(cfg, model, loss, given):
    """One optimiser step as the task takes it; returns the loss and the first rate."""
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    total = sum(loss(model(given), given).values())
    total.backward()
    if cfg.trainer.gradient_clip_val and not total.is_meta:
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg.trainer.gradient_clip_val)
    optimizer.step()
    schedule.step()
    return total, optimizer.param_groups[0]["lr"]


def test_there_are_recipes():
    assert len(RECIPES) >= 10
    assert set(RECIPES) >= QUICK


@pytest.mark.parametrize("recipe", RECIPES)
def test_full_size_takes_a_step_on_meta(compose, recipe):
    words = [f"experiment={recipe}", "optimizer.fused=false"]
    cfg = compose("train", words)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    loss = instantiate(cfg.loss)
    loss.duplicates = "negatives"  # equal captions are found by value, which meta has none of
    total, rate = step(cfg, model, loss, batch(cfg.data.batch_size, model.image_size, "meta"))
    assert total.is_meta
    assert 0 < rate <= cfg.optimizer.lr


@pytest.mark.parametrize("kind", ["lora", "pfeiffer", "prefix", "unipelt"])
def test_stage_1_with_adapters_takes_a_step_on_meta(compose, kind):
    """`python train.py -m experiment=georsclip_vitb32_rs5m model.peft=...`, at full size."""
    words = ["experiment=georsclip_vitb32_rs5m", f"model.peft={kind}", "optimizer.fused=false"]
    cfg = compose("train", words)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    loss = instantiate(cfg.loss)
    step(cfg, model, loss, batch(cfg.data.batch_size, model.image_size, "meta"))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained and all("peft" in name.split(".") for name in trained)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@pytest.mark.parametrize(
    "recipe",
    [
        r if r in QUICK else pytest.param(r, marks=pytest.mark.slow)
        for r in RECIPES
        if r != "dual_encoder_rsicd"  # no CLIP: tests/models/test_dual_encoder.py
    ],
)
def test_a_narrow_one_takes_a_real_step(compose, monkeypatch, recipe):
    def narrow(arch):
        size = sizes(arch)
        parts = ("width", "text_width", "embed_dim")
        # A ResNet's pooling head needs a channel a head.
        heads = max(1, size.heads // 16) if isinstance(size.layers, tuple) else size.heads
        cut = {part: getattr(size, part) // 16 for part in parts}
        if isinstance(size.layers, tuple):
            cut["width"] = 4
        if size.stem == "conv":  # which halves the channels, too, and needs something to halve
            cut["width"] = 8 * size.heads
        return dataclasses.replace(size, heads=heads, **cut)

    monkeypatch.setattr(clip_module, "sizes", narrow)
    words = [f"experiment={recipe}"]
    if "rn50" not in recipe:
        words.append("model.grad_checkpointing=true" if "clip_m" not in recipe else "seed=0")
    cfg = compose("train", words)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    total, rate = step(
        cfg, model, instantiate(cfg.loss), batch(cfg.data.batch_size, model.image_size, "cpu")
    )
    assert torch.isfinite(total)
    assert rate > 0
    still = [n for n, p in model.named_parameters() if torch.equal(p, before[n])]
    # At SkyCLIP's 1e-12 of a first step most float32 weights do not move.
    assert len(still) < len(before) / 2 or cfg.optimizer.lr < 1e-8, still
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
