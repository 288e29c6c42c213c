"""Language models in one .gguf file, and Gemma, which scales its embeddings and ties its head."""

import importlib.util

import pytest
import torch

from rsvlm.encoders import gguf as files
from rsvlm.encoders.language import LanguageModel
from rsvlm.encoders.tokenizers import pretrained, word_tokenizer, words_of
from rsvlm.errors import UserError
from rsvlm.models.extra_token import ExtraToken

TEXTS = ["many planes are parked at an airport", "a green river"]
GEMMA = {
    "model_type": "gemma3_text",
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "sliding_window": 4,
    "sliding_window_pattern": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
#: Rounding of logits of about 1 in either type, measured 3e-8 and 0.
CLOSE = {"float32": {"rtol": 1e-6, "atol": 1e-7}, "bfloat16": {"rtol": 1e-2, "atol": 1e-2}}


def batch(lm):
    torch.manual_seed(1)
    embeds = lm.embed(torch.randint(3, 300, (2, 9)))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3])
    return embeds, mask, torch.where(mask > 0, torch.randint(3, 300, (2, 9)), -100)


@pytest.fixture
def file(tmp_path):
    """A tiny LLaMA as a .gguf file, and its weights by the names of that format."""
    writer_of = pytest.importorskip("gguf").GGUFWriter
    pytest.importorskip("accelerate")
    vocabulary = word_tokenizer(words_of(TEXTS)).get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer = writer_of(str(tmp_path / "tiny.gguf"), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_rope_freq_base(1e4)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([-float(i) for i in range(len(tokens))])
    writer.add_token_types([1] * len(tokens))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(3)
    draws = torch.Generator().manual_seed(0)
    shapes = {"token_embd": (len(tokens), 32), "output": (len(tokens), 32), "output_norm": (32,)}
    for i in range(2):
        shapes |= {f"blk.{i}.attn_{x}": (32, 32) for x in ("q", "k", "v", "output")}
        shapes |= {f"blk.{i}.ffn_{x}": (64, 32) for x in ("gate", "up")}
        shapes |= {f"blk.{i}.ffn_down": (32, 64)}
        shapes |= {f"blk.{i}.{x}_norm": (32,) for x in ("attn", "ffn")}
    tensors = {name: torch.randn(shape, generator=draws) for name, shape in shapes.items()}
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "tiny.gguf", tensors


def test_a_file_gives_its_model_and_its_tokenizer(file):
    path, tensors = file
    lm = LanguageModel(weights=path)
    state = lm.model.state_dict()
    assert lm.dim == 32 and lm.context_length == 128
    torch.testing.assert_close(state["model.embed_tokens.weight"][:5], tensors["token_embd"][:5])
    down = state["model.layers.1.mlp.down_proj.weight"]
    torch.testing.assert_close(down, tensors["blk.1.ffn_down"])
    assert all(type(p) is torch.nn.Parameter and p.dtype == torch.float32 for p in lm.parameters())
    text = TEXTS[0]
    assert text in lm.tokenizer.decode(lm.tokenizer.encode(text), skip_special_tokens=True)
    small = LanguageModel(weights=path, dtype="bfloat16", device="meta")
    assert small.dim == 32 and next(small.parameters()).is_meta
    embeds, mask, labels = batch_of(lm)
    lm(embeds.requires_grad_(), mask, labels)["logits"].sum().backward()
    assert embeds.grad.abs().sum() > 0  # the maps before it learn through it
    with pytest.raises(UserError, match="has model_type=llama, the recipe's language model gemma3"):
        LanguageModel("gemma3_270m", weights=path)


def batch_of(lm):
    ids = torch.randint(3, lm.model.config.vocab_size, (2, 5))
    return lm.embed(ids), torch.ones_like(ids), ids


def test_what_transformers_is_given(tmp_path, monkeypatch):
    (tmp_path / "a.gguf").touch()
    monkeypatch.setattr(files, "find_spec", lambda name: True)
    name, options = pretrained(tmp_path / "a.gguf")
    assert name == str(tmp_path)
    assert options.items() >= {"local_files_only": True, "gguf_file": "a.gguf"}.items()
    name, options = pretrained("hf://google/gemma@main/small/a.gguf")
    assert name == "google/gemma"
    assert options.items() >= {"revision": "main", "gguf_file": "small/a.gguf"}.items()
    assert "gguf_file" not in pretrained(tmp_path)[1] and files.plain({}) == {}
    with pytest.raises(UserError, match=r"no file or folder .*b\.gguf"):
        LanguageModel(weights=tmp_path / "b.gguf")


@pytest.mark.parametrize("absent", ["gguf", "accelerate"])
def test_without_what_reads_it_the_command_is_said(tmp_path, monkeypatch, absent):
    (tmp_path / "a.gguf").touch()
    found = importlib.util.find_spec
    monkeypatch.setattr(files, "find_spec", lambda name: name != absent and found("torch"))
    with pytest.raises(UserError, match=rf"{absent} is not installed: pip install 'rsvlm\[gguf\]'"):
        LanguageModel(weights=tmp_path / "a.gguf")


def test_a_gemma_that_was_built_on_meta_has_its_constants():
    torch.manual_seed(0)
    lm = LanguageModel(GEMMA)
    on_meta = LanguageModel(GEMMA, device="meta")
    on_meta.model.load_state_dict(lm.model.state_dict(), assign=True)
    on_meta.fill_constants()
    embeds, mask, labels = batch(lm)
    torch.testing.assert_close(batch(on_meta)[0], embeds, rtol=0, atol=0)
    expected = lm(embeds, mask, labels)["logits"]
    torch.testing.assert_close(on_meta(embeds, mask, labels)["logits"], expected, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_new_word_is_a_row_of_the_table_to_the_bit(dtype):
    lm = LanguageModel(GEMMA, dtype=dtype)
    new = ExtraToken(lm)
    assert new.head is None
    with torch.no_grad():
        lm.model.get_input_embeddings().weight[7] = new.row[0]
        new.row.copy_(lm.model.get_input_embeddings().weight[7])
    got = new.embed(lm, torch.tensor([[300]]), 300)
    torch.testing.assert_close(got, lm.embed(torch.tensor([[7]])), rtol=0, atol=0)
    # transformers' own call on the same places, and its column of the head.
    embeds, mask, _ = batch(lm)
    with torch.no_grad():
        whole = lm.model(inputs_embeds=embeds, attention_mask=mask).logits
        ours = new.logits(lm, lm.hidden(embeds, mask), 300)
    seen = mask.bool()
    torch.testing.assert_close(ours[seen][:, :300], whole[seen], rtol=0, atol=0)
    # One column or all of them: float32's sums run in another order.
    torch.testing.assert_close(ours[seen][:, 300], whole[seen][:, 7], **CLOSE[dtype])


def test_the_published_size():
    lm = LanguageModel("gemma3_270m", device="meta")
    # google/gemma-3-270m: 268 M, of which 168 M are its vocabulary.
    assert sum(p.numel() for p in lm.parameters()) == 268_098_176
    assert lm.model.config.layer_types.count("full_attention") == 3
