"""BLIP-2: parity with transformers and peft, layouts, what each tuning trains, texts, bad input."""

from __future__ import annotations

import copy
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
from rsvlm.encoders.eva import EvaViT
from rsvlm.errors import UserError
from rsvlm.inference.ask import ask
from rsvlm.losses.language import AnswerLoss
from rsvlm.models.blip2.model import TUNING

KEYS = Path(__file__).parents[1] / "keys"
CLOSE = {"atol": 1e-4, "rtol": 0.0}  # the project's bound for parity
EVA = {"image_size": 56, "dim": 32, "depth": 3, "heads": 4, "mlp_ratio": 2.0}
BRIDGE = {"queries": 8, "dim": 24, "layers": 3, "heads": 4, "hidden": 48, "dropout": 0.0}
TEXTS = ["a photo of a house near the river\n", "Question: how many? Short answer: two tanks."]
OPT = {
    "model_type": "opt",
    "hidden_size": 48,
    "word_embed_proj_dim": 48,
    "ffn_dim": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
}


def opt_tokenizer():
    """A tokenizer of OPT's kind: bytes, `</s>` before a text, nothing behind it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=alphabet
    )
    inner.train_from_iterator(TEXTS * 3, trainer)
    words = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **words)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """transformers' BLIP-2 with random weights in a folder, its tokenizer, and itself."""
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2QFormerConfig,
        Blip2VisionConfig,
        OPTConfig,
    )

    folder = tmp_path_factory.mktemp("blip2")
    tokenizer = opt_tokenizer()
    assert len(tokenizer) < 310
    vision = Blip2VisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
        initializer_range=0.2,
    )
    qformer = Blip2QFormerConfig(
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        encoder_hidden_size=32,
        initializer_range=0.2,
        vocab_size=9,
    )
    # Filled up beyond our rows, as newer published files are; the last row stands for images.
    config = Blip2Config(
        vision_config=vision.to_dict(),
        qformer_config=qformer.to_dict(),
        text_config=OPTConfig(**OPT, vocab_size=320, init_std=0.2).to_dict(),
        num_query_tokens=8,
        image_token_index=319,
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The biases of keys among them, which change nothing.
            if parameter.ndim == 1 or name == "query_tokens":
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder / "whole")
    tokenizer.save_pretrained(folder / "words")
    return SimpleNamespace(folder=folder, path=folder / "whole", model=model, tokenizer=tokenizer)


def ours(theirs=None, *, bridge=None, lm=None, seed=1, **options):
    """Ours at the same sizes; random without `theirs`."""
    torch.manual_seed(seed)
    words = {"size": {**OPT, "vocab_size": 310}, "dtype": "float32"}
    words["tokenizer"] = copy.deepcopy(theirs.tokenizer) if theirs else opt_tokenizer()
    generation = {"num_beams": 1, "max_new_tokens": 12, **options.pop("generation", {})}
    return build(
        "blip2_opt",
        vision={**EVA, **options.pop("vision", {})},
        bridge={**BRIDGE, **(bridge or {})},
        lm={**words, **(lm or {})},
        generation=generation,
        **options,
    )


def picture(seed=0, size=56):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)


def items(model, *captions, size=56):
    samples = [
        Sample([picture(n, size)], texts=[text], meta={"id": f"p{n}"})
        for n, text in enumerate(captions)
    ]
    view = TransformedDataset(samples, model.preprocess, training=False, caption="all")
    return [view[0, n] for n in range(len(samples))]


def normal(model, images):
    vision = model.vision
    return images.float().div(255).sub(vision.image_mean).div(vision.image_std)


# Parity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-6, 1e-5])
def test_loss_and_logits_are_those_of_transformers(theirs, eps):
    model = ours(theirs, bridge={"norm_eps": eps}).eval()
    report = checkpoints.load(model, theirs.path)
    assert report.dialect == "BLIP-2 (transformers)"
    # The head is the word table, which safetensors keeps once; it is filled from there.
    assert report.missing == ()
    assert "language_model.model.decoder.embed_tokens.weight[310:]" in report.dropped
    captions = ["a house near the river", "two tanks"]
    batch = model.collate(training=True)(items(model, *captions))
    texts = [f"</s>a photo of {caption}\n" for caption in captions]
    words = theirs.tokenizer(texts, padding=True, add_special_tokens=False, return_tensors="pt")
    assert torch.equal(batch.input_ids, words.input_ids)
    prompt = len(theirs.tokenizer("</s>a photo of").input_ids)
    learned = words.attention_mask.bool() & (torch.arange(words.input_ids.shape[1]) >= prompt)
    queries = torch.full((2, 8), 319)
    with torch.no_grad():
        expected = theirs.model(
            pixel_values=normal(model, batch.images),
            input_ids=torch.cat([queries, words.input_ids], 1),
            attention_mask=torch.cat([torch.ones_like(queries), words.attention_mask], 1),
            labels=torch.cat(
                [torch.full((2, 8), -100), words.input_ids.masked_fill(~learned, -100)], 1
            ),
        )
        outputs = model(batch)
        seen = theirs.model.vision_model(normal(model, batch.images)).last_hidden_state
        found = model.bridge.norm(model.vision(batch.images))
    torch.testing.assert_close(found, seen, **CLOSE)
    logits = expected.logits[:, 7:-1][torch.cat([learned.new_zeros(2, 1), learned], 1)[:, 1:]]
    # Position 7 is the last query; each position predicts the next.
    torch.testing.assert_close(outputs["logits"], logits[:, :310], **CLOSE)
    loss = torch.nn.functional.cross_entropy(logits[:, :310], outputs["targets"])
    torch.testing.assert_close(AnswerLoss()(outputs, batch)["answer"], loss, **CLOSE)


@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize("prompt", ["a photo of", ""])
def test_texts_are_those_of_transformers(theirs, beams, prompt):
    # All of the file's rows: they are part of each beam's score.
    lm = {"size": {**OPT, "vocab_size": 320}}
    options = {"prompt": prompt, "generation": {"num_beams": beams}}
    model = ours(theirs, bridge={"norm_eps": 1e-6}, lm=lm, **options).eval()
    checkpoints.load(model, theirs.path)
    pictures = [picture(n) for n in range(3)]
    ids = theirs.tokenizer(f"</s>{prompt}", add_special_tokens=False).input_ids
    end = theirs.tokenizer.encode("\n", add_special_tokens=False)
    written = theirs.model.generate(
        pixel_values=normal(model, torch.stack(pictures)),
        input_ids=torch.tensor([[319] * 8 + ids] * 3),
        attention_mask=torch.ones(3, 8 + len(ids), dtype=torch.long),
        max_new_tokens=12,
        num_beams=beams,
        do_sample=False,
        eos_token_id=end,
    )
    texts = theirs.tokenizer.batch_decode(
        [row[8 + len(ids) :] if len(row) > 12 else row for row in written],
        skip_special_tokens=True,
    )
    answers = [ask(model, [shown], "") for shown in pictures]
    assert [answer.text for answer in answers] == [text.strip() for text in texts]
    assert len({answer.score for answer in answers}) == 3
    rows = items(model, "x", "y", "z")
    together = model.generate(model.collate(training=False)(rows))
    for answer, alone in zip(together, answers, strict=True):
        assert answer.text == alone.text
        assert answer.score == pytest.approx(alone.score, abs=1e-5)  # measured: 5e-7


@pytest.mark.parametrize(
    ("tuning", "targets"),
    [("lora", ["self_attn.qkv", "self_attn.projection"]), ("lm_lora", ["q_proj", "k_proj"])],
)
def test_an_adapter_of_peft_gives_what_it_gives_in_transformers(theirs, tmp_path, tuning, targets):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets)
    wrapped = get_peft_model(copy.deepcopy(theirs.model), config).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    wrapped.save_pretrained(tmp_path / "adapter")
    model = ours(
        theirs,
        bridge={"norm_eps": 1e-6},
        tuning=tuning,
        lora={"r": 4, "alpha": 8},
        weights=theirs.path,
    ).eval()
    batch = model.collate(training=True)(items(model, "a house"))
    with torch.no_grad():
        before = model(batch)["logits"]
        report = checkpoints.load(model, tmp_path / "adapter", towers=["vision", "bridge", "lm"])
        after = model(batch)["logits"]
        ids = torch.cat([torch.full((1, 8), 319), batch.input_ids], 1)
        expected = wrapped(
            pixel_values=normal(model, batch.images),
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
        ).logits[:, -len(after) - 1 : -1, :310]
    assert report.dialect == "BLIP-2 (adapter)"
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert report.loaded == len(trained)
    torch.testing.assert_close(after, expected[0], **CLOSE)
    assert (after - before).abs().max() > 0.01


# Layouts --------------------------------------------------------------------------------------


def test_lavis_layout_round_trip_whole_and_without_towers(tmp_path):
    model, again = ours(seed=1), ours(seed=2)
    _, _, lavis = model.dialects
    state = revert(model.state_dict(), lavis)
    assert {"opt_proj.weight", "Qformer.bert.encoder.layer.0.crossattention.self.key.weight"} <= {
        *state
    }
    torch.save({"model": state}, tmp_path / "blip2_caption.pth")
    report = checkpoints.load(again, tmp_path / "blip2_caption.pth")
    assert report.dialect == "BLIP-2 (LAVIS)" and not report.missing
    part = {n: v for n, v in state.items() if not n.startswith(("visual_encoder.", "opt_model."))}
    torch.save({"model": part}, tmp_path / "blip2_pretrained.pth")
    third = ours(seed=3)
    report = checkpoints.load(third, tmp_path / "blip2_pretrained.pth", towers=["vision", "lm"])
    assert report.loaded == len(part)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
        if name.startswith("bridge."):
            assert torch.equal(third.state_dict()[name], value), name


def test_transformers_layout_goes_back_too(theirs):
    model = ours(theirs, lm={"size": {**OPT, "vocab_size": 320}})
    checkpoints.load(model, theirs.path)
    state = revert(model.state_dict(), model.dialects[1])
    for name, value in theirs.model.state_dict().items():
        if name.endswith("qkv.bias"):  # the key's is not kept
            value = value.clone().unflatten(0, (3, -1))
            value[1] = 0
            value = value.flatten()
        torch.testing.assert_close(state[name], value, atol=0, rtol=0)


def test_a_model_on_meta_has_its_head_tied_again(theirs):
    with torch.device("meta"):
        model = ours(theirs)
    checkpoints.load(model, theirs.path)
    assert model.lm.model.lm_head.weight is model.lm.model.model.decoder.embed_tokens.weight
    assert not any(p.is_meta for p in model.parameters())


def manifest(name):
    lines = [line.split(" ", 1) for line in (KEYS / f"{name}.txt").read_text().splitlines()]
    return {name: torch.empty(json.loads(shape), device="meta") for name, shape in lines}


@pytest.mark.parametrize(
    ("name", "option", "words", "towers"),
    [
        ("blip2", "blip2_opt", {}, ()),
        ("blip2", "blip2_opt", {"tuning": "frozen"}, ()),
        ("blip2.lavis", "blip2_opt_6_7b", {"vision": {"image_size": 364}}, ("lm",)),
        (
            "blip2.rs5m",
            "blip2_opt_6_7b",
            {"tuning": "lora", "weights": "a"},
            ("vision", "bridge", "lm"),
        ),
    ],
)
def test_manifest_loads_at_full_size(name, option, words, towers, tmp_path):
    model = build(option, device="meta", **words)
    contents = unwrap(manifest(name), tmp_path / "a.pth")
    report = load_contents(model, contents, Source("a.pth"), towers=towers, dialects=model.dialects)
    elsewhere = set(report.missing)
    if name == "blip2.rs5m":
        assert report.loaded == len(manifest(name)) == 4 * 39
    else:
        assert all(n.startswith(towers) for n in elsewhere) if towers else not elsewhere
    dropped = {n.partition("[")[0] for n in report.dropped}
    assert all(n.endswith(("qkv.bias", "position_ids")) or "embed_tokens" in n or "lm_head" in n
               for n in dropped)  # fmt: skip
    assert report.loaded + len(elsewhere) == len(model.state_dict())


def test_the_second_stage_holds_what_lies_between_the_towers(tmp_path):
    model = build("blip2_opt_6_7b", device="meta")
    held = {n: v for n, v in manifest("blip2.lavis").items() if not n.startswith("visual_enc")}
    contents = unwrap({"model": held}, tmp_path / "a.pth")
    report = load_contents(
        model, contents, Source("a.pth"), towers=["vision", "lm"], dialects=model.dialects
    )
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {n for n in model.state_dict() if n.startswith("bridge.")}
    assert report.loaded == len(trained) and report.dropped == (
        "Qformer.bert.embeddings.position_ids",
    )


# Tuning ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tuning", sorted(set(TUNING) - {"frozen"}))
def test_gradients_reach_exactly_what_is_trained_and_nothing_else_moves(tuning):
    model = ours(tuning=tuning).train()
    batch = model.collate(training=True)(items(model, "a house", "two tanks near the river"))
    parts = {
        "bridge": lambda n: n.startswith("bridge."),
        "tower": lambda n: n.startswith(("bridge.", "vision.")),
        "lora": lambda n: "lora_" in n and n.startswith("vision.blocks."),
        "lm_lora": lambda n: "lora_" in n and n.startswith("lm."),
        "full": lambda n: True,
    }
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # the first step leaves LoRA's A without a gradient, as B is zero
        optimizer.zero_grad()
        sum(AnswerLoss()(model(batch), batch).values()).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        trained = parts[tuning](name)
        assert parameter.requires_grad == trained == (parameter.grad is not None), name
        assert trained or torch.equal(parameter, before[name]), name
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert len(moved) > 0.9 * sum(parts[tuning](n) for n in before)


def test_the_loras_are_the_published_ones():
    model = build("blip2_opt_6_7b", device="meta", tuning="lora")
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # Rank 16 on 39 blocks: 1,408 to 4,224 and 1,408 to 1,408.
    assert trained == 39 * 16 * (1408 + 4224 + 1408 + 1408) == 5_271_552
    layer = model.vision.blocks[0].attn.qkv
    assert layer.scaling["default"] == 1 and layer.lora_dropout["default"].p == 0.05
    assert model.vision.tuned == ["blocks.{}.attn.qkv", "blocks.{}.attn.proj"]
    model = build("blip2_opt", device="meta", tuning="lm_lora")
    assert model.lm.tuned == [f"model.decoder.layers.{{}}.self_attn.{k}_proj" for k in "kq"]


def test_a_towers_lora_starts_at_what_the_tower_gives_and_matters():
    tower, plain = EvaViT(**EVA), EvaViT(**EVA)
    plain.load_state_dict(tower.state_dict())
    tower.add_lora({"r": 4})
    images = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        torch.testing.assert_close(tower(images), plain(images), atol=1e-5, rtol=0)
        tower.blocks[0].attn.qkv.lora_B["default"].weight.normal_()
        assert (tower(images) - plain(images)).abs().max() > 1e-3


def test_our_checkpoint_holds_what_was_trained_and_loads(theirs, tmp_path):
    def build():
        return ours(theirs, tuning="lora", lora={"r": 4}, weights=str(theirs.path))

    model = build()
    torch.manual_seed(7)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.normal_()
    source = str(theirs.path)
    packed = checkpoints.pack(model, towers=dict.fromkeys(("vision", "bridge", "lm"), source))
    assert set(packed["state_dict"]) == {n for n, p in model.named_parameters() if p.requires_grad}
    torch.save(packed, tmp_path / "last.ckpt")
    again = build()
    checkpoints.load(again, tmp_path / "last.ckpt", towers=["vision", "bridge", "lm"])
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


# Texts ----------------------------------------------------------------------------------------


def test_it_learns_a_caption_and_its_end():
    model = ours(tuning="full").train()
    captions = ["a house near the river", "two tanks"]
    rows = items(model, *captions)
    batch = model.collate(training=True)(rows)
    assert batch.prompts == ["a photo of"] * 2 and batch.answers == captions
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = AnswerLoss()(model(batch), batch)["answer"]
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    answers = model.generate(model.collate(training=False)(rows))
    assert [answer.text for answer in answers] == captions


def test_questions_and_their_history_are_written_as_published():
    model = ours()
    tokens = model.lm.tokenizer
    asked = [Turn("user", "how many?", (0,), kind="count"), Turn("assistant", "two")]
    rows = [
        Sample([picture()], turns=asked, meta={"id": "a"}),
        Sample(
            [picture()],
            turns=[Turn("user", "Question: how many? Short answer:", (0,)),
                   Turn("assistant", "two"),
                   Turn("user", "Question: tanks? Short answer:"),
                   Turn("assistant", "tanks")],
            meta={"id": "b"},
        ),
    ]  # fmt: skip
    view = TransformedDataset(rows, model.preprocess, training=False, caption="all")
    batch = model.collate(training=True)([view[0, 0], view[0, 1]])
    texts = [tokens.decode(row[mask.bool()]) for row, mask in
             zip(batch.input_ids, batch.attention_mask, strict=True)]  # fmt: skip
    assert texts == [
        "</s>Question: how many? Short answer: two\n",
        "</s>Question: how many? Short answer: two. Question: tanks? Short answer: tanks\n",
    ]
    learned = [tokens.decode(row[row != -100]) for row in batch.labels]
    assert learned == [" two\n", " tanks\n"]


@pytest.mark.parametrize("packing", ["rows", "shared"])
def test_packed_rows_learn_what_rows_alone_learn(packing):
    alone, packed = ours(), ours(packing=packing)
    batch = alone.collate(training=True)(items(alone, "a house", "two tanks near the river"))
    for model in (alone, packed):
        AnswerLoss()(model(batch), batch)["answer"].backward()
    for (name, mine), theirs in zip(packed.named_parameters(), alone.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-5, rtol=1e-4, msg=name)


def test_a_long_caption_is_cut_as_lavis_cuts_it():
    model = ours(max_length=10)
    batch = model.collate(training=True)(items(model, "a house near the river " * 9))
    assert batch.input_ids.shape[1] == 10 and batch.truncated == 1
    assert batch.input_ids[0, -1] != model.lm.tokenizer.eos_token_id
    assert ours(max_length=None).collate(training=True).writer.max_length == 128 - 8
    assert ours().collate(training=False).writer.max_length == 128 - 8 - 12


def test_twenty_candidates_come_with_scores_best_first():
    model = ours(candidates=20).eval()
    assert model.generation["top_p"] == 0.95 and model.generation["num_beams"] == 1
    batch = model.collate(training=False)(items(model, "x", "y"))
    torch.manual_seed(3)
    answers = model.generate(batch)
    for answer in answers:
        scores = [score for _, score in answer.candidates]
        assert len(scores) == 20 and scores == sorted(scores, reverse=True)
        assert (answer.text, answer.score) == answer.candidates[0]
        assert len({text for text, _ in answer.candidates}) > 10
    torch.manual_seed(3)
    assert [a.candidates for a in model.generate(batch)] == [a.candidates for a in answers]


# Bad input ------------------------------------------------------------------------------------


def test_other_language_models_and_other_adapters_are_told(tmp_path):
    def given(names, into, towers=("vision", "bridge", "lm")):
        torch.save(names, tmp_path / "a.bin")
        checkpoints.load(into, tmp_path / "a.bin", towers=towers)

    wide = {
        "language_projection.weight": torch.zeros(64, 24),
        "query_tokens": torch.zeros(1, 8, 24),
    }
    with pytest.raises(UserError, match=r"width 64, this one has 48 .*model=blip2_opt_6_7b"):
        given(wide, ours())
    with pytest.raises(UserError, match="with FLAN-T5; this one writes with OPT"):
        given({"t5_proj.weight": torch.zeros(64, 24)}, ours())

    def adapter(layer, rank):
        return {f"base_model.model.{layer}.lora_A.weight": torch.zeros(rank, 32)}

    seen = "vision_model.encoder.layers.0.self_attn.qkv"
    said = "language_model.model.decoder.layers.0.self_attn.v_proj"
    with pytest.raises(
        UserError,
        match=r"LoRA of qkv; the model has LoRA of nothing: say model.tuning=lora "
        r"model.lora.targets=\[attn.qkv\] model.lora.r=4",
    ):
        given(adapter(seen, 4), ours())
    with pytest.raises(
        UserError,
        match=r"LoRA of v_proj; the model has LoRA of projection, qkv: say model.tuning=lm_lora "
        r"model.lora.targets=\[v_proj\]",
    ):
        given(adapter(said, 4), ours(tuning="lora"))
    both = adapter(seen, 8) | adapter(seen.replace("qkv", "projection"), 8)
    with pytest.raises(UserError, match=r"LoRA of rank 8, the model has 16: say model.lora.r=8"):
        given(both, ours(tuning="lora"))
    with pytest.raises(UserError, match=r"an adapter alone.*give that one as model.weights=zoo:"):
        given(both, ours(tuning="lora", lora={"r": 8}))


def test_words_that_do_not_fit_are_told():
    with pytest.raises(UserError, match=r"model.tuning='lara'.*Did you mean lora"):
        ours(tuning="lara")
    with pytest.raises(UserError, match=r"leaves the language model frozen, and model.lm.tuning"):
        ours(lm={"tuning": "full"})
    with pytest.raises(UserError, match=r"lora: 'rank' is not known"):
        ours(tuning="lora", lora={"rank": 3})
    with pytest.raises(UserError, match=r"targets=\['fc9'\] of the vision tower"):
        ours(tuning="lora", lora={"targets": ["fc9"]})
    with pytest.raises(UserError, match="ends a text with a line break"):
        ours(lm={"words": ["a"], "tokenizer": None}).collate(training=True)
    with pytest.raises(UserError, match="candidates=0"):
        ours(candidates=0)


def test_tiny_option_builds():
    model = build("blip2_tiny")
    assert model.bridge.count(17) == 16 and all(p.requires_grad for p in model.parameters())
    batch = model.collate(training=True)(items(model, "a house near the river"))
    assert batch.prompts == [""] and batch.input_ids[0, 0] == model.lm.tokenizer.bos_token_id
