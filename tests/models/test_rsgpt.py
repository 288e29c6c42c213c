"""RSGPT: parity with transformers' InstructBLIP, layouts, what is trained, texts, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from model_options import build

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.load import load_contents
from rsvlm.checkpoints.read import unwrap
from rsvlm.checkpoints.resolve import Source
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample, Turn
from rsvlm.errors import UserError
from rsvlm.inference.ask import ask
from rsvlm.losses.language import AnswerLoss

KEYS = Path(__file__).parents[1] / "keys"
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
EVA = {"image_size": 56, "dim": 32, "depth": 3, "heads": 4, "mlp_ratio": 2.0}
BRIDGE = {"queries": 6, "dim": 24, "layers": 3, "heads": 4, "hidden": 48, "dropout": 0.0}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' InstructBLIP with random weights in a folder, and itself."""
    from transformers import (
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        InstructBlipQFormerConfig,
        InstructBlipVisionConfig,
        LlamaConfig,
    )

    folder = tmp_path_factory.mktemp("instructblip")
    vision = InstructBlipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
        initializer_range=0.2,
    )
    qformer = InstructBlipQFormerConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        encoder_hidden_size=32,
        initializer_range=0.2,
        vocab_size=90,
        max_position_embeddings=64,
    )
    words = {k: v for k, v in LLAMA.items() if k != "model_type"}
    # The last row stands for images.
    config = InstructBlipConfig(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=LlamaConfig(**words, vocab_size=101, initializer_range=0.2).to_dict(),
        num_query_tokens=6,
        image_token_index=100,
    )
    torch.manual_seed(0)
    model = InstructBlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name == "query_tokens":
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return SimpleNamespace(path=folder, model=model)


def ours(width=48, **options):
    """Ours at the same sizes, random."""
    torch.manual_seed(1)
    return build(
        "rsgpt",
        vision=EVA,
        bridge={**BRIDGE, "vocab_size": 90, "positions": 64, "norm_eps": 1e-6},
        lm={
            "size": {**LLAMA, "vocab_size": 100, "hidden_size": width},
            "dtype": "float32",
            "special": "own",
        },
        chat={"max_instruction": 32},
        **options,
    )


def test_logits_equal_transformers(theirs):
    model = ours().eval()
    report = checkpoints.load(model, theirs.path)
    assert report.dialect == "InstructBLIP (transformers)"
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(2, 3, 56, 56, generator=generator)
    asked = torch.randint(5, 90, (2, 7), generator=generator)
    asked_mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    text = torch.randint(5, 100, (2, 9), generator=generator)
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    labels = text.masked_fill(mask == 0, -100)
    with torch.no_grad():
        expected = theirs.model(
            pixel_values=pixels,
            qformer_input_ids=asked,
            qformer_attention_mask=asked_mask,
            input_ids=torch.cat([torch.full((2, 6), 100), text], 1),
            attention_mask=torch.cat([torch.ones(2, 6, dtype=torch.long), mask], 1),
        ).logits[:, 5:-1]
        batch = SimpleNamespace(
            images=pixels,  # floats are normalised already
            image_rows=[(0,), (1,)],
            instruction_ids=asked,
            instruction_mask=asked_mask,
            input_ids=text,
            attention_mask=mask,
            labels=labels,
        )
        found = model(batch)
    # The last image place predicts the first word.
    want = torch.cat([expected[0, :9], expected[1, :6]])[:, :100]
    assert torch.allclose(found["logits"], want, **CLOSE)


@pytest.mark.parametrize(("size", "option"), [("7b", "rsgpt_7b"), ("13b", "rsgpt")])
def test_lavis_files_fill_exactly_what_is_trained(size, option, tmp_path):
    lines = (KEYS / f"instructblip_{size}.txt").read_text(encoding="utf-8").splitlines()
    names = {name: json.loads(shape) for name, shape in (line.split(" ", 1) for line in lines)}
    held = {name: torch.empty(shape, device="meta") for name, shape in names.items()}
    model = build(option, device="meta")
    report = load_contents(
        model,
        unwrap({"model": held}, tmp_path / "a.pth"),
        Source("a.pth"),
        towers=["vision", "lm"],
        dialects=model.dialects,
    )
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert report.dialect == "InstructBLIP (LAVIS)"
    assert report.dropped == ("Qformer.bert.embeddings.position_ids",)
    assert report.loaded == len(trained) and all(n.startswith("bridge.") for n in trained)


def test_both_layouts_are_written_back(theirs, tmp_path):
    model = ours()
    checkpoints.load(model, theirs.path)
    whole, lavis = model.dialects
    state = revert(model.state_dict(), whole)
    for name, value in theirs.model.state_dict().items():
        if "qkv.bias" in name or value.shape[0] == 101:
            continue  # the key's bias, and the row that stands for images
        torch.testing.assert_close(state[name], value, atol=0, rtol=0)
    held = revert(model.state_dict(), lavis)
    held = {n: v for n, v in held.items() if not n.startswith(("visual_encoder.", "llm_model."))}
    torch.save({"model": held}, tmp_path / "trimmed.pth")
    again = ours(64, new_projection=True)
    report = checkpoints.load(
        again, tmp_path / "trimmed.pth", new=["bridge.proj"], towers=["vision", "lm"]
    )
    assert set(report.fresh) == {"bridge.proj.weight", "bridge.proj.bias"}
    assert torch.equal(again.bridge.qformer.queries, model.bridge.qformer.queries)
    with pytest.raises(UserError, match=r"width 48, this one has 64"):
        checkpoints.load(
            ours(64),
            tmp_path / "trimmed.pth",
            towers=["vision", "lm"],
        )


def samples():
    image = torch.zeros(3, 56, 56, dtype=torch.uint8)
    asked = [Turn("user", "is there a road ?", (0,), kind="vqa"), Turn("assistant", "yes")]
    return [
        Sample([image], texts=["a road near a river"], meta={"id": "caption"}),
        Sample([image + 40], turns=asked, meta={"id": "question"}),
    ]


def batch(model, training, given=None):
    given = given or samples()
    view = TransformedDataset(given, model.preprocess, training=training, caption="all")
    return model.collate(training=training)([view[0, n] for n in range(len(given))])


def test_it_learns_with_the_language_model_frozen_and_asks_in_rsicaps_words():
    model = build("rsgpt_tiny", lm={"tuning": "frozen"}, train_vision=False).train()
    given = batch(model, True)
    assert given.prompts[1] == "is there a road ?" and "picture" in batch(model, False).prompts[0]
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = AnswerLoss()(model(given), given)["answer"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    idle = {f"bridge.qformer.{name}" for name in model.bridge.qformer.idle}
    assert moved and all(name.startswith("bridge.") for name in moved) and not moved & idle


def test_what_the_instruction_asks_changes_what_is_read():
    model = build("rsgpt_tiny").eval()
    given = batch(model, False, [samples()[1], samples()[1]])
    given.instruction_ids[1, 1] += 1
    tokens = model.tokens(given)
    first, second = model.project(given, tokens)
    assert not torch.allclose(first, second)
    assert not model.bitemporal and isinstance(
        ask(model, samples()[0].images, "Describe it.").text, str
    )


def test_two_images_are_read_one_by_one():
    model = build("rsgpt_tiny").eval()
    image = torch.zeros(3, 56, 56, dtype=torch.uint8)
    turns = [Turn("user", "is there a road ?", (0, 1), kind="vqa"), Turn("assistant", "yes")]
    both = Sample([image, image + 90], layout="interleaved", turns=turns, meta={"id": "two"})
    given = batch(model, False, [both])
    assert model.project(given, model.tokens(given)).shape[1] == 32


def test_long_instructions():
    model = build("rsgpt_tiny", chat={"max_instruction": 8, "max_prompt": 12})
    turns = [Turn("user", "road " * 10, (0,), kind="vqa"), Turn("assistant", "yes")]
    longer = [Turn("user", "road " * 30, (0,), kind="vqa"), Turn("assistant", "yes")]
    image = samples()[0].images[0]
    given = batch(
        model,
        False,
        [
            Sample([image], turns=turns, meta={"id": 1}),
            Sample([image], turns=longer, meta={"id": 2}),
        ],
    )
    assert given.instruction_ids.shape == (1, 8) and len(given) == 1
    assert "the question alone has 30 words" in given.skipped[0]
    with pytest.raises(UserError, match=r"max_instruction=600: the Q-Former reads at most 512"):
        build("rsgpt_tiny", chat={"max_instruction": 600})
