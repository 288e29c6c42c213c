"""Boxes go to text and back through every preprocessing; no text of a model is an error."""

import random
import time

import numpy as np
import pytest

from rsvlm.data.geometry import enclosing, identity, turned, unturned
from rsvlm.data.text.box_codecs import CODECS, bind, codec
from rsvlm.data.transforms import Augment, Pad, Preprocess, Squash
from rsvlm.errors import UserError

WAYS = {
    "stored": lambda high, wide, seed: identity(high, wide),
    "squash": lambda high, wide, seed: Squash(448).geometry(high, wide),
    "pad": lambda high, wide, seed: Pad(336).geometry(high, wide),
    "crop": lambda high, wide, seed: Preprocess(504).geometry(high, wide),
    "flips": lambda high, wide, seed: (
        Augment(256, scale=(0.5, 1), vflip=True, rotation="quarter")
        .draw(high, wide, np.random.default_rng(seed))
        .geometry(256)
    ),
}


def cases(n=60, seed=0):
    """Image sizes and boxes inside, also tiny and full ones."""
    draw = random.Random(seed)
    for k in range(n):
        high, wide = draw.randint(32, 1200), draw.randint(32, 1200)
        x0, y0 = draw.uniform(0, wide - 2), draw.uniform(0, high - 2)
        x1, y1 = draw.uniform(x0 + 1, wide), draw.uniform(y0 + 1, high)
        yield k, high, wide, (x0, y0, x1, y1) if k else (0.0, 0.0, float(wide), float(high))


def test_there_are_conventions_to_test():
    assert len(CODECS) >= 9
    assert {"mini0_100", "geochat0_100_theta", "fitrs_obb", "lhrs_float01"} <= set(CODECS)
    assert {"earthgpt_padded_float01", "qwen0_1000", "qwen_absolute"} <= set(CODECS)
    assert all(c.source and c.preprocess in WAYS for c in CODECS.values())
    with pytest.raises(UserError, match="Did you mean mini0_100"):
        codec("mini0_10")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [n for n, c in CODECS.items() if c.form != "point"])
def test_upright_boxes_come_back(name, way):
    form, returned = CODECS[name], 0
    for k, high, wide, box in cases():
        geometry = WAYS[way](high, wide, k)
        seen = geometry.box(box, clip=True)
        if seen is None:
            continue
        text = form.write(box, geometry)
        parsed = form.parse(f"Sure: {text}.", geometry)
        # What was in view, in the stored image; rounding cost one unit of the last digit a side.
        wanted = geometry.inverse().box(seen, clip=False)
        a, b, _, d, e, _ = geometry.inverse().matrix
        sides = geometry.size[::-1] if form.scale else (1, 1)
        unit = np.array(sides) * form.step * (2 if form.form == "centre" else 1)
        slack = np.abs([[a, b], [d, e]]) @ unit + 1e-6
        if not parsed.boxes:  # thinner than a unit: written without area, and said to be so
            assert parsed.unparsable and min(seen[2] - seen[0], seen[3] - seen[1]) < unit.max() + 1
            continue
        returned += 1
        (found,) = parsed.boxes
        got = enclosing(turned(found.box, found.angle or 0.0))
        assert np.abs(np.subtract(got, wanted)).reshape(2, 2).max(0) == pytest.approx(
            np.zeros(2), abs=max(slack)
        )
    assert returned >= 25


@pytest.mark.parametrize("way", ["stored", "squash", "pad", "flips"])
@pytest.mark.parametrize("name", [n for n, c in CODECS.items() if c.has_angle])
def test_oriented_boxes_come_back(name, way):
    form, draw = CODECS[name], random.Random(1)
    for k in range(60):
        side = draw.randint(300, 900)  # square: scaled alike, so that boxes stay boxes
        x, y = draw.uniform(0.4, 0.6) * side, draw.uniform(0.4, 0.6) * side
        w, h = draw.uniform(0.15, 0.35) * side, draw.uniform(0.08, 0.14) * side
        angle = draw.uniform(-90, 90)
        box = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        geometry = (
            identity(side, side).turn(k).hflip().resize(256, 256)
            if way == "flips"
            else WAYS[way](side, side, k)
        )
        (found,) = form.parse(form.write(box, geometry, angle), geometry).boxes
        assert found.angle is not None
        real, got = turned(box, angle), turned(found.box, found.angle)
        distance = np.abs(real[:, None] - got[None]).max(-1).min(1).max()
        # A unit of 1 per cent on each number and half a degree; the hull's inverse grows with
        # 1 / cos 2θ, and says nothing near 45 degrees.
        steep = abs(np.cos(2 * np.radians(angle)))
        if form.form == "hull":
            if steep < 0.35:
                continue
            assert distance < side * 0.03 / steep
        else:
            assert distance < side * 0.03


def test_the_published_texts():
    box, geometry = (10.0, 20.0, 30.0, 40.0), identity(200, 200)
    written = {
        "mini0_100": "{<5><10><15><20>}",
        "geochat0_100_theta": "{<5><10><15><20>|<0>}",
        "fitrs_obb": "{<10><15><10><10>|<0>}",
        "lhrs_float01": "[0.05, 0.10, 0.15, 0.20]",
        "earthgpt_padded_float01": "[0.050, 0.100, 0.150, 0.200]",
        "teochat0_100": "[5, 10, 15, 20]",
        "qwen0_1000": "<|box_start|>(50,100),(150,200)<|box_end|>",
        "qwen_absolute": '{"bbox_2d": [10, 20, 30, 40]}',
        "florence2_loc1000": "<loc_50><loc_100><loc_150><loc_200>",
        "molmo_points": '<point x="10.0" y="15.0">',
    }
    for name, text in written.items():
        assert codec(name).write(box, geometry) == text
    # MiniGPT cuts off, the others round.
    assert codec("mini0_100").write((1.99, 0, 199, 199), geometry) == "{<0><0><99><99>}"
    # EarthGPT pads the shorter side by half of the difference before it divides.
    form, padded = bind("earthgpt_padded_float01", Pad(224), 100, 200)
    assert form.write((0, 0, 200, 100), padded) == "[0.000, 0.250, 1.000, 0.750]"
    turn = codec("geochat0_100_theta").write((80, 90, 120, 110), geometry, 30.0)
    assert turn == "{<40><45><60><55>|<30>}"


def test_the_two_readings_of_geochat_differ_by_the_hull():
    geometry, box = identity(1000, 1000), (400.0, 450.0, 600.0, 550.0)
    hull = codec("geochat0_100_hull").write(box, geometry, 20.0)
    x0, y0, x1, y1 = enclosing(turned(box, 20.0))
    assert (
        hull == f"{{<{round(x0 / 10)}><{round(y0 / 10)}><{round(x1 / 10)}><{round(y1 / 10)}>|<20>}}"
    )
    back = unturned(enclosing(turned(box, 20.0)), 20.0)
    assert np.allclose(back, box)
    square = unturned(enclosing(turned((0, 0, 10, 10), 45.0)), 45.0)
    assert np.allclose(square, (0, 0, 10, 10))


def test_phrases_and_several_boxes():
    form, geometry = codec("mini0_100"), identity(100, 100)
    text = "<p>The three airplanes</p> {<31><69><48><87>}<delim>{<62><35><79><50>}. A road "
    text += "{<0><0><9><9>}"
    parsed = form.parse(text, geometry)
    assert [f.phrase for f in parsed.boxes] == ["The three airplanes"] * 2 + [None]
    assert parsed.boxes[0].box == (31, 69, 48, 87) and not parsed.unparsable
    boxes = [(31.0, 69.0, 48.0, 87.0), (62.0, 35.0, 79.0, 50.0)]
    assert form.write_all(boxes, geometry) == "{<31><69><48><87>}<delim>{<62><35><79><50>}"


@pytest.mark.parametrize(
    ("name", "text", "boxes", "spoilt"),
    [
        ("mini0_100", "there is none", 0, 0),
        ("mini0_100", "", 0, 0),
        ("mini0_100", "{<10><20><30>}", 0, 1),
        ("mini0_100", "{<10><20><30><40>", 0, 1),
        ("mini0_100", "{<a><b><c><d>} {<1><2><3><4>}", 1, 1),
        ("mini0_100", "{<30><40><10><20>}", 1, 0),
        ("mini0_100", "{<10><10><10><10>}", 0, 1),
        ("mini0_100", "{<999999><1><2><3>}", 1, 0),
        ("mini0_100", "{<-10><-20><30><40>}", 1, 0),
        ("geochat0_100_theta", "{<10><20><30><40>}", 1, 0),
        ("geochat0_100_theta", "{<10><20><30><40>|<x>}", 0, 1),
        ("lhrs_float01", "[0.1, 0.2, 0.3]", 0, 1),
        ("lhrs_float01", "[0.1, 0.2, 0.3, 1e3]", 1, 0),
        ("lhrs_float01", "[see 1] and [0.1,0.2,0.3,0.4]", 1, 0),
        ("qwen0_1000", "<|box_start|>(1,2),(3<|box_end|>", 0, 1),
        ("qwen0_1000", "(10,20),(30,40) and <box>(1,2),(3,4)</box>", 2, 0),
        ("qwen_absolute", '[{"bbox_2d": [1, 2, 30, 40], "label": "tank"}]', 1, 0),
    ],
)
def test_what_models_write(name, text, boxes, spoilt):
    parsed = codec(name).parse(text, identity(100, 100))
    assert len(parsed.boxes) == boxes and len(parsed.unparsable) == spoilt
    for found in parsed.boxes:
        x0, y0, x1, y1 = found.box
        assert 0 <= x0 < x1 <= 100 and 0 <= y0 < y1 <= 100


def test_florence_counts_bins_and_reads_their_middles():
    form, geometry = codec("florence2_loc1000"), identity(500, 2000)
    assert form.write((0, 0, 2000, 500), geometry) == "<loc_0><loc_0><loc_999><loc_999>"
    told = form.parse("ship<loc_10><loc_20><loc_30><loc_40> <loc_1><loc_2>", geometry)
    assert told.boxes[0].box == pytest.approx((21, 10.25, 61, 20.25))
    assert told.unparsable == ["<loc_1><loc_2>"]


@pytest.mark.parametrize("way", WAYS)
def test_points_come_back_as_boxes_without_area(way):
    form = codec("molmo_points")
    for k, high, wide, box in cases(20):
        geometry = WAYS[way](high, wide, k)
        if geometry.box(box, clip=False) != geometry.box(box, clip=True):
            continue  # the middle of what is in view is another one
        (found,) = form.parse(form.write(box, geometry), geometry).boxes
        x0, y0, x1, y1 = found.box
        assert (x0, y0) == (x1, y1)
        slack = 0.0005 * max(geometry.size) * max(map(abs, geometry.inverse().matrix[:5:4])) + 1
        assert (x0, y0) == pytest.approx(
            ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), abs=max(slack, high / 800, wide / 800)
        )


def test_molmos_texts_are_read():
    form, geometry = codec("molmo_points"), identity(100, 200)
    one = form.parse(' <point x="50.0" y="25.5" alt="a ship">a ship</point>', geometry)
    assert [p.box for p in one.boxes] == [(100, 25.5, 100, 25.5)] and not one.unparsable
    two = form.parse(
        '<points x1="10" y1="20" x2="30.5" y2="40" alt="ships">ships</points>', geometry
    )
    assert [p.box[:2] for p in two.boxes] == [(20, 20), (61, 40)]
    assert form.parse('<point alt="a ship">', geometry).unparsable


def test_boxes_that_reach_out_are_counted():
    parsed = codec("mini0_100").parse("{<90><90><130><95>} {<1><1><5><5>}", identity(100, 100))
    assert parsed.clipped == 1 and parsed.boxes[0].box == (90, 90, 100, 95)


@pytest.mark.parametrize("name", CODECS)
def test_no_text_is_an_error(name):
    draw = random.Random(name)
    bits = ["{", "}", "<", ">", "|", "[", "]", "(", ")", ",", " ", "-", ".", "e", "9", "12", "{<"]
    bits += [
        "<|box_start|>",
        "<p>",
        "</p>",
        "\n",
        "é",
        "\x00",
        "1e999",
        "nan",
        "٣",
        "{<1><2><3><4>}",
    ]
    geometry = Pad(64).geometry(30, 50)
    start = time.process_time()
    for _ in range(400):
        text = "".join(draw.choice(bits) for _ in range(draw.randint(0, 60)))
        for found in codec(name).parse(text, geometry).boxes:
            assert np.isfinite(found.box).all()
            if codec(name).form != "point":
                assert found.box[0] < found.box[2] and found.box[1] < found.box[3]
    for hostile in (
        "{<" * 3000,
        "[" + " " * 5000,
        "<p>" * 2000 + "{<1><2><3><4>}",
        "1," * 5000,
        "<points " * 3000,
        "<loc_1>" * 3001,
    ):
        codec(name).parse(hostile, geometry)
    # Measured 0.3 s; a pattern that tries every way to part a text would take minutes.
    assert time.process_time() - start < 10


def test_a_transform_that_says_nothing_is_refused():
    with pytest.raises(UserError, match="does not say where pixels go"):
        bind("mini0_100", lambda image: image, 10, 10)
    assert bind("mini0_100", None, 10, 20)[1] == identity(10, 20)
