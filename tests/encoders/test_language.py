"""Language models: exact logits, frozen parts, batched generation, folders, tokenizers."""

from __future__ import annotations

import pytest
import torch

from rsvlm import checkpoints
from rsvlm.encoders.language import SIZES, LanguageModel
from rsvlm.encoders.tokenizers import as_instructblip, encode, word_tokenizer, words_of
from rsvlm.errors import UserError

WORDS = words_of(["a road is built near the houses", "no change 12"])
# Measured: below 1e-6; a batch's padded rows are summed in another order.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def model(size="tiny", seed=0, **options):
    torch.manual_seed(seed)
    return LanguageModel(size, **options)


def batch(lm, left=False):
    """Three rows of 7, 4 and 5 positions."""
    torch.manual_seed(1)
    lengths, width = (7, 4, 5), 7
    embeds = torch.randn(3, width, lm.dim)
    mask = torch.zeros(3, width, dtype=torch.long)
    labels = torch.full((3, width), -100)
    for row, length in enumerate(lengths):
        span = slice(width - length, None) if left else slice(0, length)
        mask[row, span] = 1
        labels[row, span][-2:] = torch.tensor([5, 2])
    return embeds, mask, labels


@pytest.mark.parametrize("size", ["tiny", "tiny_opt"])
@pytest.mark.parametrize("left", [False, True])
def test_logits_and_gradients_are_those_of_the_whole_model(size, left):
    lm = model(size)
    embeds, mask, labels = batch(lm, left)
    embeds.requires_grad_(True)
    found = lm(embeds, mask, labels)
    loss = torch.nn.functional.cross_entropy(found["logits"], found["targets"])
    (gradient,) = torch.autograd.grad(loss, embeds)
    # transformers' own loss, row by row and without padding, so that nothing depends on it.
    losses = []
    for row in range(3):
        seen = mask[row].bool()
        single = lm.model(inputs_embeds=embeds[row : row + 1, seen], labels=labels[row, seen][None])
        losses.append(single.loss)
    expected = torch.stack(losses).mean()  # two targets in each row
    torch.testing.assert_close(loss, expected, **CLOSE)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, embeds)[0], **CLOSE)
    assert found["logits"].shape == (6, SIZES[size]["vocab_size"])


@pytest.mark.parametrize("size", ["tiny", "tiny_opt"])
@pytest.mark.parametrize("beams", [1, 3])
def test_a_batch_generates_what_its_rows_generate_alone(size, beams):
    lm = model(size, seed=2)
    embeds, mask, _ = batch(lm, left=True)
    options = {"num_beams": beams, "max_new_tokens": 8, "repetition_penalty": 1.5}
    together = lm.generate(embeds, mask, **options)
    for row in range(3):
        seen = mask[row].bool()
        alone = lm.generate(embeds[row : row + 1, seen], mask[row : row + 1, seen], **options)[0][0]
        assert together[row][0].ids == alone.ids and alone.ids
        assert together[row][0].score == pytest.approx(alone.score, abs=1e-4)
    assert lm.generate(embeds, mask, **options) == together  # no state is left


def test_greedy_score_is_the_mean_log_probability():
    lm = model()
    embeds, mask, _ = batch(lm)
    row = lm.generate(embeds[:1], mask[:1], max_new_tokens=3)[0][0]
    x, total = embeds[:1], 0.0
    with torch.no_grad():
        for token in row.ids:
            logits = lm.model(inputs_embeds=x).logits[0, -1].log_softmax(-1)
            assert logits.argmax() == token
            total += logits[token].item()
            x = torch.cat([x, lm.embed(torch.tensor([[token]]))], 1)
    assert len(row.ids) == 3 and not row.ended
    assert row.score == pytest.approx(total / 3, abs=1e-5)


def test_candidates_come_best_first_and_need_beams():
    lm = model()
    embeds, mask, _ = batch(lm, left=True)
    found = lm.generate(embeds, mask, num_beams=4, num_return_sequences=3, max_new_tokens=4)
    assert [len(row) for row in found] == [3, 3, 3]
    for row in found:
        assert [c.score for c in row] == sorted((c.score for c in row), reverse=True)
        assert len({tuple(c.ids) for c in row}) == 3
    with pytest.raises(UserError, match="give num_beams=3"):
        lm.generate(embeds, mask, num_return_sequences=3)


def test_frozen_stays_in_eval_mode_and_holds_no_gradient():
    lm = model("tiny_opt").train()  # OPT has dropout
    assert not lm.model.training and not any(p.requires_grad for p in lm.parameters())
    embeds, mask, labels = batch(lm)
    embeds.requires_grad_(True)
    lm(embeds, mask, labels)["logits"].sum().backward()
    assert embeds.grad is not None and all(p.grad is None for p in lm.parameters())
    full = model(tuning="full").train()
    assert full.model.training and all(p.requires_grad for p in full.parameters())


def test_lora_starts_as_the_model_and_trains_alone():
    pytest.importorskip("peft")
    plain, lm = model(), model(tuning="lora", lora={"r": 4, "dropout": 0.5})
    names = [name for name, p in lm.named_parameters() if p.requires_grad]
    assert len(names) == 2 * 2 * 2 and all("lora_" in name for name in names)
    embeds, mask, labels = batch(lm)
    torch.testing.assert_close(
        lm(embeds, mask, labels)["logits"], plain(embeds, mask, labels)["logits"]
    )
    lm.train()
    assert any(m.training for m in lm.modules() if isinstance(m, torch.nn.Dropout))
    assert not lm.model.training
    lm(embeds, mask, labels)["logits"].sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in lm.parameters())
    with pytest.raises(UserError, match=r"targets=\['nothing'\]"):
        model(tuning="lora", lora={"targets": ["nothing"]})


def test_a_folder_gives_its_model_and_tokenizer_and_meta_loads_the_same(tmp_path):
    lm = model(words=WORDS, seed=3)
    lm.model.save_pretrained(tmp_path)
    lm.tokenizer.save_pretrained(tmp_path)
    again = LanguageModel(weights=tmp_path, special="instructblip")
    rows = again.model.get_input_embeddings().num_embeddings
    assert rows == len(again.tokenizer) == len(lm.tokenizer) + 1  # [PAD]
    assert again.tokenizer.bos_token == again.tokenizer.eos_token == "</s>"
    torch.testing.assert_close(
        again.model.lm_head.weight[-1], lm.model.lm_head.weight.mean(0), **CLOSE
    )
    on_meta = LanguageModel({**SIZES["tiny"], "vocab_size": len(lm.tokenizer)}, device="meta")
    report = checkpoints.load(on_meta, tmp_path)
    assert report.loaded == report.total and report.dialect == "transformers"
    embeds, mask, labels = batch(lm)
    expected = lm(embeds, mask, labels)["logits"]
    torch.testing.assert_close(on_meta(embeds, mask, labels)["logits"], expected)
    torch.testing.assert_close(on_meta.to("cpu")(embeds, mask, labels)["logits"], expected)
    torch.testing.assert_close(again(embeds, mask, labels)["logits"][:, :-1], expected)


def test_bad_words_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match="Did you mean vicuna_7b"):
        LanguageModel("vicuna7b")
    with pytest.raises(UserError, match="needs size= or weights="):
        LanguageModel()
    with pytest.raises(UserError, match="dtype: 'fp16' is not known"):
        model(dtype="fp16")
    lm = model()
    embeds, mask, _ = batch(lm)
    with pytest.raises(UserError, match="Did you mean num_beams"):
        lm.generate(embeds[:1], mask[:1], beams=3)
    with pytest.raises(UserError, match="padding on the left"):
        lm.generate(embeds, mask)
    with pytest.raises(UserError, match=r"token id 600 lies beyond.*model.lm.tokenizer"):
        lm.embed(torch.tensor([[600]]))
    with pytest.raises(UserError, match="no tokenizer"):
        _ = lm.tokenizer
    with pytest.raises(UserError, match="no file or folder"):
        LanguageModel(weights=tmp_path / "vicuna")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no language model that transformers can read"):
        LanguageModel(weights=tmp_path / "empty")
    lm.model.save_pretrained(tmp_path / "tiny")
    with pytest.raises(UserError, match="vocab_size=512, the recipe's language model 32000"):
        LanguageModel("vicuna_7b", weights=tmp_path / "tiny")


def test_logits_that_are_changed_behind_the_head_are_refused():
    small = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    with pytest.raises(UserError, match=r"gemma2.*final_logit_softcapping=30\.0"):
        model({"model_type": "gemma2", **small})
    with pytest.raises(UserError, match=r"logit_scale=0\.0625"):
        model({"model_type": "cohere", **small})
    assert model({"model_type": "gemma3_text", **small}).dim == 32


def test_published_sizes():
    counts = {}
    for size in ("vicuna_7b", "llama3_1b", "opt_2_7b", "llama3_8b"):
        lm = LanguageModel(size, device="meta")
        counts[size] = sum(p.numel() for p in lm.parameters())
    assert counts == {
        "vicuna_7b": 6_738_415_616,
        "llama3_1b": 1_235_814_400,
        "opt_2_7b": 2_651_596_800,
        "llama3_8b": 8_030_261_248,
    }


TEXTS = ["Roads: ['top-left'] Buildings: []", "a road is built near 12 houses .", "naïve 中"]


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_word_tokenizer_loses_nothing(number):
    tokenizer = word_tokenizer(WORDS)
    ids = tokenizer.encode(TEXTS[number], add_special_tokens=False)
    assert tokenizer.decode(ids) == TEXTS[number]
    assert tokenizer.unk_token_id not in ids


def test_a_known_word_is_one_token():
    tokenizer = word_tokenizer(WORDS)
    ids = tokenizer.encode("a road is built near the houses", add_special_tokens=False)
    assert len(ids) == 7
    world = word_tokenizer("world")
    text = "please briefly describe the changes in these two images"
    assert len(world.encode(text, add_special_tokens=False)) == 9 and len(world) > 1500
    with pytest.raises(UserError, match="no such file"):
        word_tokenizer("words")
    with pytest.raises(UserError, match="without spaces"):
        word_tokenizer(["two words"])
    with pytest.raises(UserError, match="at least one"):
        word_tokenizer([])


def test_instructblips_marks_and_those_of_a_tokenizer_without_them():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = as_instructblip(word_tokenizer(WORDS))
    marks = (tokenizer.bos_token, tokenizer.eos_token, tokenizer.unk_token, tokenizer.pad_token)
    assert marks == ("</s>", "</s>", "</s>", "[PAD]") and tokenizer.bos_token_id == 2
    inner = Tokenizer(models.WordLevel({"a": 0, "<|end|>": 1}, unk_token="a"))
    with pytest.raises(UserError, match="neither </s> nor an end token"):
        as_instructblip(PreTrainedTokenizerFast(tokenizer_object=inner))
    own = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")
    assert as_instructblip(own).bos_token_id == own.eos_token_id == 1


def test_prompts_keep_their_end_and_answers_their_start():
    tokenizer = as_instructblip(word_tokenizer(WORDS))
    text = "a road is built near the houses"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert encode(tokenizer, text, 20) == [2, *ids]
    assert encode(tokenizer, text, 4) == [2, *ids[-3:]]
    assert encode(tokenizer, text, 20, end=True, keep="left") == [2, *ids, 2]
    assert encode(tokenizer, text, 4, end=True, keep="left") == [2, *ids[:3]]
    assert encode(tokenizer, text, 20, start=False) == ids
    with pytest.raises(UserError, match="no room"):
        encode(tokenizer, text, 1)
