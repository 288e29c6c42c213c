"""RS-CapRet's recipes take an optimiser step: full size on `meta`, and for real, narrower.

The real step divides all widths by 16 and keeps every other number as published: layers, heads,
patches, optimiser, schedule, tokens an image. CLIP's images are 56 pixels wide instead, and batches
have 32 pairs at most.
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
    for path in CONF.glob("rscapret_*.yaml")
    if "scenes" not in path.stem
    and "grid" not in path.stem  # without [RET]: tests/models/test_rscapret_grid.py
    and "python train.py" in path.read_text(encoding="utf-8")
)
#: The language model's own words, of which [RET] is the next.
WORDS = {"rscapret_llama2_cap4": 32000, "rscapret_small_rsicd": 262144}
#: Both widths over 16; LLaMA has a head that is not its table.
NARROW = {
    "rscapret_llama2_cap4": {
        "model_type": "llama",
        "hidden_size": 4096 // 16,
        "intermediate_size": 11008 // 16,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    },
    "rscapret_small_rsicd": {
        "model_type": "gemma3_text",
        "hidden_size": 640 // 16,
        "intermediate_size": 2048 // 16,
        "num_hidden_layers": 18,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 256 // 16,
        "query_pre_attn_scalar": 256 // 16,
        "sliding_window": 512,
        "max_position_embeddings": 32768,
    },
}
TRAINED = {
    *("bridge.proj.weight", "bridge.proj.bias", "image_map.weight", "image_map.bias"),
    *("text_map.weight", "text_map.bias", "ret.row", "ret.head", "logit_scale"),
}


def test_there_are_recipes():
    assert set(RECIPES) == set(WORDS) == set(NARROW)


def configuration(compose, recipe, narrow):
    cfg = compose("train", [f"experiment={recipe}", "optimizer.fused=false"])
    cfg.model.vision.weights = None
    if narrow:
        cfg.model.lm.size, cfg.model.lm.words = NARROW[recipe], "world"
        cfg.model.shared_dim //= 16
        if cfg.model.vision.arch == "ViT-L-14":
            sizes = {"image_size": 56, "patch_size": 14, "width": 64, "layers": 24, "heads": 16}
            cfg.model.vision.arch = {**sizes, "embed_dim": 48}
    else:
        cfg.model.ret_id = WORDS[recipe]
    return cfg


def trained(model):
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("recipe", RECIPES)
def test_full_size_takes_a_step_on_meta(compose, recipe):
    cfg = configuration(compose, recipe, narrow=False)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    count = cfg.data.batch_size
    side = model.image_size
    images = torch.empty(count, 3, side, side, dtype=torch.uint8, device="meta")
    ids = torch.empty(count, model.max_text, dtype=torch.long, device="meta")
    # Where captions end is found by value, which meta has none of: all of them are whole here.
    tokens = model.vision(images)
    words = model.embed_words(ids)
    embeds = torch.cat([model.bridge(tokens).to(words.dtype), words], dim=1)
    hidden = model.lm.model.base_model(inputs_embeds=embeds).last_hidden_state
    logits = model.ret.logits(model.lm, hidden[:1], model.ret_id)
    assert logits.shape == (1, model.bridge.tokens + model.max_text, WORDS[recipe] + 1)
    found = model.image_map(tokens[:, 0]) * model._mapped(hidden[:, -1]) * model.logit_scale.exp()
    (logits.float().sum() + found.float().sum()).backward()
    parameters = trained(model)
    expected = TRAINED if "llama2" in recipe else TRAINED - {"ret.head"}
    assert set(parameters) == expected
    assert {n for n, p in model.named_parameters() if p.grad is not None} == expected
    instantiate(cfg.optimizer)(model).step()
    numbers = {"rscapret_llama2_cap4": 5_517_825, "rscapret_small_rsicd": 528_001}
    assert sum(p.numel() for p in parameters.values()) == numbers[recipe]


def batch(model, count):
    texts = ["two houses near a river", "a bare field", "a road is built near many green trees"]
    samples = [
        Sample(
            [torch.full((3, 64, 64), 9 * n % 256, dtype=torch.uint8)],
            texts=[texts[n % 3]],
            meta={"id": n},
        )
        for n in range(count)
    ]
    view = TransformedDataset(samples, model.preprocess, training=False, caption="first")
    return model.collate(training=True)([view[0, n] for n in range(count)])


@pytest.mark.parametrize(
    ("recipe", "rows"),
    [
        ("rscapret_llama2_cap4", 4),
        ("rscapret_small_rsicd", 32),
        pytest.param("rscapret_llama2_cap4", 32, marks=pytest.mark.slow),
    ],
)
def test_a_narrow_one_takes_a_real_step(compose, recipe, rows):
    cfg = configuration(compose, recipe, narrow=True)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    given = batch(model, min(rows, cfg.data.batch_size))
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=cfg.trainer.max_steps)
    losses = instantiate(cfg.loss)(model(given), given)
    sum(losses.values()).backward()
    optimizer.step()
    schedule.step()
    model.after_step()
    assert set(losses) == {"caption", "text", "contrastive"}
    assert all(torch.isfinite(one) for one in losses.values())
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == set(trained(model))
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    rate = cfg.optimizer.lr / cfg.scheduler.warmup_steps
    assert rates["decay"] == pytest.approx(2 * rate)
    if "small" in recipe:
        assert rates["bridge.decay"] == pytest.approx(20 * rate)
