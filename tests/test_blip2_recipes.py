"""BLIP-2's recipes take an optimiser step: full size on `meta`, and for real, narrower.

The real step divides all widths by 16 and keeps every other number as published: layers, heads,
patches, batch, optimiser, schedule, dropout.
"""

from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample

CONF = Path(__file__).parents[1] / "conf" / "experiment"
RECIPES = sorted(
    path.stem
    for path in CONF.glob("blip2_*.yaml")
    if "scenes" not in path.stem and "python train.py" in path.read_text(encoding="utf-8")
)
TRAINED = {"blip2_rs5m": "vision.blocks.", "blip2_gaia": "lm.", "blip2_rsicd": "bridge."}


def test_there_are_recipes():
    assert set(RECIPES) == set(TRAINED)


def configuration(compose, recipe, divide, *words):
    """The recipe with a word list in place of OPT's tokenizer, and no base to start from."""
    cfg = compose("train", [f"experiment={recipe}", "optimizer.fused=false", *words])
    cfg.model.lm.tokenizer, cfg.model.lm.words, cfg.model.lm.special = None, "world", "own"
    if divide > 1:
        width = {"opt_2_7b": 2560, "opt_6_7b": 4096}[cfg.model.lm.size] // divide
        cfg.model.vision.dim = 96  # 88, and divisible by the 16 heads
        cfg.model.bridge.dim //= divide
        cfg.model.bridge.hidden //= divide
        cfg.model.lm.size = {
            "model_type": "opt",
            "hidden_size": width,
            "word_embed_proj_dim": width,
            "ffn_dim": 4 * width,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "max_position_embeddings": 2048,
        }
    return cfg


def batch(model, count):
    samples = [
        Sample(
            [torch.full((3, 224, 224), 9 * n % 256, dtype=torch.uint8)],
            texts=["two houses near a river" if n % 2 else "a bare field"],
            meta={"id": n},
        )
        for n in range(count)
    ]
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return model.collate(training=True)([view[0, n] for n in range(count)])


def trained_by(recipe, name, words):
    if words:  # the other tuning of the recipe's comments
        return True
    return name.startswith(TRAINED[recipe]) and (recipe == "blip2_rsicd" or "lora_" in name)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        *((recipe, ()) for recipe in RECIPES),
        ("blip2_gaia", ("model.tuning=full", "model.lm.dtype=float32")),
    ],
)
def test_full_size_takes_a_step_on_meta(compose, recipe, words):
    cfg = configuration(compose, recipe, 1, *words)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    rate = instantiate(cfg.optimizer)(model).param_groups[0]["lr"]
    assert rate == (1e-5 if words else {"blip2_rs5m": 5e-5, "blip2_gaia": 1e-4}.get(recipe, 1e-5))
    size, ids = cfg.data.batch_size, batch(model, 2).input_ids
    images = torch.empty(size, 3, 224, 224, dtype=torch.uint8, device="meta")
    visual = model.bridge(model.vision(images))
    assert visual.shape == (size, 32, model.lm.dim)
    text = model.lm.embed(ids.repeat(size // 2, 1).to("meta"))
    # Which words count is found by value, which meta has none of: all positions do.
    hidden = model.lm.model.base_model(
        inputs_embeds=torch.cat([visual.to(text.dtype), text], 1)
    ).last_hidden_state
    model.lm.model.get_output_embeddings()(hidden).float().sum().backward()
    optimizer = instantiate(cfg.optimizer)(model)
    instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    optimizer.step()
    for name, parameter in model.named_parameters():
        trained = trained_by(recipe, name, words)
        assert parameter.requires_grad == trained == (parameter.grad is not None), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_narrow_one_takes_a_real_step(compose, recipe):
    cfg = configuration(compose, recipe, 16)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    given = batch(model, cfg.data.batch_size)
    total = sum(instantiate(cfg.loss)(model(given), given).values())
    total.backward()
    schedule.step()  # away from a warm-up's first rate of zero
    optimizer.step()
    assert torch.isfinite(total) and optimizer.param_groups[0]["lr"] > 0
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    # LoRA's A has no gradient as long as B is zero.
    steps = {n for n in trained if "lora_A" not in n}
    assert moved <= trained and len(moved & steps) > len(steps) / 2, steps - moved
    assert trained == {n for n in before if trained_by(recipe, n, ())}
