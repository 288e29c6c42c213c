"""The pixel family's recipes take one optimiser step: full size on `meta`, and narrow for real."""

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.loading.mixture import Mixture
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.models.pixel.model import PixelModel

RUNS = {
    "geopix_stage1": "geopix",
    "geopix_stage2": "geopix",
    "lisa_7b_refsegrs": "lisa_7b",
    "pixellm_7b_refsegrs": "pixellm_7b",
}


def configured(compose, name, divide):
    """The recipe with a word list in place of the tokenizer's download, at 1 / `divide` width."""
    cfg = compose("train", [f"experiment={name}", "optimizer.fused=false"])
    cfg.model.lm.words, cfg.model.lm.tokenizer = "chat", None
    cfg.model.first_id = None
    if divide == 1:
        return cfg
    size = cfg.model.vision.image_size
    grid = {"patch_size": 14, "width": 64, "layers": 24, "heads": 16}
    cfg.model.vision.arch = {"image_size": size, **grid}
    cfg.model.lm.size = {
        "model_type": "llama",
        "hidden_size": 4096 // divide,
        "intermediate_size": 11008 // divide,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "max_position_embeddings": 4096,
    }
    if "sam" in cfg.model:
        cfg.model.sam.size = {"width": 80, "depth": 32, "heads": 16, "whole": [7, 15, 23, 31]}
    return cfg


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def with_gradient(model):
    return {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", RUNS)
def test_full_size_draws_masks_and_takes_a_step_on_meta(compose, name):
    cfg = configured(compose, name, 1)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
        side = model.vision.image_size
        images = torch.empty(2, 3, side, side, dtype=torch.uint8)
        ids = torch.zeros(2, 24, dtype=torch.long)
    assert isinstance(model, PixelModel)
    tokens = model.vision(images)
    bridged = model.bridge(tokens[..., : model.vision.dim])
    assert bridged.shape == (2, model.image_tokens, 4096)
    # Without the mask, whose values transformers looks at and meta has none of.
    read = torch.cat([bridged.to(model.lm.dtype), model.lm.embed(ids)], 1)
    hidden = model.lm.model.base_model(inputs_embeds=read).last_hidden_state
    rows = torch.zeros(3, dtype=torch.long, device="meta")
    if hasattr(model, "sam"):
        features = [torch.empty(2, 256, model.sam.grid, model.sam.grid, device="meta")]
    else:
        features = model.mask_features(None, tokens)
    prompts = model.masks.prompts(hidden[0, : 3 * len(model.seg_ids)].unflatten(0, (3, -1)))
    found = model.masks(features, prompts, rows, rows).logits
    assert found.shape == (3, model.masks.canvas, model.masks.canvas)
    logits = model.new.logits(model.lm, hidden[0], model.first_id)
    words = model.new.embed(model.lm, ids, model.first_id)
    (found.sum() + logits.sum() + words.sum()).backward()
    instantiate(cfg.optimizer)(model).step()
    assert with_gradient(model) == trained(model)
    own = {name for name in trained(model) if name.startswith("lm.")}
    assert own and all(".lora_" in name for name in own)
    assert not any(name.startswith(("vision.", "sam.")) for name in trained(model))


def batch(model):
    """A training batch of the model's own collate: an object, none, and a plain question."""
    samples = []
    for i in range(2):
        image = torch.full((3, 64, 64), 40 * i, dtype=torch.uint8)
        mask = torch.zeros(64, 64, dtype=torch.bool).numpy()
        mask[8:40, 8 + i : 40] = True
        thing = Instance(0, "ship", phrase="the ship", mask=mask, box=(8 + i, 8, 40, 40))
        turns = [
            Turn("user", "is there a tank ?", (0,), kind="vqa"),
            Turn("assistant", "yes", kind="vqa"),
        ]
        samples.append(
            Sample(
                [image], turns=turns if i else [], instances=[] if i else [thing], meta={"id": i}
            )
        )
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return model.collate(training=True, instructions={"tasks": ["segment"]})(
        [view[(0, i)] for i in range(2)]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", list(RUNS)[1:])
def test_a_narrow_one_takes_a_real_step(compose, name):
    cfg = configured(compose, name, 16)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    given = batch(model)
    assert sum(len(masks) for masks in given.masks) == 1
    optimizer = instantiate(cfg.optimizer)(model)
    losses = instantiate(cfg.loss)(model(given), given)
    assert set(losses) == {"answer", "mask_bce", "mask_dice"}
    total = sum(losses.values())
    total.backward()
    optimizer.step()
    assert torch.isfinite(total)
    assert with_gradient(model) == trained(model)


def test_stages_differ_in_data_and_rates_alone(compose):
    first, second = (compose("train", [f"experiment=geopix_stage{i}"]) for i in (1, 2))
    for group in ("loss", "task"):
        assert first[group] == second[group], group
    for node in (first.model, second.model):
        node.instructions = {}
    assert first.model == second.model


def test_six_in_ten_samples_of_the_second_stage_are_masks(compose):
    dataset = compose("train", ["experiment=geopix_stage2"]).data.dataset
    assert set(dataset.parts) == set(dataset.splits) == set(dataset.weights)
    mixture = Mixture(
        {name: lambda split: range(500) for name in dataset.parts},
        weights=dataset.weights,
        temperature=dataset.temperature,
        length=1000,
    )
    assert mixture.quota(0)["masks"] == 600
