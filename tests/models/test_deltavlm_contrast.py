"""DeltaVLM's optional contrast head: its loss, its gradients, its published names."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from model_options import build
from torch.nn import functional as F

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import revert
from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Sample, Turn
from rsvlm.encoders.tokenizers import words_of
from rsvlm.errors import UserError
from rsvlm.losses.answer_contrast import AnswerAndContrastLoss
from rsvlm.losses.language import AnswerLoss
from rsvlm.models.deltavlm.contrastive_head import ContrastiveHead

WORDS = words_of(["what has changed no change a road house is built"])
ANSWERS = ["no change", "a road is built", "a house is built"]


def tiny(contrast=True, seed=0):
    torch.manual_seed(seed)
    sizes = {"dim": 32, "layers": 4, "heads": 4, "hidden": 48, "queries": 4, "dropout": 0.0}
    return build(
        "deltavlm",
        vision={"image_size": 28, "dim": 32, "depth": 3, "heads": 4},
        bridge={**sizes, "words": WORDS, "csrm_dropout": 0.0},
        lm={"size": "tiny", "words": WORDS, "dtype": "float32"},
        contrast=partial(ContrastiveHead, embed_dim=16) if contrast else None,
    )


def batch(model, answers=ANSWERS):
    items = []
    for number, answer in enumerate(answers):
        generator = torch.Generator().manual_seed(number)
        images = [
            torch.randint(0, 256, (3, 28, 28), generator=generator, dtype=torch.uint8)
            for _ in range(2)
        ]
        turns = [Turn("user", "what has changed", (0, 1)), Turn("assistant", answer)]
        sample = Sample(images, layout="before_after", turns=turns, meta={"id": number})
        items.append(TransformedSample(number, sample, key=(0, 0, number)))
    return model.collate(training=True)(items)


def test_the_loss_is_the_mean_of_both_directions():
    torch.manual_seed(0)
    images = F.normalize(torch.randn(3, 4, 8), dim=-1)
    texts = F.normalize(torch.randn(3, 8), dim=-1)
    outputs = {
        "logits": torch.randn(5, 7),
        "targets": torch.arange(5),
        "contrast_images": images,
        "contrast_texts": texts,
        "contrast_temp": torch.tensor(0.5),
    }
    found = AnswerAndContrastLoss(weight=2.0, contrast_smoothing=0.0)(outputs, SimpleNamespace())
    # By hand: an image is as similar to a text as the nearest of its queries.
    scores = torch.stack([torch.stack([(i @ t).max() for t in texts]) for i in images]) / 0.5
    by_hand = [-s.log_softmax(1).diagonal().mean() for s in (scores, scores.T)]
    torch.testing.assert_close(found["contrast"], 2 * torch.stack(by_hand).mean())
    torch.testing.assert_close(found["answer"], AnswerLoss()(outputs, None)["answer"])


def test_gradients_reach_the_head_and_the_text_blocks_of_the_qformer():
    model = tiny().train()
    data = batch(model)
    sum(AnswerAndContrastLoss()(model(data), data).values()).backward()
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    assert got == {n for n, p in model.named_parameters() if p.requires_grad}
    assert any("layers.3.mlp_text" in name for name in got) and not model.bridge.qformer.idle
    assert tiny(contrast=False).bridge.qformer.idle


def test_it_learns_which_answer_belongs_to_which_pair_and_the_answers_stay_the_same():
    model = tiny().train()
    data = batch(model)
    bare = tiny(contrast=False).train()
    bare.load_state_dict({n: v for n, v in model.state_dict().items() if "contrast." not in n})
    torch.testing.assert_close(model(data)["logits"], bare(data)["logits"])
    loss = AnswerAndContrastLoss(contrast_smoothing=0.0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    first = loss(model(data), data)["contrast"].item()
    for _ in range(30):
        optimizer.zero_grad()
        losses = loss(model(data), data)
        sum(losses.values()).backward()
        optimizer.step()
    # ln 3 is chance among three pairs.
    assert first > 0.5 and losses["contrast"].item() < 0.2


def test_published_names_fill_the_head_or_are_dropped(tmp_path):
    source = tiny(seed=1)
    kept = {n for n, p in source.named_parameters() if p.requires_grad}
    state = {n: v for n, v in source.state_dict().items() if n in kept}
    published = revert(state, source.dialects[0])
    assert {"temp", "vision_proj.weight", "text_proj.bias"} <= set(published)
    torch.save({"model": published, "epoch": 1}, tmp_path / "a.pth")
    model = tiny()
    checkpoints.load(model, tmp_path / "a.pth", towers=["vision", "lm"])
    assert torch.equal(model.contrast.temp, source.contrast.temp)
    assert torch.equal(model.contrast.vision_proj.weight, source.contrast.vision_proj.weight)
    bare = tiny(contrast=False)
    report = checkpoints.load(bare, tmp_path / "a.pth", towers=["vision", "lm"])
    assert "temp" in report.dropped


def test_what_cannot_be_compared_is_told():
    model = tiny().train()
    with pytest.raises(UserError, match="contrast head"):
        AnswerAndContrastLoss()({"logits": torch.zeros(1, 2), "targets": torch.zeros(1)}, None)
    data = batch(model)
    data.answers[1] = " "
    with pytest.raises(UserError, match="one here is empty"):
        model(data)
    with pytest.raises(UserError, match=r"loss\.weight"):
        AnswerAndContrastLoss(weight=-1)
