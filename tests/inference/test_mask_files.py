"""Answers with masks as files: polygons that are the mask, run lengths, PNGs."""

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from rsvlm.data import rle
from rsvlm.data.mask_polygons import polygons_of
from rsvlm.data.sample import Answer
from rsvlm.inference.mask_files import write_masks


def area(ring):
    x, y = np.asarray(ring).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) / 2


def filled(parts, size):
    """The mask whose rings these are, by counting crossings at each pixel's centre."""
    mask = np.zeros(size, bool)
    rows, columns = np.mgrid[: size[0], : size[1]]
    for part in parts:
        for ring in part:
            for (x0, y0), (x1, y1) in pairwise(ring):
                if x0 == x1:
                    low, high = sorted((y0, y1))
                    mask ^= (rows + 0.5 > low) & (rows + 0.5 < high) & (columns + 0.5 < x0)
    return mask


@pytest.mark.parametrize("seed", range(6))
def test_polygons_are_the_mask_and_in_geojsons_order(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((17, 23)) < (0.2 + 0.12 * seed)
    parts = polygons_of(mask)
    assert np.array_equal(filled(parts, mask.shape), mask)
    for part in parts:
        assert all(ring[0] == ring[-1] and len(ring) >= 5 for ring in part)
        assert area(part[0]) > 0 and all(area(hole) < 0 for hole in part[1:])
    assert sum(area(ring) for part in parts for ring in part) == mask.sum()


def test_a_ring_within_a_hole_is_a_part_of_its_own():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    parts = polygons_of(mask)
    assert sorted(len(part) for part in parts) == [1, 2]
    assert polygons_of(np.zeros((3, 3), bool)) == []


def test_polygons_are_valid_to_shapely():
    shapely = pytest.importorskip("shapely")
    mask = np.random.default_rng(9).random((30, 30)) < 0.6
    for outer, *holes in polygons_of(mask):
        assert shapely.Polygon(outer, holes).is_valid


def test_all_files_of_an_answer(tmp_path, capsys):
    picture = tmp_path / "a.png"
    Image.fromarray(np.full((20, 30, 3), 90, np.uint8)).save(picture)
    one, other = np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    one[2:8, 3:9], other[5:15, 5:25] = True, True
    answer = Answer(
        "it is [SEG] and [SEG]",
        masks=[one, other],
        mask_scores=[0.9, 0.6],
        mask_classes=[("tank", "text"), ("other", "fallback")],
        notes=["something is left out."],
    )
    files = write_masks(answer, picture, tmp_path / "out" / "answer.png")
    assert [file.name for file in files] == [
        "answer.png", "answer_mask_1.png", "answer_mask_2.png", "answer_masks.png",
        "answer_masks.json", "answer_masks.geojson",
    ]  # fmt: skip
    rows = json.loads(files[4].read_text())
    assert [row["score"] for row in rows] == [0.9, 0.6]
    assert np.array_equal(rle.decode(rows[1]["segmentation"]), other)
    assert rows[0]["bbox"] == [3, 2, 6, 6] and rows[0]["category_from"] == "text"
    assert np.array_equal(np.asarray(Image.open(files[1])) == 255, one)
    numbers = np.asarray(Image.open(files[3]))
    assert numbers[6, 6] == 1 and numbers[12, 20] == 2 and numbers[0, 0] == 0  # surest on top
    shapes = json.loads(files[5].read_text())["features"]
    assert [shape["properties"]["score"] for shape in shapes] == [0.9, 0.6]
    assert shapes[0]["geometry"]["coordinates"] == [[[[3, 2], [9, 2], [9, 8], [3, 8], [3, 2]]]]
    told = capsys.readouterr().out
    assert "note: something is left out." in told and "mask 2: 200 px, score 0.60" in told
    assert write_masks(Answer("no"), picture, tmp_path / "b.png") == []
