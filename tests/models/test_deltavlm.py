"""DeltaVLM: parity, the published layout and trainable set, training and answers at tiny sizes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from golden_case import read_case
from model_options import build

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.load import load_contents
from rsvlm.checkpoints.read import unwrap
from rsvlm.checkpoints.resolve import Source
from rsvlm.data.collate.chat import ChatCollate
from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Sample, SampleError, Turn
from rsvlm.encoders.tokenizers import words_of
from rsvlm.errors import UserError
from rsvlm.models.deltavlm.model import GENERATION, prompt_options
from rsvlm.nn.feature_cache import FeatureCache

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASE = Path(GOLDEN or "") / "deltavlm"
KEYS = Path(__file__).parents[1] / "keys" / "deltavlm.txt"
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
SIZES = {"dim": 32, "layers": 4, "heads": 4, "hidden": 48, "queries": 4, "dropout": 0.0}
WORDS = words_of(["q please describe the changes a no change road is built house 1 2 3 yes"])


def of_case(config, **bridge):
    """The model at a parity case's sizes."""
    return build(
        "deltavlm",
        vision={
            "image_size": config["img_size"],
            "patch_size": config["patch_size"],
            "dim": config["embed_dim"],
            "depth": config["depth"],
            "heads": config["num_heads"],
            "mlp_ratio": config["mlp_ratio"],
        },
        bridge={
            "queries": config["num_query_token"],
            "dim": config["hidden_size"],
            "layers": config["num_hidden_layers"],
            "heads": config["num_attention_heads"],
            "hidden": config["intermediate_size"],
            "vocab_size": config["vocab_size"],
            **bridge,
        },
        lm={
            "size": {
                "model_type": "llama",
                "hidden_size": config["llm_hidden"],
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "vocab_size": 16,
            },
            "special": "own",
            "dtype": "float32",
        },
        train_blocks=min(2, config["depth"]),
    )


def same(found, expected):
    """A large case keeps every k-th position or channel only."""
    steps = [-(-n // m) for n, m in zip(found.shape, expected.shape, strict=True)]
    thinned = found[tuple(slice(None, None, step) for step in steps)]
    torch.testing.assert_close(thinned, expected, **CLOSE)


@pytest.mark.parity("deltavlm")
@pytest.mark.parametrize("variant", ["released", "bypass"])
def test_deltavlm_equals_the_published_code(tmp_path, variant):
    case = read_case(CASE)
    positions = case.spec["state"]["Qformer.bert.embeddings.position_embeddings.weight"][0]
    model = of_case(case.spec["config"], variant=variant, positions=positions).eval()
    torch.save({"model": case.state(), "epoch": 3, "config": {}}, tmp_path / "checkpoint_best.pth")
    report = checkpoints.load(model, tmp_path / "checkpoint_best.pth", towers=["lm"])
    assert report.dialect == "DeltaVLM" and not report.fresh
    assert all(name.startswith("lm.") for name in report.missing)
    csrm = [name for name in report.dropped if name.startswith(("context", "gate"))]
    assert len(csrm) == (0 if variant == "released" else 8)
    inputs, expected = case.inputs(), case.tensors
    pair = torch.stack([inputs["input.image_a"], inputs["input.image_b"]], dim=1)
    rows = [(2 * i, 2 * i + 1) for i in range(len(pair))]
    batch = SimpleNamespace(
        images=pair.flatten(0, 1),
        image_rows=rows,
        instruction_ids=expected["input_ids"],
        instruction_mask=expected["attention_mask"],
    )
    with torch.no_grad():
        tokens = model.vision(batch.images).unflatten(0, (-1, 2))
        before = model.bridge.norm(tokens)[:, 0]
        changes = model.bridge.change_tokens(tokens)
        queries = model.bridge.qformer(changes, batch.instruction_ids, batch.instruction_mask)
        visual = model.encode_images(batch)
    same(before, expected["vision_before"])
    if variant == "released":
        same(changes, expected["change_tokens"])
        same(queries, expected["query_output"])
        same(visual, expected["llm_inputs"])
    else:
        same(visual, expected["llm_inputs_plain"])


def tiny(seed=0, vision=None, lm=None, **bridge):
    torch.manual_seed(seed)
    sizes = {"image_size": 28, "dim": 32, "depth": 3, "heads": 4, **(vision or {})}
    return build(
        "deltavlm",
        vision=sizes,
        bridge={**SIZES, "words": WORDS, "csrm_dropout": 0.0, **bridge},
        lm={"size": "tiny", "words": WORDS, "dtype": "float32", **(lm or {})},
    )


QUESTION = "Please describe the changes."


def item(number, answer, history=()):
    generator = torch.Generator().manual_seed(number)
    images = [torch.randint(0, 256, (3, 28, 28), generator=generator, dtype=torch.uint8)]
    images.append(images[0] if "no" in answer else 255 - images[0])
    turns = [Turn("user", QUESTION, image_ids=(0, 1)), Turn("assistant", answer)]
    for asked, said in history:
        turns[:0] = [Turn("user", asked), Turn("assistant", said)]
    sample = Sample(images, layout="before_after", turns=turns, meta={"id": f"p{number}"})
    return TransformedSample(number, sample, key=(0, 0, number))


def batch(model, count=3, generation=False, style="train", **options):
    answers = ["no change", "a road is built", "a house is built 1 2 3"]
    collate = ChatCollate(
        model.lm.tokenizer,
        qformer=model.bridge.tokenizer,
        generation=generation,
        **{**prompt_options(style), **options},
    )
    return collate([item(n, answers[n % 3]) for n in range(count)])


def loss_of(outputs):
    return torch.nn.functional.cross_entropy(outputs["logits"].float(), outputs["targets"])


def test_gradients_reach_exactly_the_published_trainable_set():
    model = tiny().train()
    assert not model.lm.model.training
    loss_of(model(batch(model))).backward()
    without = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    # The text's feed-forward block of the last layer: no output depends on it.
    assert without == {
        n for n, _ in model.named_parameters() if n.startswith("bridge.qformer.layers.3.mlp_text")
    }
    for name, parameter in model.named_parameters():
        trained = name.startswith(("bridge.", "vision.blocks.1.", "vision.blocks.2."))
        assert parameter.requires_grad == trained, name
        assert trained or parameter.grad is None


@pytest.mark.parametrize(
    "variant",
    ["released", *(pytest.param(v, marks=pytest.mark.slow) for v in ("paper", "bypass"))],
)
def test_it_learns_and_answers(variant):
    model = tiny(variant=variant, lm={"tuning": "full"})
    data = batch(model)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    model.train()
    first = loss_of(model(data)).item()
    for _ in range(80):
        optimizer.zero_grad()
        loss = loss_of(model(data))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first
    answers = model.generate(batch(model, generation=True), num_beams=2, max_new_tokens=8)
    assert [a.text for a in answers] == ["no change", "a road is built", "a house is built 1 2 3"]
    assert model.training and all(a.score <= 0 for a in answers)


def test_a_batch_answers_as_its_rows_alone():
    model = tiny().eval()
    options = {"num_beams": 3, "max_new_tokens": 6, "num_return_sequences": 2}
    rows = [item(n, "no change", history=[("yes", "no")] * n) for n in range(3)]
    collate = ChatCollate(
        model.lm.tokenizer,
        qformer=model.bridge.tokenizer,
        generation=True,
        **prompt_options("eval"),
    )
    together = model.generate(collate(rows), **options)
    for row, answer in zip(rows, together, strict=True):
        (alone,) = model.generate(collate([row]), **options)
        assert alone.text == answer.text and len(answer.candidates) == 2
        # Measured: 5e-7; padding is summed in another order.
        assert alone.score == pytest.approx(answer.score, abs=1e-5)


def test_order_of_dates_and_instruction_matter():
    model = tiny().eval()
    data = batch(model)
    with torch.no_grad():
        plain = model.encode_images(data)
        data.image_rows = [row[::-1] for row in data.image_rows]
        assert (model.encode_images(data) - plain).abs().max() > 1e-4
        data.image_rows = [row[::-1] for row in data.image_rows]
        data.instruction_ids = data.instruction_ids.flip(1)
        assert (model.encode_images(data) - plain).abs().max() > 1e-4


@pytest.mark.parametrize("mask_head", [False, True])
def test_packed_rows_learn_what_rows_alone_learn(mask_head):
    alone = tiny().train()
    packed = tiny().train()
    packed.packing = "rows"
    data = batch(alone, style="train")
    found = []
    for model in (alone, packed):
        if mask_head:  # its way through `forward` is another one
            model.mask_head = torch.nn.Identity()
            model.predict_masks = lambda batch, tokens: tokens.sum()
        loss = loss_of(model(data))
        loss.backward()
        found.append((loss.detach(), {n: p.grad for n, p in model.named_parameters()}))
    (whole, expected), (rows, given) = found
    torch.testing.assert_close(rows, whole, atol=1e-5, rtol=0)
    for name, gradient in expected.items():
        assert (gradient is None) == (given[name] is None), name
        if gradient is not None:
            torch.testing.assert_close(given[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


def test_what_an_instruction_reads_cannot_be_shared():
    assert build("deltavlm_tiny", packing="rows").packing == "rows"
    with pytest.raises(UserError, match=r"set model.packing=rows"):
        build("deltavlm_tiny", packing="shared")


def test_cached_features_give_the_same_loss_and_gradients():
    model = tiny().train()
    data = batch(model)
    features = model.frozen_features(data.images)
    found = []
    for given in (None, features):
        model.zero_grad()
        loss = loss_of(model(data, given))
        loss.backward()
        found.append([loss, *(p.grad for p in model.parameters() if p.grad is not None)])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_a_run_with_a_feature_cache_is_the_run_without():
    losses = []
    for gib in (0.0, 1.0, 2e-6):
        model = tiny()
        model.cache = FeatureCache(gib) if gib else None
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        model.train()
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(model(batch(model)))
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
        if model.cache is not None:
            # Three pairs, one of which shows the same picture twice; a batch holds it once.
            asked = 3 * 5
            assert model.cache.hits + model.cache.misses == asked
            assert model.cache.misses == (5 if gib == 1.0 else 3 * 5 - 2 * len(model.cache.kept))
            model.generate(batch(model, generation=True), max_new_tokens=1)
            assert model.cache.hits + model.cache.misses == asked
    # A tower's products round by the number of pictures in them, which the cache changes: one
    # unit of the last place (5e-7 of 5.49) after three steps on one machine, none on another.
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-6)


def test_maps_show_where_the_dates_differ():
    model = tiny().eval()
    rows = [item(n, "no change") for n in range(2)]
    rows[1].sample.images[1] = rows[1].sample.images[0].clone()
    rows[1].sample.images[1][:, :14, :14] = 0
    maps = model.maps(model.collate(training=False)(rows))
    assert {name: tuple(grid.shape) for name, grid in maps.items()} == dict.fromkeys(
        ("difference", "attention_before", "attention_after"), (2, 2, 2)
    )
    assert maps["difference"][0].max() == 0
    assert maps["difference"][1].argmax() == 0
    both = maps["attention_before"].sum((1, 2)) + maps["attention_after"].sum((1, 2))
    assert (both < 1).all() and (both > 0.5).all()  # the class tokens have the rest


def test_our_own_checkpoint_gives_the_same_answers_and_knows_its_variant(tmp_path):
    source = tiny(seed=1)
    torch.save(checkpoints.pack(source), tmp_path / "last.ckpt")
    model = tiny()
    checkpoints.load(model, tmp_path / "last.ckpt")
    data = batch(model, generation=True)
    options = {"max_new_tokens": 4, "num_beams": 2}
    assert model.generate(data, **options) == source.generate(data, **options)
    with pytest.raises(UserError, match="variant is released, here it is paper"):
        checkpoints.check_packed(tiny(variant="paper"), checkpoints.pack(source))


def test_legacy_mismatch_trains_without_and_generates_with_csrm():
    model = tiny(legacy_mismatch=True).train()
    loss_of(model(batch(model))).backward()
    assert all(p.grad is None for p in model.bridge.csrm.parameters())
    with torch.no_grad():
        data = batch(model)
        assert not torch.allclose(
            model.train().encode_images(data), model.eval().encode_images(data)
        )


def test_a_mask_head_learns_beside_the_answers_and_fills_masks():
    from rsvlm.data.geometry import identity
    from rsvlm.losses.change_mask import AnswerAndMaskLoss
    from rsvlm.models.deltavlm.mask_head import MaskHead

    model = tiny()
    model.mask_head = MaskHead(bases=16, widths=(16, 8), window=3, size=16)
    rows = [item(n, "no change") for n in range(3)]
    with pytest.raises(SampleError, match=r"has no change mask.*mask_head=null"):
        model.collate(training=True)(rows)
    for n, row in enumerate(rows):
        mask = np.zeros((28, 28), np.uint8)
        mask[: 7 * n] = 2
        row.sample.meta["change_mask"] = mask
    data = model.collate(training=True)(rows)
    assert data.change_mask.dtype == torch.bool and data.change_mask.sum() == 3 * 7 * 28
    outputs = model.train()(data)
    losses = AnswerAndMaskLoss(weight=0.5)(outputs, data)
    assert set(losses) == {"answer", "change_mask"}
    # Computed once: the answers do not notice the head.
    torch.testing.assert_close(losses["answer"], loss_of(outputs))
    losses["change_mask"].backward()
    got = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert got == {"mask_head", "bridge", "vision"}
    for stored in (False, True):
        data = model.collate(training=False)(rows)
        if stored:
            data.geometry = [(identity(40, 56).resize(28, 28),) * 2] * 3
        answers = model.generate(data, max_new_tokens=2, num_beams=1)
        assert all(len(a.masks) == 1 and a.masks[0].dtype == bool for a in answers)
        assert {a.masks[0].shape for a in answers} == {(40, 56) if stored else (28, 28)}


# The published file ---------------------------------------------------------------------------


def manifest():
    lines = [line.split(" ", 1) for line in KEYS.read_text().splitlines()]
    return {name: torch.empty(json.loads(shape), device="meta") for name, shape in lines}


@pytest.fixture(scope="module")
def full():
    return build("deltavlm", device="meta")


def test_deltavlm_manifest_loads_at_full_size(full, tmp_path):
    contents = unwrap({"epoch": 1, "model": manifest()}, tmp_path / "checkpoint_best.pth")
    source = Source("checkpoint_best.pth")
    report = load_contents(full, contents, source, towers=["vision", "lm"], dialects=full.dialects)
    trained = {name for name, p in full.named_parameters() if p.requires_grad}
    assert report.loaded == len(trained)
    assert set(report.missing) == set(full.state_dict()) - trained
    unused = {"temp", "vision_proj.weight", "vision_proj.bias", "text_proj.weight"}
    assert {*unused, "text_proj.bias"} < set(report.dropped) < set(manifest())
    assert len(report.dropped) == 5 + 1 + 32


def test_trainable_set_is_the_published_one(full):
    trained = sum(p.numel() for p in full.parameters() if p.requires_grad)
    unused = ("temp", "vision_proj.", "text_proj.")
    heads = sum(v.numel() for n, v in manifest().items() if n.startswith(unused))
    assert trained == 253_216_384 and heads == 393_729
    assert trained + heads == 253_610_113


def published(model):
    """A published file of a tiny model: what is trained, in the published names."""
    kept = {n for n, p in model.named_parameters() if p.requires_grad}
    state = {n: v for n, v in model.state_dict().items() if n in kept}
    return revert(state, model.dialects[0])


def test_a_partial_file_loads_over_its_towers_and_nothing_else_changes(tmp_path):
    source, model = tiny(seed=1), tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save({"model": published(source), "epoch": 1}, tmp_path / "a.pth")
    checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    for name, value in model.state_dict().items():
        expected = source.state_dict()[name] if name in trained else before[name]
        assert torch.equal(value, expected), name


@pytest.mark.parametrize(
    ("cut", "sentence", "fresh"),
    [
        ("context", "It lacks the CSRM.", "bridge.csrm"),
        ("visual_encoder.blocks.2.", "It lacks the trained vision block 2.", "vision.blocks.2"),
    ],
)
def test_without_csrm_or_trained_blocks_loading_fails(tmp_path, cut, sentence, fresh):
    model = tiny()
    state = {n: v for n, v in published(tiny(seed=1)).items() if not n.startswith(cut)}
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(UserError) as error:
        checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    assert sentence in str(error.value) and f"init_new=[{fresh}]" in str(error.value)
    assert cut in str(error.value)  # in the file's own names
    # Said outright, the part stays as it is: the way from InstructBLIP's weights.
    report = checkpoints.load(
        model, tmp_path / "a.pth", new=[fresh], towers=["vision.blocks.0", "lm", "vision"]
    )
    assert report.fresh and all(name.startswith(fresh) for name in report.fresh)


def test_another_variant_with_a_published_file_is_an_error(tmp_path):
    torch.save({"model": published(tiny(seed=1))}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"published DeltaVLM checkpoint.*variant=released"):
        checkpoints.load(tiny(variant="paper"), tmp_path / "a.pth", towers=["vision", "lm"])
    report = checkpoints.load(tiny(variant="bypass"), tmp_path / "a.pth", towers=["vision", "lm"])
    assert sum(name.startswith(("context", "gate")) for name in report.dropped) == 8


def test_a_csrm_that_was_never_trained_is_told(tmp_path):
    source = tiny(seed=1, vision={"dim": 128})
    torch.save({"model": published(source)}, tmp_path / "a.pth")
    model = tiny(vision={"dim": 128})
    with pytest.warns(UserWarning, match="never trained"):
        report = checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    assert "model.bridge.variant=bypass" in str(report)
    with torch.no_grad():
        for parameter in source.bridge.csrm.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    torch.save({"model": published(source)}, tmp_path / "a.pth")
    report = checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    assert "never trained" not in str(report)


# Prompts and bad input ------------------------------------------------------------------------


def test_prompt_styles_are_the_three_published_ones():
    model = tiny()
    for style, expected in {
        "train": "q please describe the changes",
        "eval": "please describe the changes",
        "raw": "Please describe the changes.",
    }.items():
        data = batch(model, 1, style=style)
        (ids,) = data.input_ids.masked_fill(data.labels != -100, 2).tolist()
        assert ids[0] == 2  # </s>, not <s>
        assert model.lm.tokenizer.decode(ids, skip_special_tokens=True).strip() == expected
        assert data.instructions == [expected]
        (answer,) = data.labels.masked_select(data.labels != -100)[None].tolist()
        assert answer[-1] == 2
        assert model.decode(answer) == "no change"
    with pytest.raises(UserError, match="prompt_style='training'"):
        prompt_options("training")


def test_published_cut_loses_the_question_and_ours_the_history():
    model = tiny()
    history = [("is a road built", "yes a road is built near the house " * 6)]
    row = item(1, "a road is built", history)
    for published_cut, there in ((True, False), (False, True)):
        options = prompt_options("train", published=published_cut)
        collate = ChatCollate(
            model.lm.tokenizer,
            qformer=model.bridge.tokenizer,
            **{**options, "max_words": 40, "max_prompt": 60},
        )
        data = collate([row])
        assert ("describe the changes" in data.prompts[0].lower()) == there, data.prompts
        assert data.truncated == 1


def test_bad_input_says_what_to_do():
    model = tiny().eval()
    data = batch(model, generation=True)
    data.image_rows = [row[:1] for row in data.image_rows]
    with pytest.raises(UserError, match="give before and after"):
        model.generate(data)
    data.image_rows = [(0, 1), (2,), (4, 5)]
    with pytest.raises(UserError, match="dialogues of 1, 2"):
        model.generate(data)
    data = batch(model, generation=True)
    with pytest.raises(UserError, match="leaves room for"):
        model.generate(data, max_new_tokens=600)
    data.input_ids = data.input_ids.repeat(1, 120)
    data.attention_mask, data.labels = (
        x.repeat(1, 120) for x in (data.attention_mask, data.labels)
    )
    with pytest.raises(UserError, match=r"window of 512.*max_length=512"):
        model.generate(data)


def test_published_generation_is_the_default():
    assert (
        tiny().generation
        == GENERATION
        == {
            "num_beams": 5,
            "repetition_penalty": 1.5,
            "max_new_tokens": 255,
        }
    )
