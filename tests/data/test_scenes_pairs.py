"""The second date of the generated world."""

import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from rsvlm.data.text import no_change
from rsvlm.synthetic import PARTS, Scenes, change_words
from rsvlm.synthetic.dates import NUISANCES, maps, pair
from rsvlm.synthetic.facts import CELLS
from rsvlm.synthetic.world import SEMANTIC

PAIRS = [pair(0, number, change=0.8) for number in range(60)]


def test_unchanged_pairs_say_so():
    same = [p for p in PAIRS if not p.edits]
    assert same
    for p in same:
        before, after = maps(p, 64)
        assert (before == after).all()
        for caption in change_words.change_captions(p):
            assert change_words.holds(p, caption.claims[0])
            assert caption.text.rstrip(".").lower() in no_change.SCENES


def test_changes_are_where_the_edits_are():
    acts = set()
    for p in PAIRS:
        if not p.edits:
            continue
        before, after = maps(p, 192)
        mask = before != after
        assert mask.any()
        near = Image.new("L", (192, 192))
        pen = ImageDraw.Draw(near)
        k = 192 / p.before.extent
        for e in p.edits:
            acts.add((e.act, e.name))
            xs, ys = [x * k for x, _ in e.outline], [y * k for _, y in e.outline]
            pad = 12 * k + 2  # crowns and kerbs reach out of the outline
            pen.rectangle((min(xs) - pad, min(ys) - pad, max(xs) + pad, max(ys) + pad), fill=1)
        assert not (mask & (np.asarray(near) == 0)).any(), [e.name for e in p.edits]
        for e in p.edits:
            if e.name == "building":
                index = SEMANTIC.index("building")
                gained = ((after == index) & (before != index)).any()
                lost = ((before == index) & (after != index)).any()
                assert gained if e.act == "built" else lost
    assert len(acts) >= 8


def test_a_change_lies_in_the_cell_that_is_said():
    hidden = 0
    for p in PAIRS:
        before, after = maps(p, 192)
        mask = np.asarray(before != after)
        for e in p.edits:
            row, column = divmod(CELLS.index(e.cell), 3)
            top, left = max(0, row * 64 - 6), max(0, column * 64 - 6)
            hidden += not mask[top : row * 64 + 70, left : column * 64 + 70].any()
    # trees laid into trees, and what stands under them
    assert hidden == 0


def test_changes_can_be_seen_in_small_pictures():
    """What a tiny model is given: 96 px, at least eight pixels changed, and not by a shade."""
    dataset = Scenes(n=60, size=96, layout="before_after", parts=("semantic",), change=1.0,
                     nuisance=0.0)  # fmt: skip
    changed = [s for s in dataset if s.meta["changeflag"]]
    assert len(changed) >= 57
    for sample in changed:
        mask = sample.meta["change_mask"]
        first, second = (np.asarray(i).astype(float) for i in sample.images)
        difference = np.abs(first - second).mean(2)
        assert mask.sum() >= 8
        assert difference[mask].mean() > 2 * difference[~mask].mean()


def test_unchanged_pairs_repeat_each_other():
    same = [change_words.change_captions(p) for p in PAIRS if not p.edits]
    texts = [c.text for said in same for c in said]
    assert all(len(said) == 5 for said in same)
    assert any(len({c.text for c in said}) < 5 for said in same)
    assert len(set(texts)) > 6


def test_change_captions_and_counts_are_true():
    for p in PAIRS:
        for held_out in (False, True):
            said = change_words.change_captions(p, held_out=held_out)
            assert len(said) == 5
            for caption in said:
                assert all(change_words.holds(p, c) for c in caption.claims)
                assert not re.search(r"\b[SPI]\b(?!')", caption.text.replace("I cannot", ""))
        # the first speaks of everything
        first = change_words.change_captions(p)[0]
        assert len(first.claims) == max(1, len(p.edits))
        summary = change_words.changes(p, *maps(p, 96))
        built = len([t for t in p.after.things if t.kind == "building"])
        old = len([t for t in p.before.things if t.kind == "building"])
        assert summary.buildings >= abs(built - old)
        assert bool(summary.building_cells) <= bool(summary.buildings)


def test_pair_sample_has_all_kinds_of_dialogue():
    dataset = Scenes("val", n=6, size=64, layout="before_after", parts=PARTS, change=1.0)
    for sample in dataset:
        assert sample.layout == "before_after" and len(sample.semantic) == 2
        assert sample.meta["changeflag"] == int(sample.meta["change_mask"].any())
        kinds = {t.kind for t in sample.turns}
        assert kinds - {"landmark"} == {
            "caption",
            "binary",
            "count",
            "location",
            "open",
            "dialogue",
        }
        assert [t.role for t in sample.turns] == ["user", "assistant"] * (len(sample.turns) // 2)
        assert {i.image_id for i in sample.instances} <= {0, 1}
        assert len({i.id for i in sample.instances}) == len(sample.instances)


@pytest.mark.parametrize("name", NUISANCES)
def test_nuisance_changes_the_picture_and_not_the_ground(name):
    options = {"n": 3, "size": 96, "layout": "before_after", "change": 0.0, "parts": ("semantic",)}
    classes = ["dense residential area", "commercial area", "parking lot"]
    calm = Scenes("val", nuisance=0.0, classes=classes, **options)
    strong = Scenes("val", nuisance={name: 1.0}, classes=classes, **options)

    def difference(a, b):
        return np.abs(np.asarray(a).astype(float) - np.asarray(b).astype(float)).mean()

    for quiet, loud in zip(calm, strong, strict=True):
        assert loud.meta["changeflag"] == 0
        assert (quiet.semantic[1] == loud.semantic[1]).all()
        assert (quiet.semantic[0] == quiet.semantic[1]).all()
        # sensor noise is all that differs in a calm pair: its standard deviation is at most 5.5
        assert difference(*quiet.images) < 1.15 * 5.5
        assert (np.asarray(quiet.images[0]) == np.asarray(loud.images[0])).all()
    assert max(difference(q.images[1], s.images[1]) for q, s in zip(calm, strong, strict=True)) > 1
