"""Packed rows: losses and gradients of separate rows; nothing looks into another dialogue."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.losses.language import AnswerLoss
from rsvlm.models.vlm import VisionLanguageModel
from rsvlm.nn.packing import PACKING, Plan, keys_of, pack, packed_attention

PLACE = 7  # the placeholder's id
WIDTH = 30
MISTRAL = {
    "model_type": "mistral",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 64,
}
#: Images of each dialogue, and its ids behind the images: learned ones are negative.
DIALOGUES = [
    ((0,), [21, 30, -31, -2]),
    ((1, 0), [21, 22, -33, -34, -2]),
    ((0,), [21, 30, 25, -35, -2, 26, -36, -2]),  # shares "21 30" with the first
    ((), [23, 24, -37, -2]),
    ((0,), [-38, -2]),  # learned right behind the image
    ((1, 0), [27, -39, -2]),
]


class Linear(nn.Module):
    """One linear layer on four patches."""

    joint = False

    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out)

    def forward(self, features):
        return self.proj(features[:, 1:])


def model(packing, size="tiny", image_token_id=PLACE, **language):
    torch.manual_seed(0)
    vision = EvaViT(image_size=28, dim=32, depth=2, heads=4)
    vision.freeze()
    lm = LanguageModel(size, **{"words": ["a", "b"], **language})
    if lm.tuning in ("lora", "moe_lora"):
        for parameter in lm.parameters():
            if parameter.requires_grad:  # some of them start as zeros
                nn.init.normal_(parameter, std=0.1)
    whole = VisionLanguageModel(vision, Linear, lm, image_token_id=image_token_id, packing=packing)
    return whole.eval()  # OPT's dropout would differ


def batch(inline=True, dialogues=DIALOGUES, left=False):
    torch.manual_seed(1)
    ids = torch.zeros(len(dialogues), WIDTH, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (images, text) in enumerate(dialogues):
        places = [PLACE] * 4 * len(images) if inline else []
        written = [1, 20, *places, *text]
        span = slice(WIDTH - len(written), WIDTH) if left else slice(0, len(written))
        ids[row, span] = torch.tensor(written).abs()
        mask[row, span] = 1
        learned = [-id if id < 0 else -100 for id in written]
        labels[row, span] = torch.tensor(learned)
    return SimpleNamespace(
        images=torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8),
        image_rows=[images for images, _ in dialogues],
        input_ids=ids,
        attention_mask=mask,
        labels=labels,
    )


def learned(vlm, data):
    """The loss of each part, and the gradients by name."""
    vlm.zero_grad()
    outputs = vlm(data)
    losses = AnswerLoss()(outputs, data)
    torch.stack(list(losses.values())).sum().backward()
    found = {name: p.grad.clone() for name, p in vlm.named_parameters() if p.grad is not None}
    return losses, found, outputs


@pytest.mark.parametrize("packing", PACKING[1:])
@pytest.mark.parametrize("inline", [True, False], ids=["inline", "prefix"])
@pytest.mark.parametrize(
    ("size", "tuning"),
    [
        ("tiny", "full"),
        ("tiny_opt", "full"),
        ("tiny", "moe_lora"),
        (MISTRAL, "lora"),
    ],
    ids=["llama", "opt", "experts", "mistral_lora"],
)
def test_losses_and_gradients_are_those_of_separate_rows(packing, inline, size, tuning):
    options = {"tuning": tuning, "words": None if size is MISTRAL else ["a", "b"]}
    if tuning == "lora":
        options["lora"] = {"dropout": 0.0}
    if tuning == "moe_lora":
        options["moe"] = {"dropout": 0.0, "r": 4}
    place = PLACE if inline else None
    separate, packed = (model(word, size, place, **options) for word in ("none", packing))
    data = batch(inline)
    expected, gradients, plain = learned(separate, data)
    losses, found, outputs = learned(packed, data)
    assert losses.keys() == expected.keys()
    for word, value in losses.items():
        # Measured: at most 5e-7.
        torch.testing.assert_close(value, expected[word], atol=1e-5, rtol=1e-5)
    assert found.keys() == gradients.keys()
    for name, gradient in found.items():
        # Measured: at most 1.5e-5 of the norm, with experts; 2e-8 where it is 0 but for rounding.
        # Sums run in another order.
        apart_by = float((gradient - gradients[name]).norm())
        assert apart_by < 1e-4 * float(gradients[name].norm()) + 1e-6, name
    assert outputs["targets"].sort()[0].equal(plain["targets"].sort()[0])


def test_shared_rows_hold_an_image_once():
    vlm, data = model("shared"), batch()
    visual = vlm.encode_images(data)
    keys = keys_of(data, visual, PLACE)
    row, plan = pack(vlm.merge_embeddings(data, visual), keys)
    # Three dialogues on image 0 share "1 20" and four embeddings but for the last of them, which
    # predicts what dialogue 4 learns; two on (1, 0) share ten.
    counts = plan.counts[0].tolist()
    assert counts.count(3) == 2 + 4 - 1 and counts.count(2) == 2 + 8
    assert sum(counts) == int(data.attention_mask.sum())
    assert row.inputs_embeds.shape[1] == len(counts) == sum(counts) - 2 * 5 - 10
    apart = pack(vlm.merge_embeddings(data, visual))[1]
    assert apart.positions.shape[1] == sum(counts) and apart.counts.eq(1).all()
    assert apart.longest == plan.longest == int(data.attention_mask.sum(1).max())


def test_a_dialogue_does_not_see_its_neighbours():
    vlm = model("shared")
    data = batch()
    with torch.no_grad():
        whole = vlm(data)
        changed = [(images, [25 if id == 22 else id for id in text]) for images, text in DIALOGUES]
        other = vlm(batch(dialogues=changed))
    same = (whole["logits"] == other["logits"]).all(1)
    # Only the second dialogue, which has three learned tokens, asks something else.
    assert int((~same).sum()) == 3
    assert whole["targets"][~same].tolist() == [33, 34, 2]


def test_padding_on_the_left_is_left_out_as_well():
    vlm = model("rows")
    with torch.no_grad():
        left, right = (vlm(batch(left=side))["logits"] for side in (True, False))
    torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-6)


def test_packed_weights_generate_as_before():
    vlm = model("rows", tuning="full")
    asked = batch(left=True)
    before = vlm.generate(asked, max_new_tokens=5)
    learned(vlm, batch())  # from here on the language model attends by `packed_attention`
    assert vlm.generate(asked, max_new_tokens=5) == before


def test_words_and_models_that_do_not_fit_are_told():
    with pytest.raises(UserError, match=r"model.packing='row'.*rows"):
        model("row")
    vlm = model("none")
    vlm.bridge.joint = True
    with pytest.raises(UserError, match=r"anew for each question: set model.packing=rows"):
        VisionLanguageModel(vlm.vision, vlm.bridge, vlm.lm, packing="shared")
    vlm = model("rows")
    vlm.lm.model.set_attn_implementation("eager")
    with pytest.raises(UserError, match=r"LlamaForCausalLM does not attend.*model.packing=none"):
        vlm(batch())
    narrow = model("rows", {**MISTRAL, "sliding_window": 8}, words=None)
    with pytest.raises(UserError, match=r"within 8 tokens.*has 15"):
        narrow(batch())


def test_a_model_that_does_not_read_the_plan_is_told(monkeypatch):
    vlm = model("rows")
    # As a layer would that attends by a function of its own.
    first = vlm.lm.model.base_model.layers[0].self_attn
    monkeypatch.setattr(first, "forward", lambda hidden_states, **_: (hidden_states, None))
    with pytest.raises(UserError, match=r"set model.packing=none"):
        vlm(batch())


def test_attention_without_a_plan_is_transformers_own():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 5, 8).unbind(0)
    module = SimpleNamespace(is_causal=True)
    whole = packed_attention(module, query, key, value, None)[0]
    plan = Plan([], torch.arange(5)[None], torch.ones(1, 5))
    expected = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    torch.testing.assert_close(whole, expected.transpose(1, 2))
    assert plan.longest == 5
