"""predict over folders, patterns, lists and pairs of folders, to a file of answers."""

import csv
import json

import numpy as np
import pytest
from model_options import build
from PIL import Image

from rsvlm.data import rle
from rsvlm.data.sample import Answer, Part
from rsvlm.errors import UserError
from rsvlm.inference import api, many
from rsvlm.inference.display import free_name, show


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p" / "deep").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "deep/c.png")):
        Image.new("RGB", (40 + i, 40), (60 * i, 90, 120)).save(tmp_path / "p" / name)
    (tmp_path / "p" / "notes.md").write_text("no picture")
    return tmp_path / "p"


@pytest.fixture(scope="module")
def clip():
    return build("clip_tiny").eval()


def test_a_folder_a_pattern_and_a_list_name_pictures(folder, tmp_path):
    names = [str(folder / name) for name in ("a.png", "b.png", "deep/c.png")]
    assert many.listed(str(folder)) == names
    assert many.listed(str(folder / "*.png")) == names[:2]
    listing = tmp_path / "list.txt"
    listing.write_text("\ufeffp/b.png\n\n" + names[0] + "\n", "utf-8")
    assert many.listed(str(listing)) == [names[1], names[0]]
    assert many.listed(names[0]) is None
    for nothing in (tmp_path / "p" / "none*.png", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="holds no picture"):
            many.listed(str(nothing))


def test_two_folders_are_pairs_by_name(folder, tmp_path):
    other = tmp_path / "q"
    (other / "deep").mkdir(parents=True)
    for name in ("a.png", "b.png", "deep/c.png"):
        Image.new("RGB", (40, 40)).save(other / name)
    found = many.pairs(str(folder), str(other))
    assert found[2] == (str(folder / "deep/c.png"), str(other / "deep/c.png"))
    assert many.pairs(str(folder / "a.png"), str(other / "a.png")) is None
    (other / "b.png").unlink()
    with pytest.raises(UserError, match=r"b\.png: each pair has one name in both"):
        many.pairs(str(folder), str(other))
    with pytest.raises(UserError, match="is no folder"):
        many.pairs(str(folder), str(other / "a.png"))


def test_answers_go_to_a_file_and_a_broken_picture_is_told(clip, folder, tmp_path, capsys):
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    out = tmp_path / "answers.jsonl"
    words = {"pictures": [str(folder)], "prompt": "a beach; a port", "batch_size": 2}
    show(clip, tmp_path, picture=str(out), **words)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["path"] for row in rows] == many.listed(str(folder))
    alone = api.predict(clip, folder / "deep/c.png", ["a beach", "a port"])
    assert rows[2]["answer"] == alone.text
    assert rows[2]["score"] == pytest.approx(alone.score, rel=1e-4)
    assert "error" in rows[1] and "answer" not in rows[1]
    assert "2 of 3 asked, 1 could not be" in capsys.readouterr().out
    show(clip, tmp_path, picture=str(tmp_path / "answers.csv"), **words)
    with (tmp_path / "answers.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["answer"] for row in table] == [row.get("answer", "") for row in rows]


def test_a_model_that_writes_answers_in_batches_as_it_does_alone(folder, tmp_path):
    model = build("llava_tiny").eval()
    found = many.ask_all(model, [[p] for p in many.listed(str(folder))], "what?", batch_size=3)
    for path, answer in found:
        assert answer.text == api.predict(model, path, "what?").text


def test_masks_of_many_pictures_are_written_and_not_kept(folder, tmp_path, capsys, monkeypatch):
    mask = np.zeros((40, 40), bool)
    mask[3:9, 5:20] = True

    def ask_many(model, samples, prompt):
        del model, prompt
        part = Part("theme", "which scene ?", "a port", 1.0)
        return {
            id: Answer(
                "it is [SEG]", masks=[mask], mask_scores=[0.8], notes=["small"], parts=[part]
            )
            for id in samples
        }

    monkeypatch.setattr("rsvlm.inference.ask.ask_many", ask_many)
    monkeypatch.setattr("rsvlm.models.protocols.is_generator", lambda model: True)
    for i in range(2):
        Image.new("RGB", (40, 40)).save(folder / ("a.png", "deep/c.png")[i])
    (folder / "b.png").unlink()
    words = {"pictures": [str(folder)], "prompt": "where ?"}
    found = show(None, tmp_path, picture=str(tmp_path / "masks"), **words)
    assert [answer.masks for _, answer in found] == [[], []]
    lines = (tmp_path / "masks" / "answers.jsonl").read_text().splitlines()
    for line, name in zip(lines, ("a", "deep/c"), strict=True):
        row = json.loads(line)
        assert row["notes"] == ["small"] and row["parts"][0]["prompt"] == "which scene ?"
        assert np.array_equal(rle.decode(row["masks"][0]["segmentation"]), mask)
        drawn = np.asarray(Image.open(tmp_path / "masks" / f"{name}_mask_1.png"))
        assert np.array_equal(drawn == 255, mask)
        assert (tmp_path / "masks" / f"{name}.png").is_file()
    show(None, tmp_path, picture=str(tmp_path / "a.csv"), **words)
    with (tmp_path / "a.csv").open(newline="") as file:
        assert [row["masks"] for row in csv.DictReader(file)] == ["1", "1"]
    capsys.readouterr()
    assert show(None, tmp_path, **words)[0][1].masks
    assert "a.png\tit is [SEG]  (1 mask)  (small)" in capsys.readouterr().out


def test_what_cannot_be_asked_says_what_can(clip, folder, tmp_path):
    with pytest.raises(UserError, match=r"one candidate, 'a beach, a port'.*cosine.*';'"):
        api.predict(clip, folder / "a.png", "a beach, a port")
    with pytest.raises(UserError, match=r"\.jsonl or \.csv"):
        show(clip, tmp_path, pictures=[str(folder)], prompt="a; b", picture="x.png")
    with pytest.raises(UserError, match=r"a \.png or \.jpg file"):
        show(clip, tmp_path, pictures=["a.png"], prompt="a; b", picture="x.gif")
    deltavlm = build("deltavlm_tiny").eval()
    with pytest.raises(UserError, match=r"compares two dates.*before=<picture> after=<picture>"):
        api.predict(deltavlm, folder / "a.png", "what has changed?")


def test_a_picture_is_looked_for_by_an_example(clip, folder):
    found = api.search(clip, folder, None, [folder / "b.png"])
    assert found.retrieved[0][0] == "b.png"
    assert found.retrieved[0][1] == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(UserError, match="not both"):
        api.search(clip, folder, "a port", [folder / "b.png"])


def test_an_answers_picture_does_not_take_anothers_place(tmp_path):
    assert free_name(tmp_path / "answer.png") == tmp_path / "answer.png"
    (tmp_path / "answer.png").touch()
    assert free_name(tmp_path / "answer.png") == tmp_path / "answer_2.png"
