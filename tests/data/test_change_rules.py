"""Change instructions from masks: regions, cells, and answers that ChangeChat's metrics read."""

import numpy as np
import pytest
from PIL import Image

from rsvlm.data.datasets.change_pairs import ChangePairs
from rsvlm.data.datasets.change_rules import cells, instructions, regions
from rsvlm.errors import UserError
from rsvlm.metrics.change.counts import published_counts, robust_counts
from rsvlm.metrics.change.flags import says_changed
from rsvlm.metrics.change.locations import published_places, robust_places


def flooded(mask, least):
    """The same by flood fill, pixel by pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    out, number = np.zeros(mask.shape, int), 0
    for start in sorted(left):
        if start not in left:
            continue
        group, reach = [], [start]
        left.discard(start)
        while reach:
            y, x = reach.pop()
            group.append((y, x))
            for near in [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                if near in left:
                    left.discard(near)
                    reach.append(near)
        if len(group) > least:
            number += 1
            for place in group:
                out[place] = number
    return out


@pytest.mark.parametrize("seed", range(12))
def test_regions_are_those_of_a_flood_fill(seed):
    draw = np.random.default_rng(seed)
    mask = draw.random((int(draw.integers(1, 30)), int(draw.integers(1, 30)))) < 0.1 + 0.05 * seed
    for least in (0, 5):
        found = regions(mask, least)
        expected = flooded(mask, least)
        assert np.array_equal(found, expected)


def test_a_region_has_six_pixels_and_corners_join():
    mask = np.zeros((30, 30), np.uint8)
    mask[0, :5] = 255  # a speck
    assert regions(mask).max() == 0
    mask[0, 5] = 255
    assert regions(mask).max() == 1
    mask[1:4, 6] = 255  # touches at a corner
    assert regions(mask).max() == 1
    mask[20:24, 20:24] = 255
    assert regions(mask).max() == 2 and regions(mask)[21, 21] == 2
    assert cells(regions(mask)) == ["top-left", "bottom-right"]
    mask[14, 0:5] = 255
    mask[14, 28:30] = 255
    assert cells(regions(mask)) == ["top-left", "bottom-right"]


def test_answers_are_read_by_the_metrics_of_changechat():
    mask = np.zeros((60, 60), np.uint8)
    mask[2:8, 2:8] = mask[50:58, 25:35] = mask[25:35, 50:58] = 1
    turns = instructions(mask, "building")
    assert [t.kind for t in turns] == ["binary"] * 2 + ["count"] * 2 + ["location"] * 2
    assert all(t.image_ids == (0, 1) for t in turns[::2])
    yes, count, where = (t.text for t in turns[1::2])
    assert says_changed(yes) and published_counts(count) == robust_counts(count) == (0, 3)
    wanted = frozenset({"top-left", "center-right", "bottom-center"})
    assert published_places(where) == robust_places(where) == (frozenset(), wanted)
    yes, count, where = (t.text for t in instructions(mask * 0, "building")[1::2])
    assert not says_changed(yes) and published_counts(count) == robust_counts(count) == (0, 0)
    assert robust_places(where) == (frozenset(), frozenset())
    mask[:20], mask[40:] = 0, 0
    assert [t.text for t in instructions(mask, "region")] == [
        turns[0].text,
        "Yes",
        "How many regions have changed?",
        "There is 1 changed region.",
        "In which cells of a 3x3 grid have regions changed?",
        "Regions: ['center-right']",
    ]


def test_a_reader_makes_them_where_it_is_told_to(tmp_path):
    for folder in ("A", "B", "label"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (12, 12), "green").save(tmp_path / folder / "a.png")
    Image.fromarray(np.full((12, 12), 255, np.uint8)).save(tmp_path / "label" / "a.png")
    assert not ChangePairs(tmp_path)[0].turns
    sample = ChangePairs(tmp_path, instructions="building")[0]
    assert sample.meta["changeflag"] == 1 and len(sample.turns) == 6
    with pytest.raises(UserError, match=r"instructions='buildings'.*building"):
        ChangePairs(tmp_path, instructions="buildings")
    (tmp_path / "label" / "a.png").unlink()
    (tmp_path / "label").rmdir()
    with pytest.raises(UserError, match="has no label/"):
        ChangePairs(tmp_path, instructions="region")


def test_of_the_real_pairs(real_data):
    data = ChangePairs(real_data / "change_pairs" / "levir_cd", instructions="building")
    counts = [robust_counts(data[i].turns[3].text)[1] for i in range(len(data))]
    flags = [data[i].meta["changeflag"] for i in range(len(data))]
    assert [bool(n) for n in counts] == [bool(f) for f in flags]
    assert 0 < sum(flags) < len(flags) and max(counts) > 3
