import json

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets import AIRSLT
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.describe import describe
from rsvlm.errors import UserError

SQUARE = [[2.5, 1.0], [6.0, 1.0], [6.0, 5.0], [2.5, 5.0]]
TRIANGLE = [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0], [0.0, 4.0]]
ANNOTATIONS = [
    {"caption": "a pond next to a road.\n", "jpg_name": "0.jpg", "points": [SQUARE]},
    {"caption": "two fields", "jpg_name": "0.jpg", "points": [SQUARE, TRIANGLE]},
    {"caption": "cars", "jpg_name": "7.jpg", "points": [TRIANGLE]},
]


def write(root, annotations=ANNOTATIONS, *, where="annotations", images=("0.jpg", "7.tif")):
    (root / where).mkdir(parents=True, exist_ok=True)
    (root / where / "anno.json").write_text(json.dumps(annotations))
    (root / "imgs").mkdir(exist_ok=True)
    for name in images:
        Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(root / "imgs" / name)
    return root


@pytest.mark.parametrize("where", ["annotations", "."])
def test_sentences_and_regions(tmp_path, where):
    data = AIRSLT(write(tmp_path, where=where))
    assert len(data) == 3 and not data.problems
    sample = data[1]
    assert sample.texts == ["two fields"] and sample.images[0].size == (12, 9)
    assert sample.meta["image"] == "0.jpg" and sample.meta["polygons"] == [SQUARE, TRIANGLE]
    boxes = [instance.box for instance in sample.instances]
    assert boxes == [(2.5, 1.0, 6.0, 5.0), (0.0, 0.0, 3.0, 4.0)]
    assert all(i.mask is None and i.phrase == "two fields" for i in sample.instances)
    assert data[0].texts == ["a pond next to a road."]
    assert len({entry.id for entry in data.entries}) == 3
    assert data[2].images[0].size == (12, 9)  # 7.tif for 7.jpg


def test_annotations_without_pixels(tmp_path):
    root = write(tmp_path, images=("0.jpg",))
    data = AIRSLT(root)
    assert len(data) == 3 and "1 of 2 images" in data.problems[0] and "7.jpg" in data.problems[0]
    assert data.instances(2)[0].box == (0.0, 0.0, 3.0, 4.0)
    assert describe(data)["captions"]["count"] == 3
    with pytest.raises(BrokenImage, match=r"7\.jpg: cannot be opened"):
        data[2]
    assert len(AIRSLT(root, missing="skip")) == 2
    with pytest.raises(UserError, match="1 of 2 images"):
        AIRSLT(root, missing="error")


def test_large_images_are_read_without_a_warning(tmp_path, monkeypatch, recwarn):
    data = AIRSLT(write(tmp_path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 80)  # 12 x 9 lies between this and its double
    assert data[0].images[0].size == (12, 9) and not recwarn.list
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(BrokenImage, match="too large"):
        data[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"caption": " "}, r"\[0\] \(0\.jpg\) has no caption"),
        ({"jpg_name": None}, r"\[0\] \(\?\) has no jpg_name"),
        ({"points": []}, "no polygon"),
        ({"points": [SQUARE, [[1, 2], [3, 4]]]}, "polygon 1: fewer than 3 corners"),
        ({"points": [[[1, 2], [3, 4], [5, "x"]]]}, r"polygon 0: not a list of \[x, y\]"),
        ({"points": [[[1, 2], [3, 4], [5, float("nan")]]]}, "not finite"),
        ({"points": [[[1, 2], [1, 3], [1, 4]]]}, "no area"),
    ],
)
def test_malformed_annotations_are_named(tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        AIRSLT(write(tmp_path, [ANNOTATIONS[0] | change]))


def test_absent_or_other_files(tmp_path):
    with pytest.raises(UserError, match=r"no anno\.json"):
        AIRSLT(tmp_path)
    with pytest.raises(UserError, match="no list of annotations"):
        AIRSLT(write(tmp_path, {"a": 1}))
    with pytest.raises(UserError, match="no split 'train'"):
        AIRSLT(write(tmp_path), "train")
