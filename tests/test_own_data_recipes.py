"""The recipes for one's own data: what is asked, what is trained, and that a step fits 24 GB."""

import sys

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn

BIG = ("clip_finetune", "vlm_lora", "change_finetune", "grounding_finetune", "masks_finetune")


def picture():
    return torch.randint(0, 256, (3, 56, 56), dtype=torch.uint8)


SAMPLES = {
    "vlm_lora": Sample(
        [picture()],
        turns=[Turn("user", "is there a road ?", (0,)), Turn("assistant", "yes")],
        meta={"id": "0"},
    ),
    "change_finetune": Sample(
        [picture(), picture()],
        layout="before_after",
        texts=["a house was built"],
        meta={"id": "0", "changeflag": 1},
    ),
    "grounding_finetune": Sample(
        [picture()],
        instances=[Instance(i, "ship", box=(4 + 20 * i, 4, 20 + 20 * i, 20)) for i in range(2)],
        meta={"id": "0"},
    ),
}


@pytest.mark.parametrize(
    ("recipe", "asked", "answered"),
    [
        ("vlm_lora", "is there a road", "yes"),
        ("change_finetune", "What has changed", "a house was built"),
        ("grounding_finetune", "Locate every ship", "bbox_2d"),
    ],
)
def test_a_vlm_is_asked_for_its_task_and_takes_a_step(compose, recipe, asked, answered):
    pytest.importorskip("peft")
    cfg = compose("train", [f"experiment={recipe}", "optimizer.fused=false"])
    assert cfg.model.lm.weights.startswith("hf://") and cfg.model.tuning == "lora"
    cfg.model.lm.size, cfg.model.lm.weights = "tiny_qwen2_5_vl", None
    cfg.model.lm.words, cfg.model.lm.dtype = "world", "float32"
    model = instantiate(cfg.model).train()
    view = TransformedDataset([SAMPLES[recipe]] * 2, model.preprocess, training=False)
    batch = model.collate(training=True)([view[0, i] for i in range(2)])
    assert all(asked in prompt for prompt in batch.prompts)
    written = model.tokenizer.decode(batch.input_ids[0])
    assert answered in written
    if recipe == "change_finetune":
        assert batch.inputs["image_grid_thw"].shape[0] == 4  # two pictures a row
    optimizer = instantiate(cfg.optimizer)(model)
    loss = sum(instantiate(cfg.loss)(model(batch), batch).values())
    loss.backward()
    optimizer.step()
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert torch.isfinite(loss) and trained and all(".lora_" in name for name in trained)


def test_each_has_a_small_one_for_two_cores(compose, root):
    found = {p.stem for p in (root / "conf/experiment").glob("*.yaml")}
    for recipe in BIG:
        assert f"{recipe}_tiny" in found
        big, tiny = (compose("train", [f"experiment={recipe}{end}"]) for end in ("", "_tiny"))
        assert big.data.dataset._target_ == tiny.data.dataset._target_
        text = (root / f"conf/experiment/{recipe}.yaml").read_text()
        assert "GiB" in text and "benchmarks/finetune_memory.py" in text


@pytest.mark.slow
@pytest.mark.parametrize("recipe", BIG)
def test_a_step_at_full_size_fits_a_gpu_of_24_gb(root, monkeypatch, recipe):
    """Counted on tensors without numbers; 4 GiB stay for a GPU's own needs."""
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    sys.modules.pop("finetune_memory", None)
    import finetune_memory

    found = finetune_memory.count(recipe, [])
    assert 0.5 < found["weights"] < found["step"] < 20
