"""The robustness suite: five corruptions, three strengths, functions of (seed, index) alone."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from rsvlm.data.loading.corruptions import CORRUPTIONS, MOVING, SEVERITIES, Robustness, corrupt
from rsvlm.data.loading.wrappers import UnchangedPair
from rsvlm.data.sample import SampleError
from rsvlm.errors import UserError
from rsvlm.report.robustness import robustness_table
from rsvlm.synthetic import Scenes


def pairs(split="test", **options):
    parts = options.pop("parts", ["captions", "semantic"])
    return Scenes(split, n=4, size=64, layout="before_after", parts=parts, nuisance=0, **options)


def pixels(sample, date=1):
    image = sample.images[date]
    return image.permute(1, 2, 0).numpy() if torch.is_tensor(image) else np.asarray(image)


def far(a, b):
    return np.abs(pixels(a).astype(float) - pixels(b).astype(float)).mean()


def test_there_are_five_of_three_strengths():
    assert list(CORRUPTIONS) == ["illumination", "blur", "resolution", "viewpoint", "registration"]
    assert SEVERITIES == (1, 2, 3)


@pytest.mark.parametrize("word", list(CORRUPTIONS))
def test_a_corruption_is_deterministic_grows_and_leaves_the_first_date(word):
    data = pairs()
    for index in (0, 3):
        clean = data[index]
        made = [corrupt(clean, word, s, index=index) for s in SEVERITIES]
        for severity, sample in zip(SEVERITIES, made, strict=True):
            again = corrupt(clean, word, severity, index=index)
            assert np.array_equal(pixels(again), pixels(sample))
            assert np.array_equal(pixels(sample, 0), pixels(clean, 0))
            assert pixels(sample).shape == pixels(clean).shape and pixels(sample).dtype == np.uint8
            assert sample.texts == clean.texts and sample.turns == clean.turns
        weak, middle, strong = (far(clean, sample) for sample in made)
        assert 0 < weak < middle < strong, word
        if word in ("illumination", *MOVING):
            assert not np.array_equal(
                pixels(made[2]), pixels(corrupt(clean, word, 3, index=index, seed=1))
            )


@pytest.mark.parametrize("word", list(CORRUPTIONS))
def test_maps_move_with_their_picture_and_with_nothing_else(word):
    clean = pairs()[0]
    # The picture is drawn from the map: where both move alike, they still agree.
    painted = np.repeat(clean.semantic[1][..., None] * 20, 3, axis=2).astype(np.uint8)
    sample = replace(clean, images=[clean.images[0], torch.from_numpy(painted).permute(2, 0, 1)])
    made = corrupt(sample, word, 2, index=0)
    assert np.array_equal(made.semantic[0], clean.semantic[0])
    assert made.semantic[1].dtype == clean.semantic[1].dtype
    same = np.array_equal(made.semantic[1], clean.semantic[1])
    assert same == (word not in MOVING)
    if word in MOVING:
        # Bilinear pictures blend at borders of classes; registration moves whole pixels.
        agree = (pixels(made)[..., 0] == made.semantic[1] * 20).mean()
        assert agree > (0.7 if word == "viewpoint" else 0.999)
    assert np.array_equal(made.meta["change_mask"], clean.meta["change_mask"])
    both = corrupt(sample, word, 2, index=0, dates="both")
    moved = not np.array_equal(both.meta["change_mask"], clean.meta["change_mask"])
    assert moved == (word in MOVING and clean.meta["change_mask"].any())
    assert not np.array_equal(pixels(both, 0), pixels(clean, 0))


def test_a_shift_of_both_dates_is_drawn_for_each():
    made = corrupt(pairs()[1], "registration", 3, index=1, dates="both")
    held = pairs()[1]
    shifted = [np.abs(pixels(made, d).astype(int) - pixels(held, d)).mean() for d in (0, 1)]
    assert min(shifted) > 0 and shifted[0] != shifted[1]


def test_a_split_names_its_corruption():
    make = partial(pairs)
    clean, blurred = Robustness(make, "test"), Robustness(make, "test@blur_2")
    assert (clean.name, blurred.name) == ("scenes", "scenes_blur_2")
    assert Robustness(make, "test@blur_2", dates="both").name == "scenes_both_blur_2"
    assert len(blurred) == 4 and blurred.licence == "Apache-2.0"
    assert np.array_equal(pixels(clean[2]), pixels(pairs()[2]))
    assert np.array_equal(pixels(blurred[2]), pixels(corrupt(pairs()[2], "blur", 2, index=2)))
    assert pickle.loads(pickle.dumps(blurred)).name == "scenes_blur_2"


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("test@blurr_2", "no corruption 'blurr'.*blur"),
        ("test@blur", "severity is 1, 2 or 3"),
        ("test@blur_4", "severity is 1, 2 or 3"),
        ("tset@blur_1", "no split 'tset'"),
    ],
)
def test_what_is_no_split(split, message):
    with pytest.raises(UserError, match=message):
        Robustness(partial(pairs), split)


def test_what_cannot_be_corrupted():
    with pytest.raises(UserError, match="dates='befor'"):
        Robustness(partial(pairs), "test", dates="befor")
    single = Scenes("test", n=1, size=32)[0]
    with pytest.raises(SampleError, match="two dates"):
        corrupt(single, "blur", 1, index=0)
    boxes = pairs(parts=["captions", "instances"])[0]
    with pytest.raises(SampleError, match="leave behind"):
        corrupt(boxes, "viewpoint", 1, index=0)
    assert corrupt(boxes, "blur", 1, index=0).instances == boxes.instances


def test_the_table_sets_values_beside_the_clean_ones():
    def row(dataset, word, value):
        return {"name": f"test/{dataset}/coco/{word}", "dataset": dataset, "value": value}

    rows = [row("scenes", "change_cider", 80.0), row("scenes", "no_change_cider", 90.0)]
    assert robustness_table(rows) == ""
    rows += [row("scenes_blur_2", "change_cider", 62.5), row("scenes_blur_2", "bleu4", 1.0)]
    lines = robustness_table(rows).splitlines()
    assert lines[0] == "| corruption | severity | change_cider | no_change_cider | bleu4 |"
    assert lines[2] == "| none | - | 80.00 | 90.00 | - |"
    assert lines[3] == "| blur | 2 | 62.50 (-17.50) | - | 1.00 |"


def test_the_first_date_twice_shows_no_change():
    made = UnchangedPair(partial(pairs), "test")
    clean, blind = pairs()[1], made[1]
    assert made.name == "scenes_same_date" and len(made) == 4
    assert far(blind, clean) > 0 and (pixels(blind, 0) == pixels(blind, 1)).all()
    assert (blind.semantic[0] == blind.semantic[1]).all()
    assert blind.texts == clean.texts and blind.meta["changeflag"] == clean.meta["changeflag"]
    assert made.classes == pairs().classes
    with pytest.raises(SampleError, match="1 image"):
        UnchangedPair(partial(Scenes, n=2, size=32), "test")[0]
