"""Captions from a grid of frozen features, without [RET]."""

import pytest
import torch
from hydra.utils import instantiate
from model_options import build

from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Sample
from rsvlm.encoders.tokenizers import words_of
from rsvlm.errors import UserError
from rsvlm.losses.language import AnswerLoss

CAPTIONS = ["two red roofs", "a long river", "many boats in a port"]


def item(number):
    draws = torch.Generator().manual_seed(number)
    image = torch.randint(0, 256, (3, 32, 32), generator=draws, dtype=torch.uint8)
    sample = Sample([image], "single", [CAPTIONS[number]], meta={"id": str(number)})
    return TransformedSample(number, sample, key=(0, 0, number))


def test_it_learns_captions_of_its_pictures_alone(tmp_path):
    torch.manual_seed(0)
    model = build(
        "rscapret_grid",
        vision={"image_size": 32, "grid": 2, "levels": [3]},
        bridge={"hidden": 16},
        lm={"words": words_of(CAPTIONS)},
        cache_gib=0.1,
        cache_folder=str(tmp_path),
    )
    trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"bridge", "lm"}
    batch = model.collate(training=True)([item(n) for n in range(3)])
    loss = AnswerLoss()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    model.train()
    for _ in range(40):
        outputs = model(batch)
        assert set(outputs) == {"logits", "targets"}
        optimizer.zero_grad()
        sum(loss(outputs, batch).values()).backward()
        optimizer.step()
        model.after_step()
    asked = model.collate(training=False)([item(n) for n in range(3)])
    assert asked.input_ids.eq(-1).sum(1).tolist() == [5, 5, 5]
    assert [answer.text for answer in model.generate(asked)] == CAPTIONS
    assert model.cache.misses == 3


def takes_steps(cfg, count):
    """Optimiser steps on three captions move what learns, and nothing else."""
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    given = model.collate(training=True)([item(n) for n in range(3)])
    optimizer = instantiate(cfg.optimizer)(model)
    for _ in range(count):
        optimizer.zero_grad()
        losses = instantiate(cfg.loss)(model(given), given)
        sum(losses.values()).backward()
        optimizer.step()
    assert all(torch.isfinite(one) for one in losses.values())
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n, p in model.named_parameters() if p.requires_grad}


def small(**more):
    torch.manual_seed(0)
    vision = {"image_size": 32, "grid": 4, "levels": [3]}
    return build("rscapret_grid", vision=vision, lm={"words": words_of(CAPTIONS)}, **more)


def test_rows_without_padding_give_the_logits_and_gradients_of_padded_ones():
    model = small().eval()
    batch = model.collate(training=True)([item(n) for n in (1, 0, 2, 1)])
    found = {}
    for model.packing in ("none", "rows"):
        model.zero_grad()
        outputs = model(batch)
        AnswerLoss()(outputs, batch)["answer"].backward()
        found[model.packing] = outputs, [p.grad for p in model.parameters() if p.requires_grad]
    (padded, wanted), (rows, given) = found["none"], found["rows"]
    assert torch.equal(padded["targets"], rows["targets"])
    assert torch.allclose(padded["logits"], rows["logits"], atol=1e-5)
    for one, other in zip(wanted, given, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    with pytest.raises(UserError, match=r"set model\.packing=rows"):
        small(packing="shared")


def test_a_grid_is_averaged_to_fewer_embeddings():
    model = small(bridge={"side": 2}).eval()
    batch = model.collate(training=True)([item(0)])
    tokens = model.vision(batch.images)
    grid = tokens[:, 1:].view(1, 4, 4, -1)
    quarters = [grid[:, y : y + 2, x : x + 2].mean((1, 2)) for y in (0, 2) for x in (0, 2)]
    whole = small().bridge.eval()(torch.stack([tokens[:, 0], *quarters], dim=1))
    assert torch.allclose(model.bridge(tokens), whole, atol=1e-5)
    assert model.collate(training=False)([item(0)]).input_ids.eq(-1).sum() == 5


def test_its_recipe_takes_a_step_on_meta_and_a_real_one(compose):
    def configuration():
        cfg = compose("train", ["experiment=rscapret_grid_rsicd", "optimizer.fused=false"])
        cfg.model.cache_folder, cfg.model.lm.words = None, "world"  # data's own words else
        return cfg

    cfg = configuration()
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
    side = model.image_size
    images = torch.empty(cfg.data.batch_size, 3, side, side, dtype=torch.uint8, device="meta")
    ids = torch.empty(cfg.data.batch_size, model.max_text, dtype=torch.long, device="meta")
    words = model.embed_words(ids)
    tokens = model.bridge(model.vision(images)).to(words.dtype)
    whole = torch.cat([tokens, words], dim=1)
    states = model.lm.model.base_model(inputs_embeds=whole).last_hidden_state
    model.lm.model.get_output_embeddings()(states).float().sum().backward()
    instantiate(cfg.optimizer)(model).step()
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n, p in model.named_parameters() if p.grad is not None} == trained

    cfg = configuration()
    cfg.model.vision.image_size = cfg.model.vision.scale_to = 64
    cfg.model.lm.size.hidden_size, cfg.model.lm.size.intermediate_size = 256 // 16, 512 // 16
    cfg.model.shared_dim = 256 // 16
    takes_steps(cfg, 1)


@pytest.mark.parametrize(("stage", "numbers"), [("", 987_840), ("_lora", 1_909_440)])
def test_the_stages_with_smollm2_take_a_real_step(compose, stage, numbers):
    words = [f"experiment=rscapret_grid_smollm2_rsicd{stage}", "optimizer.fused=false"]
    cfg = compose("train", words)
    cfg.model.cache_folder = None
    with torch.device("meta"):
        model = instantiate(cfg.model)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == numbers
    assert all(n.startswith("bridge.") or ("lora_" in n and "_proj" in n) for n in trained)

    cfg.model.vision.image_size = cfg.model.vision.scale_to = 64
    narrow = {"hidden_size": 36, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 4}
    own = {"model_type": "llama", "num_attention_heads": 9, "num_key_value_heads": 3}
    cfg.model.lm = {**cfg.model.lm, "size": {**own, **narrow}, "words": "world"}
    takes_steps(cfg, 2)  # LoRA's second matrix starts as zeros: the first has no gradient yet
