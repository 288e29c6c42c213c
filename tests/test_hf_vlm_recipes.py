"""The recipes over models of transformers take one real optimiser step, widths divided by 16."""

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.app.run_folder import source_of
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample
from rsvlm.encoders.hf_vlm_sizes import image_text_sizes_of
from rsvlm.lit.base import LitBase
from rsvlm.lit.generative import Generative


def narrow(name):
    """A published model's sizes with its widths divided by 16: layers, heads, patches stay."""
    sizes = image_text_sizes_of(name)
    for part, words in {
        "text_config": ("hidden_size", "intermediate_size"),
        "vision_config": ("hidden_size", "intermediate_size", "out_hidden_size"),
    }.items():
        sizes[part] |= {word: sizes[part][word] // 16 for word in words}
    text = sizes["text_config"]
    text["pad_token_id"], text["bos_token_id"], text["eos_token_id"] = 0, 1, 2
    # A third of the rotary frequencies each, of which there are four now.
    text["rope_parameters"] = {**text["rope_parameters"], "mrope_section": [2, 1, 1]}
    sizes["vision_config"]["hidden_size"] = 128  # 80, and four frequencies for each of 16 heads
    return sizes


def configured(compose, recipe, size):
    """The recipe with a word list in place of a download."""
    cfg = compose("train", [f"experiment={recipe}", "optimizer.fused=false"])
    assert cfg.model.lm.weights.startswith("hf://") and cfg.data.augment is None
    cfg.model.lm.size = size
    cfg.model.lm.weights, cfg.model.lm.words, cfg.model.lm.dtype = None, "world", "float32"
    return cfg


def batch_of(model):
    samples = [
        Sample(
            [torch.randint(0, 256, (3, 60, 80), dtype=torch.uint8)],
            texts=["a road between two houses"],
            meta={"id": str(i)},
        )
        for i in range(2)
    ]
    view = TransformedDataset(samples, model.preprocess, training=False)
    return model.collate(training=True)([view[0, i] for i in range(2)])


@pytest.mark.parametrize(
    ("recipe", "asked"), [("hf_vlm_rsicd", "sentence"), ("hf_vlm_vrsbench", "detail")]
)
def test_each_asks_for_its_kind_of_caption(compose, recipe, asked):
    model = instantiate(configured(compose, recipe, "tiny_qwen2_5_vl").model)
    batch = batch_of(model)
    assert len(batch) == 2 and all(asked in prompt for prompt in batch.prompts)


def test_a_narrow_one_takes_a_real_step(compose):
    pytest.importorskip("peft")
    cfg = configured(compose, "hf_vlm_rsicd", narrow("qwen2_5_vl_3b"))
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    batch = batch_of(model)
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=100)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for _ in range(2):  # LoRA's A moves once B has
        optimizer.zero_grad()
        total = sum(instantiate(cfg.loss)(model(batch), batch).values())
        total.backward()
        optimizer.step()
        schedule.step()
    assert torch.isfinite(total)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(moved) == 2 * 7 * 36 and all(".lora_" in name for name in moved)


def test_what_is_measured_and_what_is_saved_have_the_weights_name(compose):
    part = torch.nn.Linear(2, 2).requires_grad_(False)
    model = torch.nn.ModuleDict({"lm": part})
    assert source_of(None, model) == "random" and source_of("last.ckpt", model) == "last.ckpt"
    part.weights = "hf://org/name"
    assert source_of(None, model) == "hf://org/name"
    assert source_of(None, torch.nn.Linear(2, 2)) == "random"
    config = {"model": {"lm": {"weights": "hf://org/name"}}}
    task = type("Task", (Generative,), {"__init__": LitBase.__init__})(model=model, config=config)
    assert task.towers == {"lm": "hf://org/name"}
