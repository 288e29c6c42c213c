"""The vision-language model with a bridge that reads each image alone: places, prefix, window."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rsvlm.encoders.eva import EvaViT
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.models.vlm import VisionLanguageModel

PLACE = 7  # the placeholder's id


class Linear(nn.Module):
    """LLaVA's first bridge: one linear layer; here on four patches, so four vectors an image."""

    joint = False

    def __init__(self, dim_in, dim_out):
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out)

    def forward(self, features):
        return self.proj(features[:, 1:])


def model(image_token_id=PLACE, lm="tiny"):
    torch.manual_seed(0)
    vision = EvaViT(image_size=28, dim=32, depth=2, heads=4)
    vision.freeze()
    return VisionLanguageModel(
        vision, Linear, LanguageModel(lm, words=["a", "b"]), image_token_id=image_token_id
    )


#: Dialogue 0 shows two images, dialogue 1 none, dialogue 2 one that dialogue 0 shows as well.
ROWS = [(0, 1), (), (1,)]


def batch(inline=True, left=False):
    torch.manual_seed(1)
    width = 14
    ids = torch.zeros(3, width, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, images in enumerate(ROWS):
        places = [PLACE] * 4 * len(images) if inline else []
        text = [1, 20, *places, 21 + row, 30, 2]
        span = slice(width - len(text), width) if left else slice(0, len(text))
        ids[row, span] = torch.tensor(text)
        mask[row, span] = 1
        labels[row, span][-2:] = torch.tensor(text[-2:])
    images = torch.randint(0, 256, (2, 3, 28, 28), dtype=torch.uint8)
    return SimpleNamespace(
        images=images, image_rows=ROWS, input_ids=ids, attention_mask=mask, labels=labels
    )


def alone(vlm, data, row, inline):
    """Dialogue `row` written by hand, without padding."""
    seen = data.attention_mask[row].bool()
    ids, labels = data.input_ids[row, seen], data.labels[row, seen]
    visual = [vlm.bridge(vlm.vision(data.images[i : i + 1]))[0] for i in ROWS[row]]
    visual = torch.cat(visual) if visual else torch.empty(0, vlm.lm.dim)
    text = vlm.lm.embed(ids)
    if inline:
        keep = ids != PLACE
        return torch.cat([text[:2], visual, text[keep][2:]])[None], labels[None]
    nothing = torch.full((len(visual),), -100)
    return torch.cat([visual, text])[None], torch.cat([nothing, labels])[None]


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "prefix"])
@pytest.mark.parametrize("lm", ["tiny", "tiny_opt"])
def test_any_number_of_images_stands_where_it_belongs(inline, lm):
    vlm = model(PLACE if inline else None, lm).eval()
    data = batch(inline)
    found = vlm(data)
    logits = []
    for row in range(3):
        embeds, labels = alone(vlm, data, row, inline)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        logits.append(vlm.lm(embeds, mask, labels)["logits"])
    # Measured: 5e-7; padded rows are summed in another order.
    torch.testing.assert_close(found["logits"], torch.cat(logits), atol=1e-5, rtol=1e-5)
    assert found["targets"].tolist() == [30, 2] * 3


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "prefix"])
def test_a_batch_generates_what_its_rows_generate_alone(inline):
    vlm = model(PLACE if inline else None)
    data = batch(inline, left=True)
    answers = vlm.generate(data, max_new_tokens=5, repetition_penalty=1.3)
    for row in range(3):
        with torch.no_grad():
            embeds, _ = alone(vlm, data, row, inline)
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        options = {"max_new_tokens": 5, "repetition_penalty": 1.3}
        text = vlm.lm.generate(embeds, mask, **options)[0][0]
        assert vlm.decode(text.ids) == answers[row].text
        assert text.score == pytest.approx(answers[row].score, abs=1e-5)
    assert vlm.generate(data, max_new_tokens=5, repetition_penalty=1.3) == answers


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "prefix"])
@pytest.mark.parametrize("rows", [1, 2])
def test_portions_by_length_answer_as_the_whole_and_see_each_image_once(inline, rows, monkeypatch):
    vlm = model(PLACE if inline else None)
    data = batch(inline, left=True)
    whole = vlm.generate(data, max_new_tokens=5)
    seen, asked = [], []
    see, write = vlm.vision.forward, vlm.lm.generate
    monkeypatch.setattr(vlm.vision, "forward", lambda x: seen.append(len(x)) or see(x))
    monkeypatch.setattr(
        vlm.lm, "generate", lambda e, m, **o: asked.append(m.sum(1).tolist()) or write(e, m, **o)
    )
    parts = vlm.generate(data, max_new_tokens=5, rows=rows)
    assert [answer.text for answer in parts] == [answer.text for answer in whole]
    for answer, other in zip(parts, whole, strict=True):
        assert answer.score == pytest.approx(other.score, abs=1e-5)
    assert seen == [2]
    assert asked == ([[13], [9], [5]] if rows == 1 else [[13, 9], [5]])  # of rows 0, 2 and 1
    with pytest.raises(UserError, match="rows=0"):
        vlm.generate(data, rows=0)


def test_only_the_bridge_learns_and_towers_stay_in_eval_mode():
    vlm = model().train()
    assert vlm.training and not vlm.vision.training and not vlm.lm.model.training
    vlm(batch())["logits"].sum().backward()
    for name, parameter in vlm.named_parameters():
        assert (parameter.grad is not None) == name.startswith("bridge."), name
    assert vlm.generate(batch(left=True), max_new_tokens=2) and vlm.training


def test_places_and_vectors_must_agree():
    vlm, data = model(), batch()
    data.image_rows = [(0, 1), (0,), (1,)]
    with pytest.raises(UserError, match="dialogue 1 has 0 image places in its text and 4 visual"):
        vlm(data)


def test_a_dialogue_beyond_the_window_says_what_to_do():
    vlm, data = model(None), batch(False)
    for name in ("input_ids", "attention_mask", "labels"):
        setattr(data, name, getattr(data, name).repeat(1, 40))
    with pytest.raises(UserError, match=r"568 tokens.*window of 512.*cuts history first"):
        vlm(data)
