"""Masks in COCO's format, against what pycocotools 2.0.11 writes and draws."""

import numpy as np
import pytest

from rsvlm.data import rle


def ring():
    mask = np.zeros((5, 7), bool)
    mask[1:4, 2:5] = True
    mask[2, 3] = False
    return mask


def ellipse():
    y, x = np.mgrid[:300, :200]
    return (y - 140) ** 2 / 9 + (x - 90) ** 2 / 4 < 900


@pytest.mark.parametrize(
    ("mask", "start"),
    [
        (ring(), ";32NO0129"),
        (ellipse(), "`V9Q1T8>D:G8I6I8I6K4K6K4L4L4L4L4L4L4M2M4M2M4M2N2N2N2M4M2N2N2"),
        (np.ones((3, 2), bool), "06"),
        (np.zeros((3, 2), bool), "6"),
    ],
    ids=["ring", "ellipse", "full", "empty"],
)
def test_counts_are_the_letters_that_pycocotools_writes(mask, start):
    stored = rle.encode(mask)
    assert stored["counts"].startswith(start)
    assert stored["size"] == list(mask.shape)
    assert (rle.decode(stored) == mask).all()
    assert (rle.decode({**stored, "counts": stored["counts"].encode()}) == mask).all()
    assert rle.area(stored) == mask.sum()


def test_any_mask_comes_back_compressed_or_not():
    rng = np.random.default_rng(3)
    for _ in range(200):
        mask = rng.random(rng.integers(1, 60, 2)) < rng.random()
        for compressed in (True, False):
            stored = rle.encode(mask, compressed=compressed)
            assert isinstance(stored["counts"], str if compressed else list)
            assert (rle.decode(stored) == mask).all()


DRAWN = [
    (
        [[1, 1, 6.4, 2, 5, 6.5, 2, 5]],
        "000000000 011100000 011111000 001111000 001111000 000110000 000000000 000000000",
    ),
    ([[-3, -2, 4, -1, 4, 5, 1, 9]], "1111000 1111000 1111000 1111000 1111000 1111000"),
    (
        [[0, 0, 3, 0, 3, 3, 0, 3], [5, 1, 8, 1, 8, 3, 5, 3]],
        "111000000 111001110 111001110 000000000 000000000",
    ),
]


@pytest.mark.parametrize(("outlines", "drawn"), DRAWN, ids=["fractions", "beyond", "two"])
def test_polygons_are_filled_as_pycocotools_fills_them(outlines, drawn):
    want = np.array([[letter == "1" for letter in row] for row in drawn.split()])
    assert (rle.polygons(outlines, *want.shape) == want).all()


def test_a_polygon_outside_draws_nothing():
    assert not rle.polygons([[20, 20, 30, 20, 30, 30]], 8, 8).any()


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"size": [2, 2]}, "size"),
        ({"size": [2], "counts": "4"}, "not \\[H, W\\]"),
        ({"size": [2, 2], "counts": "5"}, "cover 5 pixels"),
        ({"size": [2, 2], "counts": ""}, "cut short"),
        ({"size": [2, 2], "counts": "T"}, "cut short"),
        ({"size": [2, 2], "counts": "4é"}, "letters"),
        ({"size": [2, 2], "counts": "4 "}, "letters"),
        ({"size": [2, 2], "counts": [1, -1, 4]}, "negative"),
        ({"size": [2, 2], "counts": [1.5, 2.5]}, "whole numbers"),
        ({"size": [2, 2], "counts": "P" * 12 + "0"}, "40 bits"),
        (None, "size"),
    ],
    ids=range(11),
)
def test_a_damaged_mask_says_what_is_wrong(stored, said):
    with pytest.raises(rle.MaskError, match=said):
        rle.decode(stored)


@pytest.mark.parametrize("outline", [[1, 1, 2, 2], [1, 1, 2, 2, 3], [1, 1, 2, 2, np.nan, 3], ["a"]])
def test_a_polygon_that_is_none_is_refused(outline):
    with pytest.raises(rle.MaskError, match="polygon"):
        rle.polygons([outline], 8, 8)
