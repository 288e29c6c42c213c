"""Each recipe of two dates takes one optimiser step: full size on `meta`, and for real, narrower.

The real step divides all widths by 16 and keeps every other number as published: layers, heads,
patches, batch, optimiser, schedule, dropout. ResNet-101's widths are torchvision's and stay; its
images are 64 pixels wide instead.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import open_dict

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, Turn

CONF = Path(__file__).parents[1] / "conf"
TRAINED = {
    p.stem: text
    for p in sorted((CONF / "experiment").glob("*.yaml"))
    if "override /task: bitemporal" in (text := p.read_text(encoding="utf-8"))
    and "python train.py" in text
    and "scenes" not in p.stem
}
CAPTIONERS = [name for name, text in TRAINED.items() if "override /loss: caption" in text]
QUICK = {"mmodalcc_secondcc"}


def test_there_are_recipes():
    assert len(TRAINED) >= 5 and "deltavlm_changechat" in TRAINED
    assert len(CAPTIONERS) >= 4


def batch(count, side, device, maps):
    """A batch as `ChangeCollate` gives it: captions of 3 to 20 words."""
    ids = torch.randint(1, 90, (count, 22), device=device)
    return SimpleNamespace(
        images=torch.randint(0, 255, (count, 2, 3, side, side), dtype=torch.uint8, device=device),
        semantic=torch.randint(0, 255, (count, 2, 3, side, side), dtype=torch.uint8, device=device)
        if maps
        else None,
        input_ids=ids,
        caption_lengths=torch.linspace(5, 22, count).long(),
    )


def step(cfg, model, loss, given):
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    total = sum(loss(model(given), given).values())
    total.backward()
    optimizer.step()
    schedule.step()
    return total, optimizer.param_groups[0]["lr"]


def configuration(compose, recipe, *words):
    cfg = compose("train", [f"experiment={recipe}", *words])
    if "words" in cfg.model:  # which a run takes from its data
        cfg.model.words = None
        with open_dict(cfg.model):
            cfg.model.vocab_size = 468
    return cfg


@pytest.mark.parametrize("recipe", CAPTIONERS)
def test_full_size_captioner_takes_a_step_on_meta(compose, recipe):
    cfg = configuration(compose, recipe)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    given = batch(cfg.data.batch_size, model.image_size, "meta", "mmodalcc" in recipe)
    # Which words count is found by value, which meta has none of: all 21 steps of each caption do.
    logits = model(given)["logits"]
    assert logits.is_meta and logits.shape[::2] == (cfg.data.batch_size, 468)
    logits.sum().backward()
    optimizer = instantiate(cfg.optimizer)(model)
    optimizer.step()
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    assert got == {n for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("recipe", "rows"),
    [
        *((r, 8) for r in CAPTIONERS if r in QUICK),
        *(pytest.param(r, None, marks=pytest.mark.slow) for r in CAPTIONERS),
    ],
)
def test_a_narrow_captioner_takes_a_real_step(compose, recipe, rows):
    """Of eight pairs among the quick tests, of the recipe's batch among the slow ones."""
    cfg = configuration(compose, recipe)
    for key in ("dim", "attention_dim", "hidden"):
        if key in cfg.model:
            cfg.model[key] //= 16
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    given = batch(rows or cfg.data.batch_size, 64, "cpu", "mmodalcc" in recipe)
    total, rate = step(cfg, model, instantiate(cfg.loss), given)
    assert torch.isfinite(total) and rate > 0
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert moved <= trained and len(moved) > 0.9 * len(trained), trained - moved


def chat(model, count, side):
    """A training batch of the model's own collate."""
    image = np.zeros((3, side, side), np.uint8)
    samples = []
    for i in range(count):
        pictures = [torch.from_numpy(image + 10 * i), torch.from_numpy(image + 100)]
        turns = [
            Turn("user", "has anything changed ?", (0, 1), kind="binary"),
            Turn("assistant", "yes a house" if i % 2 else "no", kind="binary"),
        ]
        samples.append(Sample(pictures, layout="before_after", turns=turns, meta={"id": i}))
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return model.collate(training=True)([view[(0, i)] for i in range(count)])


def deltavlm(compose, divide):
    """The recipe's model with a word list in place of the tokenizers' downloads."""
    cfg = compose("train", ["experiment=deltavlm_changechat", "optimizer.fused=false"])
    cfg.model.bridge.tokenizer, cfg.model.bridge.words = None, "world"
    cfg.model.lm.words = "world"
    if divide > 1:
        cfg.model.vision.dim = 96  # 88, and divisible by the 16 heads
        cfg.model.bridge.dim //= divide
        cfg.model.bridge.hidden //= divide
        # Half of the 32 heads' 8 remaining channels turn with the position.
        cfg.model.lm.size = {
            "model_type": "llama",
            "hidden_size": 4096 // divide,
            "intermediate_size": 11008 // divide,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
        }
    return cfg


def held_back(model):
    """Every trained parameter has a gradient but those that the answer does not depend on."""
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    last = f"bridge.qformer.layers.{len(model.bridge.qformer.layers) - 1}.mlp_text."
    assert got <= trained
    assert trained - got == {n for n in trained if n.startswith(last)}


def test_full_size_deltavlm_takes_a_step_on_meta(compose):
    cfg = deltavlm(compose, 1)
    tiny = instantiate(compose("train", ["model=deltavlm_tiny"]).model)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    given = chat(tiny, cfg.data.batch_size, 224)
    held = given.to("cpu")
    embedded = SimpleNamespace(
        images=torch.empty(2 * len(held), 3, 224, 224, dtype=torch.uint8, device="meta"),
        rows=torch.arange(2 * len(held)).view(-1, 2),
    )
    tokens = model.vision(embedded.images)
    bridged = model.bridge(
        tokens.unflatten(0, (-1, 2)),
        held.instruction_ids.to("meta"),
        held.instruction_mask.to("meta"),
    )
    text = model.lm.embed(held.input_ids.to("meta"))
    hidden = model.lm.model.base_model(
        inputs_embeds=torch.cat([bridged, text], 1)
    ).last_hidden_state
    hidden.sum().backward()
    optimizer = instantiate(cfg.optimizer)(model)
    optimizer.step()
    assert not any(p.requires_grad for p in model.lm.parameters())
    held_back(model)


@pytest.mark.slow
def test_a_narrow_deltavlm_takes_a_real_step(compose):
    cfg = deltavlm(compose, 16)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    given = chat(model, cfg.data.batch_size, 224)
    total, rate = step(cfg, model, instantiate(cfg.loss), given)
    assert torch.isfinite(total) and rate > 0
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    # The warm-up's first rate of 1e-8 does not move a float32 weight of 1, as a norm's is.
    assert moved <= trained and len(moved) > len(trained) / 2, trained - moved
    held_back(model)
