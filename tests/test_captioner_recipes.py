"""SkyEyeGPT's and LLaVA's recipes take one optimiser step: full size on `meta`, and for real.

The real step divides all widths by 16, takes two samples (eight need 11 GiB for their attention)
and keeps every other number as published: layers, heads, patches, ranks, dropout, optimiser,
schedule.
"""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate

from rsvlm.data.loading.mixture import Mixture
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, Turn
from rsvlm.errors import UserError
from rsvlm.lit.optim import adamw, warmup_cosine

RUNS = {
    "skyeyegpt_stage1": ["experiment=skyeyegpt_stage1"],
    "llava_full": ["experiment=llava_rsgpt4v", "model.tuning=full"],
    "llava_lora": ["experiment=llava_rsgpt4v", "model.tuning=lora"],
    "llava_moe_lora": ["experiment=llava_rsgpt4v", "model.tuning=moe_lora"],
    "geochat": ["experiment=geochat_instruct"],
    "geochat_rswk": ["experiment=geochat_rswk"],
}
#: The same model as another, on other data.
SLOW = {"geochat_rswk"}
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in RUNS]


def configured(compose, name, divide):
    """The recipe with a word list in place of the tokenizer's download, at 1 / `divide` width."""
    cfg = compose("train", [*RUNS[name], "optimizer.fused=false"])
    cfg.model.lm.words, cfg.model.lm.tokenizer = "world", None
    if divide > 1:
        if "dim" in cfg.model.vision:
            cfg.model.vision.dim = 96  # 88, and divisible by the 16 heads
        else:
            size = cfg.model.vision.image_size
            arch = {"patch_size": 14, "width": 64, "layers": 24, "heads": 16}
            cfg.model.vision.arch = {"image_size": size, **arch}
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


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def with_gradient(model):
    return {name for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NAMES)
def test_full_size_takes_a_step_on_meta(compose, name):
    cfg = configured(compose, name, 1)
    with torch.device("meta"):
        model = instantiate(cfg.model).train()
        images = torch.empty(
            cfg.data.batch_size, 3, model.image_size, model.image_size, dtype=torch.uint8
        )
        ids = torch.zeros(cfg.data.batch_size, 24, dtype=torch.long)
    bridged = model.bridge(model.vision(images))
    assert bridged.shape == (cfg.data.batch_size, model.image_tokens, 4096)
    text = model.lm.embed(ids)
    # Without the mask, whose values transformers looks at and meta has none of.
    read = torch.cat([bridged.to(text.dtype), text], 1)
    hidden = model.lm.model.base_model(inputs_embeds=read).last_hidden_state
    model.lm.model.get_output_embeddings()(hidden).sum().backward()
    optimizer = instantiate(cfg.optimizer)(model)
    optimizer.step()
    assert with_gradient(model) == trained(model)
    assert not any(name.startswith("vision.") for name in trained(model))
    if cfg.model.tuning != "full":
        adapter_parts = {".lora_A.", ".lora_B."} if cfg.model.tuning == "lora" else {".moe."}
        own = {name for name in trained(model) if name.startswith("lm.")}
        assert own and all(any(part in name for part in adapter_parts) for name in own)


def batch(model, count):
    """A training batch of the model's own collate: short and longer answers, a dialogue."""
    image = torch.zeros(3, model.image_size, model.image_size, dtype=torch.uint8)
    samples = []
    for i in range(count):
        turns = [
            Turn("user", "is there a tank in the image ?", (0,), kind="vqa"),
            Turn("assistant", "yes" if i % 2 else "no", kind="vqa"),
        ]
        if i % 3 == 0:
            turns += [
                Turn("user", "where is it ?", kind="dialogue"),
                Turn("assistant", "it is near a road and a large building", kind="dialogue"),
            ]
        samples.append(Sample([image + 10 * i], turns=turns, meta={"id": i}))
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return model.collate(training=True)([view[(0, i)] for i in range(count)])


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_narrow_one_takes_a_real_step(compose, name):
    cfg = configured(compose, name, 16)
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    given = batch(model, 2)
    optimizer = instantiate(cfg.optimizer)(model)
    schedule = instantiate(cfg.scheduler)(optimizer, total_steps=1000)
    losses = instantiate(cfg.loss)(model(given), given)
    assert set(losses) == ({"answer", "balance"} if "moe" in name else {"answer"})
    total = sum(losses.values())
    total.backward()
    optimizer.step()
    schedule.step()
    assert torch.isfinite(total)
    assert with_gradient(model) == trained(model)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved <= trained(model)
    # Behind a factor of zero, LoRA's A and the router have no gradient in the first step.
    waiting = (".lora_A.", ".moe.down", ".moe.router.")
    still = {n for n in trained(model) - moved if not any(w in n for w in waiting)}
    # The first rate of the warm-up moves no norm's float32 weight of 1.
    assert all(before[n].ndim == 1 for n in still), still


def test_the_second_stage_trains_as_the_first(compose):
    first, second = (compose("train", [f"experiment=skyeyegpt_stage{i}"]) for i in (1, 2))
    for group in ("model", "loss", "optimizer", "scheduler", "task", "evaluation"):
        assert first[group] == second[group], group
    assert first.data.batch_size == second.data.batch_size
    assert first.data.order == second.data.order == "grouped"


def rates(cfg, model):
    return {group["name"]: group["lr"] for group in instantiate(cfg.optimizer)(model).param_groups}


@pytest.mark.parametrize(("tuning", "rate"), [("full", 2e-5), ("lora", 2e-4), ("moe_lora", 2e-4)])
def test_each_tuning_has_its_rate_and_the_projector_its_own(compose, tuning, rate):
    words = ["experiment=llava_rsgpt4v", "optimizer.fused=false"]
    cfg = compose("train", words)
    tiny = compose("train", [*words, "model=llava_tiny", f"model.tuning={tuning}"])
    tiny.model.lm.tokenizer = None
    model = instantiate(tiny.model)
    model.vision.requires_grad_(False)
    found = rates(cfg, model)
    assert found.pop("bridge.decay") == found.pop("bridge.no_decay") == 2e-5
    assert set(found.values()) == {rate}
    plain = compose("train", [*words, "optimizer.lr=1e-3"])
    assert rates(plain, model)["decay"] == 1e-3


def test_a_rate_that_nothing_takes_is_told():
    model = torch.nn.ModuleDict({"bridge": torch.nn.Linear(2, 2), "lm": torch.nn.Linear(2, 2)})
    with pytest.raises(UserError, match=r"rates for model\.tuning=full, lora, the model's is None"):
        adamw(model, lr={"full": 1.0, "lora": 2.0})
    with pytest.raises(UserError, match=r"optimizer\.parts: nothing of 'brige'.*Did you mean brid"):
        adamw(model, lr=1.0, parts={"brige": 1.0})


def test_a_warm_up_may_start_above_nothing():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = warmup_cosine(
        optimizer, total_steps=100, warmup_steps=10, start_lr_ratio=0.1, min_lr_ratio=0.1
    )
    found = []
    for _ in range(100):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found[0] == pytest.approx(0.19) and found[9] == pytest.approx(1.0)
    assert max(found) == pytest.approx(1.0) and 0.1 < found[-1] < 0.11


#: SkyEye-968k's parts in thousands (its table).
SIZES = {
    "captions": 209.5,
    "rsvqa_hr": 625.3,
    "rsvqa_lr": 57.2,
    "questions": 19.2,
    "places": 39.3,
    "conversations": 18.3,
}


@pytest.mark.parametrize(
    ("recipe", "word", "share"),
    [("skyeyegpt_stage1", "rsvqa_hr", 0.43), ("skyeyegpt_stage2", "conversations", 0.5)],
)
def test_no_source_crowds_out_the_others(compose, recipe, word, share):
    cfg = compose("train", [f"experiment={recipe}"])
    dataset = cfg.data.dataset
    assert set(dataset.parts) == set(dataset.splits) == set(SIZES)
    parts = {name: partial(_of, int(1000 * size)) for name, size in SIZES.items()}
    mixture = Mixture(
        parts,
        weights=dataset.weights,
        temperature=dataset.temperature,
        length=dataset.length,
    )
    quota = mixture.quota(0)
    assert quota[word] / dataset.length == pytest.approx(share, abs=0.01)
    assert (quota["conversations"] == 0) == (recipe == "skyeyegpt_stage1")
    # A step has one source; what fills no batch is left out, at most one step of each source.
    steps = sum(count // cfg.data.batch_size for count in quota.values())
    assert 1000 - len(SIZES) < steps <= 1000


def _of(count, split):
    return range(count)
