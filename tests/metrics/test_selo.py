"""Semantic localisation: published indicators, and every map operation against its definition."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rsvlm.metrics import selo_image_ops
from rsvlm.metrics.selo import (
    SeLo,
    Window,
    attention_centres,
    encode_windows,
    indicators,
    probability_map,
    window_pictures,
    windows,
)

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASE = Path(GOLDEN or "") / "selo"


@pytest.mark.parity("selo")
def test_selo_indicators_equal_the_published_ones():
    cases = json.loads((CASE / "selo.json").read_text())
    assert cases
    for case in cases:
        gray = np.asarray(Image.open(CASE / case["map"]).convert("L"))
        found = indicators(gray, case["regions"])
        for word, value in found.items():
            # Sums are exact integers here and float64 there; the largest difference is 1.1e-16.
            assert value == pytest.approx(case[word], abs=1e-12), (case["map"], word)


def test_windows_are_the_published_ones():
    # By hand: step 4 on 10 x 6 (height x width): starts 0, 4, 8 -> 6 and 2, 6 -> 6; columns
    # 0, 4 -> 2 and 2 -> 2.
    found = windows(10, 6, [4])
    tops = sorted({(w.top, w.left) for w in found})
    assert tops == [(0, 0), (0, 2), (2, 2), (4, 0), (4, 2), (6, 0), (6, 2)]
    assert len(set(found)) == len(found)
    assert found[0] == Window(0, 4, 0, 4)
    covered = np.zeros((10, 6), int)
    for w in found:
        covered[w.top : w.bottom, w.left : w.right] += 1
    assert covered.min() > 0
    with pytest.raises(ValueError, match="smaller than a window"):
        windows(500, 900)


def plain_map(scores, size, steps, kernel):
    """The published order of work, pixel by pixel."""
    cut = windows(*size, steps)
    heat, count = np.zeros(size), np.zeros(size)
    for w, score in zip(cut, scores, strict=True):
        heat[w.top : w.bottom, w.left : w.right] += score
        count[w.top : w.bottom, w.left : w.right] += 1
    heat = heat / count
    heat = heat - heat.min()
    gray = np.uint8(255 * (heat / heat.max()))
    half = kernel // 2
    padded = np.pad(gray, half, mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel))
    return np.median(views, axis=(2, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", [(50, 71), (33, 33), (64, 40)])
@pytest.mark.parametrize("kernel", [1, 9, 21])
def test_maps_equal_the_plain_way(size, kernel):
    steps = (8, 16, 24)
    scores = np.random.RandomState(kernel).standard_normal(len(windows(*size, steps)))
    found = probability_map(scores, size, steps=steps, kernel=kernel)
    assert (found == plain_map(scores, size, steps, kernel)).all()


def test_the_median_of_a_map_smaller_than_its_window():
    values = np.array([[3, 200], [90, 10]], np.uint8)
    rows, columns = np.array([0, 2, 5]), np.array([0, 4, 6])
    full = np.repeat(np.repeat(values, [2, 3], 0), [4, 2], 1)
    views = np.lib.stride_tricks.sliding_window_view(np.pad(full, 7, mode="edge"), (15, 15))
    expected = np.median(views, axis=(2, 3)).astype(np.uint8)
    assert (selo_image_ops.median_of_cells(values, rows, columns, 15) == expected).all()
    with pytest.raises(ValueError, match="odd"):
        selo_image_ops.median_of_cells(values, rows, columns, 4)


def test_equal_scores_give_an_empty_map():
    assert not probability_map(np.ones(len(windows(40, 40, [8]))), (40, 40), steps=[8]).any()


def test_jpeg_changes_the_map_only_through_the_file():
    scores = np.random.RandomState(0).standard_normal(len(windows(60, 60, [8])))
    plain = probability_map(scores, (60, 60), steps=[8], kernel=5)
    held = io.BytesIO()
    Image.fromarray(plain).save(held, "JPEG", quality=95)
    expected = np.asarray(Image.open(held))
    found = probability_map(scores, (60, 60), steps=[8], kernel=5, jpeg=True)
    assert (found == expected).all()
    assert (found != plain).any()


@pytest.mark.parametrize("shape", [(37, 53), (20, 9), (1, 30), (5, 1)])
@pytest.mark.parametrize("size", [1, 4, 7, 50])
def test_box_blur(shape, size):
    gray = np.random.RandomState(0).randint(0, 256, shape).astype(np.uint8)
    before, after = size // 2, (size - 1) // 2
    padded = gray.astype(np.int64)
    for axis in (0, 1):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (before, after)
        mode = "reflect" if gray.shape[axis] > 1 else "edge"
        padded = np.pad(padded, pad, mode=mode)
    sums = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).sum((2, 3))
    expected = np.rint(sums.astype(np.float32) * np.float32(1 / size**2)).astype(np.uint8)
    assert (selo_image_ops.box_blur(gray, size) == expected).all()


@pytest.mark.parametrize("shape", [(37, 53), (9, 20), (1, 30)])
@pytest.mark.parametrize("size", [1, 2, 10, 17, 100])
def test_maximum_filter(shape, size):
    gray = np.random.RandomState(size).randint(0, 256, shape).astype(np.uint8)
    expected = np.empty_like(gray)
    for y in range(shape[0]):
        for x in range(shape[1]):
            rows = slice(max(y - size // 2, 0), y + (size - 1) // 2 + 1)
            columns = slice(max(x - size // 2, 0), x + (size - 1) // 2 + 1)
            expected[y, x] = gray[rows, columns].max()
    assert (selo_image_ops.maximum_filter(gray, size) == expected).all()


@pytest.mark.parametrize("seed", range(5))
def test_components_touch_at_corners(seed):
    mask = np.random.RandomState(seed).rand(25, 31) < 0.3 + 0.1 * seed
    left, expected = set(map(tuple, np.argwhere(mask).tolist())), []
    for seed_pixel in sorted(left.copy()):
        if seed_pixel not in left:
            continue
        group, front = [], [seed_pixel]
        left.discard(seed_pixel)
        while front:
            y, x = front.pop()
            group.append((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (y + dy, x + dx) in left:
                        left.discard((y + dy, x + dx))
                        front.append((y + dy, x + dx))
        expected.append(
            (int(sum(p[1] for p in group) / len(group)), int(sum(p[0] for p in group) / len(group)))
        )
    assert selo_image_ops.component_centres(mask) == expected


def test_polygons_fill_by_the_even_odd_rule():
    one, two = [[1, 1], [8, 1], [8, 8], [1, 8]], [[5, 5], [12, 5], [12, 12], [5, 12]]
    mask = selo_image_ops.fill_polygons((14, 14), [np.array(one), np.array(two)])
    assert mask[1:9, 1].all() and mask[8, 1:9].all()  # outlines belong to it
    assert not mask[6:8, 6:8].any()  # shared inside is left out
    assert mask[2:5, 2:8].all() and mask[9:12, 6:12].all()
    # 8 x 8 twice; shared are 4 x 4 pixels, of which the inner 2 x 2 are left out.
    assert mask.sum() == 64 + 64 - 16 - 4
    slanted = selo_image_ops.fill_polygons((6, 6), [np.array([[0.9, 0.9], [4, 0], [0, 4]])])
    assert slanted.sum() == 15
    assert selo_image_ops.fill_polygons((3, 3), [np.array([[-2, 1], [9, 1]])]).sum() == 3


def test_resize_takes_the_published_pixels():
    image = np.random.RandomState(0).randint(0, 256, (768, 768, 3)).astype(np.uint8)
    # At three pixels per step each result falls on a source pixel.
    assert (selo_image_ops.resize_cubic(image, 256) == image[1::3, 1::3]).all()
    assert selo_image_ops.resize_cubic(image[:256, :256], 256) is not None
    flat = np.full((512, 512, 3), 77, np.uint8)
    assert (selo_image_ops.resize_cubic(flat, 256) == 77).all()
    # Halfway between pixels the weights are (-192, 1216, 1216, -192) / 2048.
    weights = np.array([-192, 1216, 1216, -192]) / 2048
    patch = image[3:7, 9:13, 0].astype(float)
    half = selo_image_ops.resize_cubic(image[:512, :512], 256)
    assert abs(float(half[2, 5, 0]) - np.clip(weights @ patch @ weights, 0, 255)) <= 0.5


def test_peaks():
    gray = np.zeros((1200, 1400), np.uint8)
    gray[100:400, 100:400] = 255
    gray[900:1100, 1100:1300] = 200
    gray[900:1000, 100:160] = 90  # below one half
    centres = attention_centres(gray)
    # Each of the five blurs over 50 px moves a shape by half a pixel to the right and down.
    assert centres[0] == pytest.approx((252, 252), abs=1)
    assert centres[1] == pytest.approx((1202, 1002), abs=1)
    assert len(centres) == 2


def test_a_sharp_map_scores_better_than_a_flat_one():
    region = [[[200, 200], [400, 200], [400, 400], [200, 400]]]
    sharp = np.zeros((800, 900), np.uint8)
    sharp[180:420, 180:420] = 255
    good, bad = indicators(sharp, region), indicators(np.full((800, 900), 128, np.uint8), region)
    assert good["rmi"] > 0.9
    # The flat map is one peak in its middle, which lies within the region's radius.
    assert bad["rmi"] < 0.7
    assert good["ras"] < bad["ras"]
    # A map with no peak over one half: the published shortcut gives an offset of one radius.
    nothing = indicators(np.zeros((800, 900), np.uint8), region)
    assert nothing == pytest.approx({"rsu": 0, "ras": 1, "rda": 0, "rmi": 0}, abs=1e-12)


def test_windows_are_encoded_once_and_in_order():
    image = np.random.RandomState(0).randint(0, 256, (300, 420, 3)).astype(np.uint8)
    seen = []

    def encode(pictures):
        seen.extend(pictures)
        return torch.tensor([[float(np.asarray(p).mean())] for p in pictures])

    cut = windows(300, 420, [256])
    found = encode_windows(image, encode, steps=[256], batch=3)
    assert [p.size for p in seen] == [(256, 256)] * len(cut)
    means = [image[w.top : w.bottom, w.left : w.right].mean() for w in cut]
    assert found[:, 0].tolist() == pytest.approx(means, rel=1e-6)
    jpeg = next(window_pictures(image, cut, jpeg=True))
    assert (np.asarray(jpeg) != np.asarray(seen[0])).any()


def test_the_metric_averages_over_sentences():
    size, steps = (200, 240), (64,)
    metric = SeLo("selo", steps=steps, kernel=31)
    regions = [[[50, 50], [120, 50], [120, 120], [50, 120]]]
    g = np.random.RandomState(0)
    total = []
    for _ in range(3):
        scores = g.standard_normal(len(windows(*size, steps))).astype(np.float32)
        metric.update(torch.from_numpy(scores), size, regions)
        total.append(indicators(probability_map(scores, size, steps=steps, kernel=31), regions))
    for word, value in metric.compute().items():
        assert float(value) == pytest.approx(np.mean([one[word] for one in total]))
    assert SeLo().protocol == "selo_jpeg" and metric.protocol == "selo"


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_says_what_is_wrong():
    gray = np.zeros((100, 100), np.uint8)
    with pytest.raises(ValueError, match="without annotated regions"):
        indicators(gray, [])
    with pytest.raises(ValueError, match="region 1 has no extent"):
        indicators(gray, [[[0, 0], [9, 0], [9, 9]], [[5, 5], [5, 5]]])
    with pytest.raises(ValueError, match="inside the map"):
        indicators(gray, [[[500, 500], [600, 500], [600, 600]]])
    with pytest.raises(ValueError, match="uint8"):
        indicators(gray / 255, [[[0, 0], [9, 0], [9, 9]]])
    with pytest.raises(ValueError, match="windows of a"):
        probability_map(np.ones(3), (100, 100), steps=[50])
    with pytest.raises(ValueError, match="not finite"):
        probability_map(np.full(len(windows(100, 100, [50])), np.nan), (100, 100), steps=[50])
    with pytest.raises(ValueError, match="selo or selo_jpeg"):
        SeLo("jpeg")
    with pytest.raises(ValueError, match="no sentences"):
        SeLo().compute()
