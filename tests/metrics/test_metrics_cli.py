"""`rsvlm metrics change | vqa | grounding | segmentation | retrieval` on small files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rsvlm.cli import metrics
from rsvlm.cli.metrics import COMMANDS
from rsvlm.data.rle import encode
from rsvlm.errors import UserError
from rsvlm.metrics.names import METRICS, parse

SAME = ["there is no difference", "the scene is the same as before"]
CHANGE = [
    {"id": "a", "prediction": "a road is built", "references": ["a road", "a road appears"]},
    {"id": "b", "prediction": SAME[0], "references": SAME, "changeflag": 0},
    {"id": "a", "kind": "binary", "prediction": "Yes.", "changeflag": 1},
    {"id": "b", "kind": "binary", "prediction": "perhaps", "changeflag": 0},
    {"id": "a", "kind": "count", "prediction": "1 new road, no new building", "answer": "one road"},
    {
        "id": "a",
        "kind": "location",
        "prediction": "Roads: ['top-left'] Buildings: []",
        "answer": {"road": ["top-left"], "building": []},
    },
    {"id": "a", "kind": "open", "prediction": "a road", "references": ["a road"]},
]
VQA = [
    {"prediction": "12", "answer": "37", "type": "count"},
    {"prediction": "yes", "answer": "yes", "type": "presence"},
]
BOXES = [
    {"id": 1, "prediction": [0, 0, 10, 10], "box": [0, 0, 10, 10]},
    {"id": 2, "prediction": None, "box": [0, 0, 10, 10]},
]


def main(argv):
    """`metrics`, told to replace the values of the measurement before."""
    measures = argv[0] not in ("compare", "docs", "from") and "--out" not in argv
    metrics.main([*argv, "--out", "metrics.json"] if measures and "--help" not in argv else argv)


def test_values_that_are_there_are_not_overwritten_unasked(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "metrics.json").write_text("mine")
    (tmp_path / "p.jsonl").write_text('{"id": 1, "prediction": "a b", "references": ["a b"]}\n')
    metrics.main(["captions", "p.jsonl", "--metrics", "bleu4"])
    assert (tmp_path / "metrics.json").read_text() == "mine"
    assert "--out metrics.json replaces it" in capsys.readouterr().out


def lines(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def results(path="metrics.json"):
    found = {row["name"]: row for row in json.loads(Path(path).read_text("utf-8"))["results"]}
    for name, row in found.items():
        assert row["unit"] == METRICS[parse(name).metric].unit and row["count"] > 0
    return found


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in ("compare", "docs", "from")]
)
def test_help_says_what_a_line_holds(name, capsys):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    out = capsys.readouterr().out
    assert '{"id": ' in out and ("line of predictions.jsonl" in out or "JSON Lines" in out)


def test_change_scores_every_kind_of_line(capsys):
    lines("p.jsonl", CHANGE)
    main(["change", "p.jsonl", "--data", "levir_cc", "--metrics", "bleu1,rouge_l"])
    found = {name: row["value"] for name, row in results().items()}
    expected = {
        "token_ids/change_bleu1": 50.0,  # "a road" of "a road is built"
        "token_ids/no_change_bleu1": 100.0,
        "levir_cc/change_accuracy": 100.0,
        "yes_no/change_accuracy": 50.0,
        "yes_no/change_unparsable": 50.0,
        "published/road_mae": 0.0,
        "robust/building_mae": 0.0,
        "published/road_loc_jaccard": 100.0,
        "published/building_loc_jaccard": 0.0,
        "robust/building_loc_jaccard": 100.0,
        "open_questions/bleu1": 100.0,
    }
    for name, value in expected.items():
        assert found[f"test/levir_cc/{name}"] == pytest.approx(value), name
    out = capsys.readouterr().out
    assert "location" in out and "1 questions" in out
    assert results()["test/levir_cc/token_ids/change_bleu1"]["count"] == 1


def test_change_by_sentences_of_ones_own():
    lines("p.jsonl", [{"prediction": "all is as it was", "references": ["all is as it was"]}])
    own = ["--templates", "all is as it was", "--data", "dubai_ccd", "--metrics", "bleu1"]
    main(["change", "p.jsonl", *own])
    assert results()["test/dubai_ccd/custom_templates/change_accuracy"]["value"] == 100
    with pytest.raises(UserError, match="does not know how it words unchanged pairs"):
        main(["change", "p.jsonl", "--data", "dubai_ccd"])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"kind": "counts", "prediction": "a"}], "Did you mean count"),
        ([{"kind": "count", "prediction": "a"}], r"1 of 1 lines have no 'answer'"),
        ([{"kind": "binary", "prediction": "a"}], r"no 'changeflag'"),
        ([{"prediction": "a"}], r"no 'references'"),
        ([CHANGE[0], CHANGE[0]], "was there already"),
        ([{"references": ["a"]}], "has no 'prediction'"),
    ],
)
def test_change_lines_that_cannot_be_scored(rows, message):
    lines("p.jsonl", rows)
    with pytest.raises(UserError, match=message):
        main(["change", "p.jsonl"])


def test_vqa_under_several_protocols(capsys):
    lines("p.jsonl", VQA)
    options = ["--protocol", "exact", "--protocol", "published", "--protocol", "lhrs"]
    main(["vqa", "p.jsonl", "--data", "rsvqa_lr", *options])
    found = results()
    assert found["test/rsvqa_lr/exact/acc_count"]["value"] == 0
    assert found["test/rsvqa_lr/published/acc_count"]["value"] == 100
    assert found["test/rsvqa_lr/lhrs/oa"]["left_out"] == 1
    assert "between" not in capsys.readouterr().out
    with pytest.raises(UserError, match="Did you mean exact"):
        main(["vqa", "p.jsonl", "--protocol", "exakt"])


def test_grounding_from_boxes_and_from_text():
    lines("p.jsonl", BOXES)
    main(["grounding", "p.jsonl", "--protocol", "rsvg", "--protocol", "minigpt"])
    found = results()
    assert found["test/p/rsvg/acc50"]["value"] == 50
    assert found["test/p/minigpt/box_unparsable"]["value"] == 50
    size = {"width": 200, "height": 100}
    texts = [
        {"prediction": "<p>a ship</p> {<10><20><50><80>}", "box": [20, 20, 100, 80], **size},
        {"prediction": "nowhere", "box": [20, 20, 100, 80], **size},
        {"prediction": "", "box": [20, 20, 100, 80], **size},
    ]
    lines("t.jsonl", texts)
    main(["grounding", "t.jsonl", "--codec", "mini0_100", "--data", "RSVG"])
    found = results()
    assert found["test/rsvg/rsvg/acc90"]["value"] == pytest.approx(100 / 3)
    assert found["test/rsvg/rsvg/box_unparsable"]["value"] == pytest.approx(200 / 3)
    told = {"prediction": '<point x="25" y="50">', "box": [20, 20, 100, 80], **size}
    lines("t.jsonl", [told, texts[1]])
    main(["grounding", "t.jsonl", "--codec", "molmo_points"])
    assert results()["test/t/inside/point_acc"]["value"] == 50
    with pytest.raises(UserError, match="--protocol inside"):
        main(["grounding", "t.jsonl", "--codec", "molmo_points", "--protocol", "rsvg"])
    lines("t.jsonl", [{"prediction": "x", "box": [0, 0, 1, 1]}])
    with pytest.raises(UserError, match="needs 'width' and 'height'"):
        main(["grounding", "t.jsonl", "--codec", "mini0_100"])


@pytest.mark.parametrize(
    ("codec", "line"),
    [
        (
            "llava_padded_float01",
            {"prediction": "[0.25, 0.375, 0.5, 0.625]", "box": [200, 100, 400, 300]},
        ),
        ("teochat0_100", {"prediction": "[25, 25, 75, 75]", "box": [300, 100, 500, 300]}),
        ("qwen0_1000", {"prediction": "(250,250),(500,750)", "box": [200, 100, 400, 300]}),
        (
            "qwen_absolute",
            {
                "prediction": "[100, 50, 200, 150]",
                "box": [200, 100, 400, 300],
                "input_width": 400,
                "input_height": 200,
            },
        ),
    ],
)
def test_a_codec_goes_with_its_preprocessing(codec, line):
    lines("t.jsonl", [{**line, "width": 800, "height": 400}])
    main(["grounding", "t.jsonl", "--codec", codec])
    assert results()["test/t/rsvg/box_miou"]["value"] == pytest.approx(100)
    if "input_width" in line:
        lines("t.jsonl", [{**line, "width": 800, "height": 400, "input_width": None}])
        with pytest.raises(UserError, match="'input_width' and 'input_height'"):
            main(["grounding", "t.jsonl", "--codec", codec])
        line = {k: v for k, v in line.items() if not k.startswith("input")}
        lines("t.jsonl", [{**line, "width": 800, "height": 400}])
        with pytest.raises(
            UserError, match=r"id 0: qwen_absolute writes pixels .* give 'input_width'"
        ):
            main(["grounding", "t.jsonl", "--codec", codec])


def test_published_geometry_is_that_of_the_transforms():
    from rsvlm.data.text.box_codecs import published_geometry
    from rsvlm.data.transforms import Pad, Preprocess, Squash

    box = (30.0, 21.0, 50.0, 44.0)
    for high, wide in ((61, 104), (104, 61), (64, 64)):
        for word, transform in (("pad", Pad(32)), ("crop", Preprocess(32)), ("squash", Squash(32))):
            made = published_geometry("mini0_100", high, wide, (32, 32), preprocess=word)
            off = np.subtract(
                made.box(box, clip=False), transform.geometry(high, wide).box(box, clip=False)
            )
            assert abs(off).max() < 0.6, (word, high, wide)  # crop rounds after resizing


def test_masks_are_read_as_shown_and_odd_values_are_told(folder, capsys):
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 1
    Image.fromarray(mask * 255).save(folder / "gt.png")
    for name, palette, indices in (
        ("white_first", [255, 255, 255, 0, 0, 0], 1 - mask),
        ("coloured", [0, 0, 0, 255, 0, 0], mask),
    ):
        picture = Image.fromarray(indices, "P")
        picture.putpalette(palette)
        picture.save(folder / f"{name}.png")
        lines("p.jsonl", [{"prediction": f"{name}.png", "mask": "gt.png"}])
        main(["segmentation", "p.jsonl", "--size", "original"])
        assert results()["test/p/rmsin/miou"]["value"] == 100
        assert "more than two values" not in capsys.readouterr().out
    Image.fromarray(mask * 240 + np.arange(16, dtype=np.uint8)).save(folder / "odd.png")
    lines("p.jsonl", [{"prediction": "odd.png", "mask": "gt.png"}])
    main(["segmentation", "p.jsonl", "--size", "original"])
    assert "odd.png has 32 values (0 to 255)" in capsys.readouterr().out


def test_turned_boxes_are_five_numbers_or_four_corners():
    corners = [[5, -5], [15, -5], [15, 15], [5, 15]]
    lines("p.jsonl", [{"prediction": [0, 0, 20, 10, 90], "box": corners}])
    main(["grounding", "p.jsonl", "--protocol", "oriented"])
    assert results()["test/p/oriented/acc90"]["value"] == 100


def test_segmentation_from_pictures_and_run_lengths(folder, capsys):
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "m.png")
    Image.fromarray(np.kron(mask, np.ones((2, 2), bool)).astype(np.uint8)).save(folder / "big.png")
    marked = mask.astype(np.uint8)
    marked[4:] = 255
    Image.fromarray(marked).save(folder / "marked.png")
    rows = [
        {"prediction": "m.png", "mask": encode(mask)},
        {"prediction": "big.png", "mask": "m.png"},
        {"prediction": None, "mask": "m.png"},
    ]
    lines("p.jsonl", rows)
    main(["segmentation", "p.jsonl"])
    found = results()
    assert found["test/p/rmsin/miou"]["value"] == pytest.approx(200 / 3)
    assert "1 predictions had another size" in capsys.readouterr().out
    main(["segmentation", "p.jsonl", "--size", "original"])
    assert results()["test/p/rmsin/miou"]["settings"] == {"size": "original"}
    lines("p.jsonl", [{"prediction": encode(np.ones((8, 8), bool)), "mask": "marked.png"}])
    main(["segmentation", "p.jsonl", "--protocol", "lisa"])
    assert results()["test/p/lisa/ciou"]["value"] == 100
    lines("p.jsonl", [{"prediction": ["m.png"], "mask": ["m.png", "m.png"], "image": "x"}])
    main(["segmentation", "p.jsonl", "--protocol", "pixellm"])
    assert results()["test/p/pixellm/giou"]["value"] == pytest.approx(50, abs=1e-3)
    lines("p.jsonl", [{"prediction": "none.png", "mask": "m.png"}])
    with pytest.raises(UserError, match=r"id 0: the mask .*none.png cannot be read"):
        main(["segmentation", "p.jsonl"])


def test_retrieval_from_arrays_and_from_lines(capsys):
    images, texts = np.eye(3), np.repeat(np.eye(3), 2, axis=0) + 0.01
    owner, captions = np.arange(6) // 2, np.array([f"text {i // 2}" for i in range(6)])
    parts = {"image_features": images, "text_features": texts, "image_of_text": owner}
    np.savez("f.npz", **parts, captions=captions)
    protocols = ["--protocol", "remoteclip", "--protocol", "skyscript"]
    main(["retrieval", "f.npz", *protocols, "--data", "rsicd"])
    arrays = results()
    assert arrays["test/rsicd/remoteclip/t2i_r1"]["value"] == 100
    assert arrays["test/rsicd/skyscript/i2t_r1"]["chance"] == pytest.approx(100 / 3)
    assert "6 captions, 3 sentences" in capsys.readouterr().out
    rows = [
        {
            "image": images[i].tolist(),
            "texts": texts[owner == i].tolist(),
            "captions": [f"text {i}"] * 2,
        }
        for i in range(3)
    ]
    lines("f.jsonl", rows)
    main(["retrieval", "f.jsonl", *protocols, "--data", "rsicd"])
    assert results() == arrays


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"image_features": np.eye(2)}, "lacks text_features, image_of_text"),
        ({"image_features": np.full((2, 2), np.nan)}, "are not finite"),
        ({"image_features": np.empty((0, 2))}, "at least one each"),
        ({"image_features": np.eye(3)}, "must be .b, D. and .t, D."),
        ({"captions": np.array(["a"])}, "1 captions for 2 text features"),
        ({"image_of_text": np.array([0, 0])}, "1 images have no caption"),
        ({}, "needs 'captions'"),
    ],
)
def test_features_that_cannot_be_scored(parts, message):
    whole = {"image_features": np.eye(2), "text_features": np.eye(2), "image_of_text": np.arange(2)}
    if "lacks" not in message:
        parts = whole | parts
    np.savez("f.npz", **parts)
    protocol = "skyscript" if "needs" in message else "remoteclip"
    with pytest.raises(UserError, match=message):
        main(["retrieval", "f.npz", "--protocol", protocol])


# Ids that do not fit, for every family that joins by id ----------------------------------------

FAMILIES = {
    "vqa": (VQA, ["answer", "type"], "oa", "empty"),
    "grounding": (BOXES, ["box"], "acc50", "empty"),
    "segmentation": (
        [{"prediction": encode(np.ones((4, 4), bool)), "mask": encode(np.ones((4, 4), bool))}] * 2,
        ["mask"],
        "miou",
        "empty",
    ),
    "change": (
        [{"prediction": "yes", "kind": "binary", "changeflag": 1}] * 2,
        ["changeflag", "kind"],
        "change_accuracy",
        "empty",
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_missing_and_extra_ids(name):
    rows, fields, word, empty = FAMILIES[name]
    rows = [{**row, "id": f"x{n}"} for n, row in enumerate(rows)]
    true = [{"id": row["id"], **{field: row[field] for field in fields}} for row in rows]
    kept = ("id", "prediction", "kind")
    told = [{field: row[field] for field in kept if field in row} for row in rows]
    lines("true.jsonl", true)
    lines("told.jsonl", told)
    main([name, "told.jsonl", "--references", "true.jsonl"])
    whole = [row["count"] for key, row in results().items() if key.endswith(word)]
    assert whole == [2]
    lines("told.jsonl", told[:1])
    with pytest.raises(UserError, match="1 of 2 ids have no prediction"):
        main([name, "told.jsonl", "--references", "true.jsonl"])
    main([name, "told.jsonl", "--references", "true.jsonl", "--missing", "empty"])
    found = [row for key, row in results().items() if key.endswith(word)]
    assert found[0]["count"] == 2 and found[0][empty] >= 1
    lines("told.jsonl", [*told, {**told[0], "id": "y"}])
    with pytest.raises(UserError, match=r"1 of 3 predictions are not in true.jsonl"):
        main([name, "told.jsonl", "--references", "true.jsonl"])
    lines("told.jsonl", [])
    with pytest.raises(UserError, match="holds no lines"):
        main([name, "told.jsonl"])
    lines("told.jsonl", [{**rows[0], "id": 1.5}])
    with pytest.raises(UserError, match="must be a string or an integer"):
        main([name, "told.jsonl"])
    lines("told.jsonl", ["text"])
    with pytest.raises(UserError, match="is not an object"):
        main([name, "told.jsonl"])


def test_compare_keeps_protocols_apart(capsys):
    lines("p.jsonl", VQA)
    for protocol in ("exact", "lhrs"):
        options = ["--data", "rsvqa_lr", "--protocol", protocol, "--out", f"{protocol}.json"]
        main(["vqa", "p.jsonl", *options])
    with pytest.raises(UserError, match="is two metrics"):
        main(["compare", "exact.json", "lhrs.json"])
    main(["compare", "exact.json", "exact.json"])
    assert "rsvqa_lr/exact/acc_count" in capsys.readouterr().out
