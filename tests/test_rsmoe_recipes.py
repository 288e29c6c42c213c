"""RS-MoE's and RSGPT's recipes: full size on `meta`, a real step at narrow width, who learns."""

from __future__ import annotations

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, Turn

RECIPES = {
    "rsgpt": ["experiment=rsgpt_rsicap"],
    "rsgpt_7b": ["experiment=rsgpt_rsicap", "model=rsgpt_7b"],
    "stage1": ["experiment=rsmoe_1b_stage1"],
    "stage1_7b": ["experiment=rsmoe_1b_stage1", "model=rsmoe_7b"],
    "stage2": ["experiment=rsmoe_1b_stage2"],
    "stage2_3b": ["experiment=rsmoe_1b_stage2", "model=rsmoe_3b"],
    "joint": ["experiment=rsmoe_1b_stage2", "model.stage=joint"],
}
#: Parts of which something is trained; LoRA alone of the LLM block.
TRAINED = {
    "rsgpt": {"bridge"},
    "stage1": {"bridge", "lm"},
    "stage2": {"experts"},
    "joint": {"bridge", "lm", "experts"},
}


def configured(compose, name, narrow):
    """The recipe with word lists in place of downloads."""
    cfg = compose("train", [*RECIPES[name], "optimizer.fused=false"])
    for part in ("lm", "bridge"):
        cfg.model[part].words, cfg.model[part].tokenizer = "world", None
    if narrow:
        cfg.model.vision.dim = 96
        cfg.model.bridge.dim, cfg.model.bridge.hidden = 48, 192
        cfg.model.lm.size = {
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 344,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 1024,
        }
        cfg.model.lm.dtype = "float32"
    return cfg


def parts_of(names):
    return {name.partition(".")[0] for name in names}


#: One of them in each run of the suite.
QUICK = "stage2"
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in RECIPES if name != QUICK]


@pytest.mark.parametrize("name", [QUICK, *SLOW])
def test_full_size_takes_a_step_on_meta(compose, name):
    cfg = configured(compose, name, False)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    size = cfg.data.batch_size
    images = torch.empty(size, 3, 224, 224, dtype=torch.uint8, device="meta")
    ids = torch.zeros(size, 12, dtype=torch.long, device="meta")
    found = model.bridge.read(model.vision(images)[:, None], ids, None)
    visual = model.bridge.proj(found)
    assert visual.shape == (size, 32, model.lm.dim)
    text = model.lm.embed(ids)
    # Without mask and labels, whose values meta has none of.
    read = torch.cat([visual.to(text.dtype), text], 1)
    hidden = model.lm.model.base_model(inputs_embeds=read).last_hidden_state
    total = model.lm.model.get_output_embeddings()(hidden).float().sum()
    stage = getattr(model, "stage", "first")
    if stage != "first":
        group = model.experts.groups[0]
        weights = torch.zeros(size, 3, device="meta")
        with group.adapters.speaking(model.lm.model, weights):
            hidden = model.lm.model.base_model(inputs_embeds=read).last_hidden_state
            total = model.lm.model.get_output_embeddings()(hidden).float().sum()
    total.backward()
    optimizer = instantiate(cfg.optimizer)(model)
    instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    optimizer.step()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    idle = {f"bridge.qformer.{n}" for n in model.bridge.qformer.idle}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained - idle
    assert parts_of(trained) == TRAINED[name.partition("_")[0]]
    if stage != "second":
        assert all("lora_" in n for n in trained if n.startswith("lm."))


def batch(model):
    image = torch.zeros(3, 224, 224, dtype=torch.uint8)
    said = "The picture shows a harbour. There are three ships. The ships are next to the pier."

    def of(n, question, answer, kind):
        turns = [Turn("user", question, (0,), kind=kind), Turn("assistant", answer, kind=kind)]
        return Sample([image + 9 * n], turns=turns, meta={"id": n})

    samples = [
        of(0, "Describe this image in detail.", said, "caption"),
        of(1, "How many ships are there?", "three", "number"),
    ]
    view = TransformedDataset(samples, model.preprocess, training=True, caption="all")
    return model.collate(training=True)([view[0, n] for n in range(2)])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rsgpt", "stage1", "stage2", "joint"])
def test_a_narrow_one_takes_a_real_step(compose, name):
    cfg = configured(compose, name, True)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    given = batch(model)
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    total = sum(instantiate(cfg.loss)(model(given), given).values())
    total.backward()
    schedule.step()  # away from a warm-up's first rate of zero
    optimizer.step()
    assert torch.isfinite(total)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert moved <= trained and parts_of(moved) == TRAINED[name]


def test_the_second_stage_says_what_its_decoder_lacks(compose, caplog):
    cfg = configured(compose, "stage2", True)
    model = instantiate(cfg.model)
    assert model.experts.lacks == ["cross_attention"]
    tuned = {n.rpartition(".")[2] for n in model.experts.groups[0].adapters.names}
    tuned |= {
        n.removesuffix(".base_layer").rpartition(".")[2]
        for n in model.experts.groups[0].adapters.names
    }
    assert {"q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"} <= tuned


def test_all_recipes_share_what_they_can(compose):
    first, second = (compose("train", [f"experiment=rsmoe_1b_stage{n}"]) for n in (1, 2))
    for group in ("data", "loss", "task", "evaluation"):
        assert first[group] == second[group]
    assert {k for k in first.model if first.model[k] != second.model[k]} == {
        "stage",
        "new_projection",
    }
