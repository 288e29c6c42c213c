"""The Q-Former against transformers' two, and what an instruction may and may not do."""

from __future__ import annotations

import pytest
import torch

from rsvlm.errors import UserError
from rsvlm.nn.qformer import QFormer

SIZES = {"queries": 6, "dim": 32, "layers": 4, "heads": 4, "hidden": 48, "positions": 20}
NAMES = {
    "attention.attention.query": "attention.query",
    "attention.attention.key": "attention.key",
    "attention.attention.value": "attention.value",
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention.norm",
    "crossattention.attention.query": "cross.query",
    "crossattention.attention.key": "cross.key",
    "crossattention.attention.value": "cross.value",
    "crossattention.output.dense": "cross.out",
    "crossattention.output.LayerNorm": "cross.norm",
    "intermediate.dense": "mlp_text.fc1",
    "output.dense": "mlp_text.fc2",
    "output.LayerNorm": "mlp_text.norm",
    "intermediate_query.dense": "mlp_query.fc1",
    "output_query.dense": "mlp_query.fc2",
    "output_query.LayerNorm": "mlp_query.norm",
}


def ours(vocab_size=50, seed=0, **changes):
    torch.manual_seed(seed)
    return QFormer(24, vocab_size=vocab_size, **(SIZES | changes)).eval()


def theirs_in_our_names(state):
    """Norm layers are called `layernorm` or `LayerNorm`, by version."""
    renamed = {}
    for name, value in state.items():
        name = name.replace("layernorm", "LayerNorm")
        if name.startswith("encoder.layer."):
            number, rest = name.removeprefix("encoder.layer.").split(".", 1)
            stem, last = rest.rsplit(".", 1)
            renamed[f"layers.{number}.{NAMES[stem]}.{last}"] = value
        elif name.startswith("embeddings."):
            name = name.removeprefix("embeddings.")
            name = name.replace("word_embeddings", "words").replace("LayerNorm", "norm")
            renamed[name.replace("position_embeddings", "positions")] = value
    return renamed


def scatter(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)


def inputs():
    torch.manual_seed(3)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]])
    return torch.randn(3, 9, 24), torch.randint(1, 50, (3, 5)), mask


def test_equals_instructblips_in_transformers():
    from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

    config = InstructBlipQFormerConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        encoder_hidden_size=24,
    )
    torch.manual_seed(1)
    theirs, model = InstructBlipQFormerModel(config).eval(), ours()
    scatter(theirs)
    state = theirs_in_our_names(theirs.state_dict())
    assert {*state, "queries"} == set(model.state_dict())
    model.load_state_dict({**state, "queries": model.queries.data})
    image, ids, mask = inputs()
    with torch.no_grad():
        found = model(image, ids, mask)
        expected = theirs(
            input_ids=ids,
            attention_mask=torch.cat([torch.ones(3, 6, dtype=torch.long), mask], dim=1),
            query_embeds=model.queries.expand(3, -1, -1),
            encoder_hidden_states=image,
        ).last_hidden_state[:, :6]
    # Measured: 1e-6; fused attention sums in another order.
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_looks_are_the_attention_weights():
    model = ours(layers=1)
    scatter(model)
    image, ids, mask = inputs()
    looks = model.cross_attention_weights(image, ids, mask)
    assert looks.shape == (3, 6, 9)
    torch.testing.assert_close(looks.sum(-1), torch.ones(3, 6))
    # With one layer and values that stand for places, attention gives back its own weights.
    cross = model.layers[0].cross
    with torch.no_grad():
        x, seen = model._start(image, ids, mask)
        x = model.layers[0].attention(x, x, seen)[:, :6]
        q, k = cross._split(cross.query(x)), cross._split(cross.key(image))
        places = torch.eye(9).expand(3, 4, 9, 9)
        found = torch.nn.functional.scaled_dot_product_attention(q, k, places).mean(1)
    torch.testing.assert_close(looks, found, atol=1e-5, rtol=1e-5)


def test_padding_of_the_instruction_changes_nothing_and_its_words_do():
    model = ours()
    scatter(model)
    image, ids, mask = inputs()
    with torch.no_grad():
        alone = model(image[1:2], ids[1:2, :3])
        padded = model(image, ids, mask)
        torch.testing.assert_close(padded[1:2], alone, atol=1e-5, rtol=0)
        other = model(image[1:2], ids[1:2, :3] % 49 + 1)
        assert (other - alone).abs().max() > 1e-3
        assert (model(image[:1], ids[1:2, :3]) - alone).abs().max() > 1e-3


def test_every_parameter_but_the_last_text_block_gets_a_gradient():
    model = ours()
    image, ids, mask = inputs()
    (model(image, ids, mask) * torch.randn(3, 6, 32)).sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without == {n for n, _ in model.named_parameters() if n.startswith("layers.3.mlp_text")}


def test_without_text_there_are_no_text_weights():
    model = ours(vocab_size=0)
    image, ids, _ = inputs()
    assert model(image).shape == (3, 6, 32)
    assert not any("text" in name or "words" in name for name in model.state_dict())
    with pytest.raises(UserError, match="without text"):
        model(image, ids)


def test_full_size_is_the_published_one():
    with torch.device("meta"):
        model = QFormer(1408)
    count = sum(p.numel() for p in model.parameters())
    assert count == 185_660_160 + 24_576
    assert [layer.cross is not None for layer in model.layers] == [True, False] * 6


def test_bad_sizes_say_what_to_do():
    with pytest.raises(UserError, match="not divisible by heads=5"):
        ours(heads=5)
    with pytest.raises(UserError, match="21 tokens, the Q-Former takes at most 20"):
        ours()(torch.randn(1, 9, 24), torch.ones(1, 21, dtype=torch.long))
