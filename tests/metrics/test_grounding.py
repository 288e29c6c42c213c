"""Boxes against boxes: hand-worked cases of each rule, and polygons beside shapely."""

import math

import numpy as np
import pytest
import shapely

from rsvlm.data.geometry import turned
from rsvlm.errors import UserError
from rsvlm.metrics.grounding import Grounding, Pointing, shared_area
from rsvlm.metrics.grounding.polygons import signed_area, simple
from rsvlm.metrics.names import METRICS, metric_name


def values(metric):
    found = {word: float(value) for word, value in metric.compute().items()}
    for word in found:
        assert metric_name("test", "dior_rsvg", metric.protocol, word)
        assert metric.facts(word)["unit"] == METRICS[word].unit
    return found


def test_upright_boxes_by_hand():
    metric = Grounding()
    truth = (0, 0, 10, 10)
    boxes = [
        (0, 0, 10, 10),  # 1
        (0, 0, 10, 5),  # 50 / 100: accurate at 0.5, which is included
        (5, 0, 15, 10),  # 50 / 150
        (20, 20, 30, 30),  # 0 / 200
        None,  # 0 / 100
    ]
    metric.update(boxes, [truth] * 5, ids=list("abcde"))
    found = values(metric)
    assert found["acc50"] == 40 and found["acc60"] == found["acc90"] == 20
    assert found["box_miou"] == pytest.approx(100 * (1 + 0.5 + 1 / 3) / 5)
    assert found["box_ciou"] == pytest.approx(100 * 200 / (100 + 100 + 150 + 200 + 100))
    assert found["box_unparsable"] == 20
    assert metric.ious == pytest.approx({"a": 1, "b": 0.5, "c": 1 / 3, "d": 0, "e": 0})
    assert metric.facts()["empty"] == 1 and metric.facts()["count"] == 5


def test_minigpt_counts_the_last_pixel_and_wants_more_than_the_threshold():
    plain, pixels = Grounding("rsvg"), Grounding("minigpt")
    for metric in (plain, pixels):
        # 5 x 10 of 10 x 10; with one pixel more 6 x 11 of 11 x 11.
        metric.update([(0, 0, 5, 10)], [(0, 0, 10, 10)])
    assert values(plain)["box_miou"] == pytest.approx(50)
    assert values(pixels)["box_miou"] == pytest.approx(100 * 66 / 121)
    assert values(plain)["acc50"] == 100
    # 10 x 5 pixels of 10 x 10: exactly 0.5 is not above it.
    half = Grounding("minigpt")
    half.update([(0, 0, 9, 4)], [(0, 0, 9, 9)])
    assert values(half)["box_miou"] == pytest.approx(50) and values(half)["acc50"] == 0
    # A box of one column of pixels has an area there, and none elsewhere.
    thin = Grounding("minigpt")
    thin.update([(3, 0, 3, 9)], [(3, 0, 3, 9)])
    assert values(thin)["acc90"] == 100
    with pytest.raises(UserError, match="has no area"):
        plain.update([(3, 0, 3, 9)], [(3, 0, 3, 9)])


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 9), (9, 9, 5, 5), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)]
)
def test_boxes_without_an_area_are_counted_wrong(box):
    metric = Grounding()
    metric.update([box], [(0, 0, 10, 10)])
    assert values(metric)["box_unparsable"] == 100 and values(metric)["acc50"] == 0
    with pytest.raises(UserError, match="has no area"):
        metric.update([None], [box])


def test_turned_boxes_by_hand():
    square = (0.0, 0.0, 10.0, 10.0)
    # A square and itself turned by 45 degrees share a regular octagon: 100 * 2 (sqrt(2) - 1).
    shared = 200 * (math.sqrt(2) - 1)
    assert shared_area(turned(square, 45), turned(square, 0)) == pytest.approx(shared)
    metric = Grounding("oriented")
    quarter = ((0, 0, 20, 10), 90)  # stands on its short side now
    corners = [(5, -5), (15, -5), (15, 15), (5, 15)]
    metric.update([(square, 45), quarter, square], [(square, 0.0), corners, (square, 180)])
    values(metric)
    assert metric.ious[0] == pytest.approx(shared / (200 - shared))
    assert metric.ious[1] == pytest.approx(1) and metric.ious[2] == pytest.approx(1)


def test_the_angle_turns_counter_clockwise_as_one_sees_it():
    metric = Grounding("oriented")
    # The right end of a flat box goes up, where y is small.
    up = [(x, y) for x, y in turned((0, 0, 20, 2), 30)]
    assert max(up, key=lambda p: p[0])[1] < min(up, key=lambda p: p[0])[1]
    metric.update([((0, 0, 20, 2), 30), ((0, 0, 20, 2), -30)], [up, up])
    values(metric)
    assert metric.ious[0] == pytest.approx(1) and metric.ious[1] < 0.3


def shapes():
    """Boxes turned and moved, with one to eight shared digits, and quadrilaterals of any form."""
    draw = np.random.default_rng(0)
    for _ in range(300):
        x, y, w, h = draw.uniform(0, 100), draw.uniform(0, 100), *draw.uniform(0.5, 60, 2)
        yield turned((x, y, x + w, y + h), draw.choice([0, 90, 45, draw.uniform(-360, 360)]))
    kept = 0
    while kept < 300:
        corners = draw.uniform(0, 100, (4, 2)).round(draw.integers(0, 3))
        if simple(corners):
            kept += 1
            yield corners


def test_polygons_agree_with_shapely():
    every = list(shapes())
    draw = np.random.default_rng(1)
    shared = 0
    for corners in every:
        assert abs(signed_area(corners)) == pytest.approx(shapely.Polygon(corners).area, rel=1e-12)
    for _ in range(1500):
        one, other = (every[i] for i in draw.integers(len(every), size=2))
        expected = shapely.Polygon(one).intersection(shapely.Polygon(other)).area
        # Both are float64 sums of products of numbers up to 200; 1e-9 of an area up to 3,600.
        assert shared_area(one, other) == pytest.approx(expected, abs=1e-9)
        assert shared_area(one[::-1], np.roll(other, 2, axis=0)) == pytest.approx(
            expected, abs=1e-9
        )
        shared += expected > 0
    assert shared > 500


def test_what_is_simple_agrees_with_shapely():
    draw = np.random.default_rng(2)
    found = []
    for _ in range(500):
        corners = draw.uniform(0, 10, (4, 2))
        found.append(simple(corners))
        assert found[-1] == shapely.Polygon(corners).is_valid
    assert 50 < sum(found) < 450
    assert not simple(np.zeros((4, 2))) and not simple(np.full((4, 2), np.nan))
    assert not simple(np.array([(0, 0), (1, 1), (2, 2), (3, 3)], float))


def test_a_crossing_quadrilateral_is_no_box():
    metric = Grounding("oriented")
    crossing = [(0, 0), (10, 10), (10, 0), (0, 10)]
    metric.update([crossing], [((0, 0, 10, 10), 0)])
    assert values(metric)["box_unparsable"] == 100
    with pytest.raises(UserError, match="has no area"):
        metric.update([None], [crossing])


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((1, 2, 3), "is no box; give .x0, y0, x1, y1., or None"),
        ("{<1><2><3><4>}", "is no box"),
        (((0, 0, 1, 1), 5), "is no box"),
        ([(0, 0), (1, 0), (1, 1), (0, 1)], "is no box"),
    ],
)
def test_what_is_no_box_is_refused(box, message):
    with pytest.raises(UserError, match=message):
        Grounding().update([box], [(0, 0, 1, 1)])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input():
    box = (0, 0, 1, 1)
    with pytest.raises(UserError, match="1 boxes and 2 truths"):
        Grounding().update([box], [box, box])
    with pytest.raises(UserError, match="2 ids for 1 expressions"):
        Grounding().update([box], [box], [0, 1])
    with pytest.raises(UserError, match="nothing was given"):
        Grounding().compute()
    with pytest.raises(UserError, match="Did you mean oriented"):
        Grounding("orient")
    twice = Grounding()
    twice.update([box, None], [box, box], [4, 4])
    with pytest.raises(UserError, match="item 4 was given twice"):
        twice.compute()
    with pytest.raises(RuntimeError, match="after compute"):
        Grounding().ious  # noqa: B018


def test_points_by_hand():
    metric = Pointing()
    truth = (10, 10, 30, 20)
    told = [
        (10, 20),  # a corner, which is included
        (9.9, 15),
        (0, 0, 40, 30),  # a box: its centre, (20, 15)
        None,
        (float("nan"), 3),
        (20, 24),  # inside of the turned box alone
        (28, 15),  # inside of the upright one alone
    ]
    metric.update(told, [truth] * 5 + [(truth, 90.0)] * 2, ids=list("abcdefg"))
    found = values(metric)
    assert metric.hits == dict(zip("abcdefg", (1, 0, 1, 0, 0, 1, 0), strict=True))
    assert found == pytest.approx({"point_acc": 300 / 7, "point_unparsable": 200 / 7})
    sums = metric.statistics()
    assert {w: float(v) for w, v in sums.value(sums.rows.sum(0)).items()} == pytest.approx(found)
    with pytest.raises(UserError, match="no area"):
        Pointing().update([(1, 1)], [(5, 5, 5, 9)])
    with pytest.raises(UserError, match="no point"):
        Pointing().update([(1, 1, 1)], [truth])
    with pytest.raises(UserError, match="Did you mean inside"):
        Pointing("insid")


@pytest.mark.parametrize("angle", [0.0, 17.0, -63.0, 90.0])
def test_points_in_turned_boxes_beside_shapely(angle):
    draw = np.random.default_rng(3)
    box = (20.0, 30.0, 60.0, 45.0)
    points = draw.uniform(0, 80, (200, 2))
    metric = Pointing()
    metric.update([tuple(p) for p in points], [(box, angle)] * 200, list(range(200)))
    metric.compute()
    outline = shapely.Polygon(turned(box, angle))
    assert [metric.hits[n] for n in range(200)] == [
        outline.covers(shapely.Point(p)) for p in points
    ]
