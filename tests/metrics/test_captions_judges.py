"""CLIPScore, RefCLIPScore, and judges that the user brings."""

import math

import pytest
import torch
import torch.nn.functional as F

from rsvlm.encoders.clip.model import clip
from rsvlm.errors import UserError
from rsvlm.metrics.captions import (
    clair,
    clip_score,
    judge_captions,
    ref_clip_score,
    score_captions,
)
from rsvlm.metrics.captions.clipscore import PROMPT
from rsvlm.metrics.captions.judge import read_score
from rsvlm.metrics.names import metric_name

EYE = torch.eye(4)


def test_clip_score_by_hand():
    images = torch.stack([3 * EYE[0], EYE[1], EYE[2]])
    texts = torch.stack([EYE[0] + EYE[3], -EYE[1], 7 * EYE[2]])
    # cos 45 degrees; a negative cosine counts as 0; length does not matter.
    expected = torch.tensor([2.5 / math.sqrt(2), 0.0, 2.5])
    assert torch.allclose(clip_score(images, texts), expected)
    assert torch.allclose(clip_score(images, texts, weight=1.0), expected / 2.5)


def test_ref_clip_score_takes_the_best_reference_and_the_harmonic_mean():
    images = torch.stack([EYE[0], EYE[0], EYE[1]])
    texts = torch.stack([EYE[0] + EYE[3], EYE[0], EYE[2]])
    references = torch.stack([EYE[3], EYE[1], EYE[0], EYE[2], -EYE[0]])
    rows = torch.tensor([0, 0, 0, 2, 1])
    half = 1 / math.sqrt(2)
    first = 2 * 2.5 * half * half / (2.5 * half + half)
    # The second's reference is opposite, the third's image fits nothing: 0, not NaN.
    found = ref_clip_score(images, texts, references, rows)
    assert torch.allclose(found, torch.tensor([first, 0.0, 0.0]))


def test_features_that_do_not_fit():
    with pytest.raises(UserError, match=r"must both be \[N, D\]"):
        clip_score(EYE, EYE[:2])
    with pytest.raises(UserError, match="not finite"):
        clip_score(EYE, EYE * math.nan)
    with pytest.raises(UserError, match="3 images have no reference"):
        ref_clip_score(EYE, EYE, EYE[:1], torch.tensor([0]))
    for rows in (torch.tensor([4]), torch.tensor([-1]), torch.tensor([0, 1])):
        with pytest.raises(UserError, match="must name for each"):
            ref_clip_score(EYE, EYE, EYE[:1], rows)


def test_score_captions_with_a_clip_of_ours():
    torch.manual_seed(0)
    model = clip("tiny", activation="gelu").eval()
    size = model.image_size
    images = torch.randint(0, 256, (5, 3, size, size), dtype=torch.uint8)
    captions = ["a red roof", "two ships", "", "trees near a lake", "a road"]
    references = [["a roof"], ["ships", "two ships"], ["sea"], ["trees", "trees"], ["roads"]]
    found = score_captions(model, images, captions, references, batch=2)

    from rsvlm.encoders.clip.model import tokenizer

    ids = tokenizer("tiny")
    with torch.no_grad():
        pictures = F.normalize(model.encode_image(images), dim=-1)
        texts = F.normalize(model.encode_text(ids([PROMPT + c for c in captions])), dim=-1)
        second = F.normalize(
            model.encode_text(ids([PROMPT + "ships", PROMPT + "two ships"])), dim=-1
        )
    cosine = (pictures * texts).sum(-1).clamp(min=0)
    # Float32 sums over batches of other sizes; measured 2e-7.
    assert torch.allclose(found["clipscore"], 2.5 * cosine, atol=2e-6)
    best = (second @ texts[1]).max().clamp(min=0)
    alone = 2.5 * cosine[1]
    expected = 2 * alone * best / (alone + best) if alone + best > 0 else torch.zeros(())
    assert torch.allclose(found["refclipscore"][1], expected, atol=2e-6)
    assert set(score_captions(model, list(images), captions)) == {"clipscore"}
    with pytest.raises(UserError, match="5 images and 4 captions"):
        score_captions(model, images, captions[:4])
    with pytest.raises(UserError, match="no references"):
        score_captions(model, images, captions, [[]] * 5)


# Judges -------------------------------------------------------------------------------------------


def test_any_callable_judges():
    asked = []

    def judge(prediction, references):
        asked.append(prediction)
        return float(prediction in references)

    predictions, references = ["a roof", " ", "b"], [["a roof", "roofs"], [" "], ["c"]]
    assert judge_captions(predictions, references, judge) == [1.0, 0.0, 0.0]
    assert asked == ["a roof", "b"]  # nothing is asked about an empty answer
    for name in ("clair", "callable"):
        assert metric_name("test", "rsicd", name, "judge")


@pytest.mark.parametrize("verdict", [math.nan, -0.1, 1.5, math.inf])
def test_verdicts_outside_0_to_1_are_refused(verdict):
    with pytest.raises(UserError, match=r"the judge gave .* for caption 0 \('a'\)"):
        judge_captions(["a"], [["b"]], lambda prediction, references: verdict)


def test_nothing_to_judge():
    with pytest.raises(UserError, match="no captions"):
        judge_captions([], [], lambda p, r: 1.0)
    with pytest.raises(UserError, match="caption 0 has no references"):
        judge_captions(["a"], [[]], lambda p, r: 1.0)


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 85, "reason": "both show a roof"}', 0.85),
        ('Sure:\n```json\n{"reason": "x", "score": "40"}\n```', 0.4),
        ('{"score": 0}', 0.0),
        ('{"score": 0.9}', 0.9),
        ('{"score": 1}', 0.01),
        ("Score: 72. They agree.", 0.72),
        ('{"score": 70, "reason": "broken', 0.7),
        ("I cannot say.", None),
        ('{"score": 170}', None),
        ('{"score": NaN}', None),
        ('{"score": null} about 5', None),
        ("", None),
    ],
)
def test_replies_are_read(reply, score):
    assert read_score(reply) == (None if score is None else pytest.approx(score))


def test_clair_asks_again_and_shows_both_sides():
    replies = iter(["hm", '{"score": 60}'])
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return next(replies)

    judge = clair(ask)
    assert judge_captions(["two {ships}"], [["a boat", "ships"]], judge) == [0.6]
    assert len(asked) == 2
    assert "two {ships}" in asked[0] and "- a boat\n- ships" in asked[0]
    with pytest.raises(UserError, match="no score in 3 replies of the judge; the last one was 'x'"):
        clair(lambda prompt: "x")("a", ["b"])
