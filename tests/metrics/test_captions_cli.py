"""`rsvlm metrics captions` and `metrics compare`."""

import json
import os
from pathlib import Path

import pytest

from rsvlm.cli.metrics import main, table
from rsvlm.errors import UserError
from rsvlm.metrics.captions.records import join, read_records
from rsvlm.metrics.names import PROTOCOLS, parse

GOLDEN = os.environ.get("RSVLM_GOLDEN")
CASES = sorted(Path(GOLDEN).glob("*/*.scores.json")) if GOLDEN else []
ROWS = [
    {"id": "x", "prediction": "a red roof .", "references": ["a red roof .", "red roofs ."]},
    {"id": "y", "prediction": "", "references": ["two ships at sea ."]},
    {"id": "z", "prediction": "trees, near a (small) lake", "references": ["trees near a lake"]},
]
QUICK = "--metrics=bleu1,rouge_l"


def lines(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines(tmp_path / "predictions.jsonl", ROWS)
    return tmp_path


def results(path="metrics.json"):
    return {row["name"]: row for row in json.loads(Path(path).read_text("utf-8"))["results"]}


def test_a_table_and_a_file(folder, capsys):
    main(["captions", "predictions.jsonl"])
    out = capsys.readouterr().out
    assert PROTOCOLS["captions"]["coco"] in out and "3 images, 1 of them with an empty" in out
    found = results()
    for name, row in found.items():
        assert parse(name).protocol == row["protocol"] == "coco"
        assert (row["dataset"], row["count"], row["unit"]) == ("predictions", 3, "%")
    assert {"test/predictions/coco/bleu4", "test/predictions/coco/cider"} <= set(found)
    assert "spice" in out and "values: metrics.json" in out


def test_several_protocols_and_single_images(folder):
    options = ["--protocol", "coco", "--protocol", "rs_rag", "--data", "RSICD 160"]
    main(["captions", "predictions.jsonl", *options, QUICK, "--per-image", "--out", "a/b.json"])
    assert set(results("a/b.json")) == {
        f"test/rsicd_160/{protocol}/{word}"
        for protocol in ("coco", "rs_rag")
        for word in ("bleu1", "rouge_l")
    }
    images = json.loads(Path("a/b.json").read_text())["per_image"]["coco"]
    assert images["ids"] == ["x", "y", "z"] and images["rouge_l"][1] == 0


def test_a_vocabulary_is_part_of_the_column(folder):
    words = {"<unk>": 0, "roof": 1}
    Path("words.json").write_text(json.dumps(words))
    main(["captions", "predictions.jsonl", "--protocol", "token_ids", QUICK])
    first = table({"a": list(results().values()), "b": list(results().values())})
    with_words = ["--vocabulary", "words.json", "--out", "b.json"]
    main(["captions", "predictions.jsonl", "--protocol", "token_ids", QUICK, *with_words])
    assert "predictions/token_ids/bleu1 " in first
    with pytest.raises(UserError, match="share no metric under one protocol"):
        main(["compare", "metrics.json", "b.json"])


@pytest.mark.parity("captions")
def test_captions_from_the_command_line_equal_pycocoevalcap(tmp_path):
    file = min(CASES, key=lambda case: case.stat().st_size)
    expected = json.loads(file.read_text())
    predictions = str(file).replace(".scores.json", ".jsonl")
    options = ["--data", "golden", "--metrics", "bleu4,rouge_l,cider"]
    out = str(tmp_path / "m.json")
    main(["captions", predictions, *options, "--out", out, "--per-image"])
    found = results(out)
    for word, theirs in (("bleu4", "bleu4"), ("rouge_l", "rouge_l"), ("cider", "cider_d")):
        value = found[f"test/golden/coco/{word}"]["value"]
        assert value == pytest.approx(100 * expected[theirs], abs=1e-7)


# Files of other layouts --------------------------------------------------------------------------


def test_references_of_their_own(tmp_path):
    references = [
        {"id": 1, "references": ["a roof"]},
        {"id": 2, "references": ["a ship", "ships"]},
    ]
    refs = lines(tmp_path / "refs.jsonl", references)
    answers = [{"image_id": 2, "caption": "a ship"}, {"image_id": 1, "caption": "roofs"}]
    coco = tmp_path / "coco.json"
    coco.write_text(json.dumps(answers))
    found = read_records(coco, refs)
    assert [(r.id, r.prediction, r.references) for r in found] == [
        (1, "roofs", ("a roof",)),
        (2, "a ship", ("a ship", "ships")),
    ]
    annotations = [{"image_id": r["id"], "caption": c} for r in references for c in r["references"]]
    (tmp_path / "ann.json").write_text(json.dumps({"annotations": annotations}))
    assert read_records(coco, tmp_path / "ann.json") == found
    images = [
        {"filename": r["id"], "split": "test", "sentences": [{"raw": c} for c in r["references"]]}
        for r in references
    ]
    images.append({"filename": 3, "split": "train", "sentences": [{"raw": "x"}]})
    (tmp_path / "karpathy.json").write_text(json.dumps({"images": images}))
    assert read_records(coco, tmp_path / "karpathy.json") == found
    with pytest.raises(UserError, match=r"no references .split 'val'"):
        read_records(coco, tmp_path / "karpathy.json", split="val")


def test_ids_that_do_not_fit():
    references = {"a": ["x"], "b": ["y"]}
    with pytest.raises(
        UserError, match=r"1 of 2 predictions .* without references .first: \['c'\]"
    ):
        join({"a": "x", "c": "z"}, references)
    with pytest.raises(UserError, match=r"1 of 2 images have no prediction .first: \['b'\]"):
        join({"a": "x"}, references)
    counted = join({"a": "x"}, references, missing="empty")
    assert [record.prediction for record in counted] == ["x", ""]


def test_missing_predictions_may_count_as_empty(folder):
    lines(folder / "some.jsonl", [{"id": "x", "prediction": "a red roof ."}])
    options = ["captions", "some.jsonl", "--references", "predictions.jsonl", QUICK]
    with pytest.raises(UserError, match="2 of 3 images have no prediction"):
        main(options)
    main([*options, "--missing", "empty"])
    assert results()["test/some/coco/rouge_l"]["empty"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no predictions"),
        ('{"prediction": "a"\n', "line 1 is not JSON"),
        ('["a"]\n', "entry 1: .* is not an object"),
        ('{"answer": "a"}\n', "entry 1 has no 'prediction'; it has 'answer'"),
        ('{"prediction": "a"}\n', "1 of 1 images have no 'references'"),
        ('{"prediction": NaN, "references": ["a"]}\n', "the prediction is nan"),
        ('{"prediction": null, "references": ["a"]}\n', 'Write "" where'),
        ('{"prediction": "a", "references": []}\n', "image 0 has no references"),
        (
            '{"id": 1, "prediction": "a"}\n{"id": 1, "prediction": "b"}\n',
            "has a prediction already",
        ),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, text, message):
    file = tmp_path / "p.jsonl"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        read_records(file)


def test_files_that_are_not_there(tmp_path):
    bad = tmp_path / "words.json"
    for text, message in (('["a"]', "must hold one object"), ("{", "cannot be read")):
        bad.write_text(text)
        with pytest.raises(UserError, match=message):
            main(["captions", "p.jsonl", "--vocabulary", str(bad)])
    with pytest.raises(UserError, match="cannot be read"):
        main(["captions", str(tmp_path / "no.jsonl")])
    with pytest.raises(UserError, match=r"is no metrics\.json of rsvlm"):
        main(["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])


# compare -----------------------------------------------------------------------------------------


def row(name, value, **facts):
    return {"name": f"test/{name}", "value": value, "protocol": name.split("/")[1], **facts}


def test_compare_never_puts_two_protocols_in_one_column(folder):
    one, other = [row("rsicd/coco/meteor", 29.69)], [row("rsicd/earthdial/meteor", 56.18)]
    with pytest.raises(UserError, match=r"a: rsicd/coco; b: rsicd/earthdial.*is two metrics"):
        table({"a": one, "b": other})
    shared = row("rsicd/coco/bleu4", 35.15)
    shown = table({"a": [*one, shared], "b": [*other, shared | {"value": 30.0}]})
    head, line, rest = shown.split("\n")
    assert line.split() == ["rsicd/coco/bleu4", "35.15", "30.00"] and head.split() == ["a", "b"]
    assert "not compared: rsicd/coco/meteor, rsicd/earthdial/meteor" in rest
    for name, rows in (("a.json", one), ("b.json", other)):
        Path(name).write_text(json.dumps({"results": rows}))
    with pytest.raises(UserError, match="under one protocol"):
        main(["compare", "a.json", "b.json"])


def test_compare_wants_the_same_references():
    one = [row("rsicd/coco/cider", 99.4, references="aaa")]
    other = [row("rsicd/coco/cider", 80.1, references="bbb")]
    with pytest.raises(UserError, match=r"different references .a: aaa, b: bbb"):
        table({"a": one, "b": other})
    with pytest.raises(UserError, match="different references"):
        table(
            {
                "a": [row("x/remoteclip/i2t_r1", 1.0, count=5)],
                "b": [row("x/remoteclip/i2t_r1", 1.0, count=6)],
            }
        )
    with pytest.raises(UserError, match=r"a has test/rsicd/coco/cider twice"):
        table({"a": one * 2, "b": other})


def test_compare_reads_runs_and_files(folder, capsys):
    Path("run").mkdir()
    main(["captions", "predictions.jsonl", QUICK, "--out", "run/metrics.json"])
    main(["captions", "predictions.jsonl", QUICK, "--out", "b.json"])
    main(["compare", "run", "b.json"])
    assert "predictions/coco/rouge_l" in capsys.readouterr().out
    with pytest.raises(UserError, match="two files"):
        main(["compare", "b.json"])


def test_references_of_one_id_are_joined(folder):
    said = ["many green trees are near a river .", "a river runs through a forest ."]
    lines(folder / "p.jsonl", [{"id": "a.png", "prediction": said[0]}])
    lines(folder / "r.jsonl", [{"id": "a.png", "references": [text]} for text in said])
    assert read_records(folder / "p.jsonl", folder / "r.jsonl")[0].references == tuple(said)
    images = [{"filename": "a.png", "split": "test", "sentences": [{"raw": s}]} for s in said]
    (folder / "k.json").write_text(json.dumps({"images": images}))
    assert read_records(folder / "p.jsonl", folder / "k.json")[0].references == tuple(said)
    lines(folder / "r.jsonl", [{"id": "a.png", "references": s} for s in (said, "x")])
    with pytest.raises(UserError, match=r"entry 2: id 'a.png' was there already"):
        read_records(folder / "p.jsonl", folder / "r.jsonl")


def test_one_line_of_json_lines_under_another_name(folder):
    row = {"id": "a.png", "prediction": "a road", "references": ["a road"]}
    (folder / "p.json").write_text(json.dumps(row))
    assert read_records(folder / "p.json")[0].references == ("a road",)
