"""Readers of visual questions: RSVQA-LR and -HR, RSIVQA, FloodNet."""

import json
from collections import Counter

import pytest
from PIL import Image

from rsvlm.data.datasets import DATASETS, RSIVQA, RSVQAHR, RSVQALR, FloodNet
from rsvlm.data.datasets.rsivqa import kind
from rsvlm.data.inspection.describe import describe
from rsvlm.data.text.prompt_formats import dialogues
from rsvlm.errors import UserError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (9, 9, 9)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str):
        content = json.dumps(content)
    path.write_text(content, encoding="utf-8")


def dialogue(data, index=0):
    return [(t.role, t.text, t.image_ids, t.kind) for t in data[index].turns]


def test_all_are_registered_and_say_where_they_come_from():
    for word in ("rsvqa_lr", "rsvqa_hr", "rsivqa", "floodnet"):
        reader = DATASETS[word]
        assert reader.name == word and reader.paper and reader.homepage.startswith("https://")
        assert reader.published_counts and "{root}" in reader.layout
    assert sum(RSVQALR.published_counts.values()) == 77232


def question(id, image, kind, text, answers):
    return {
        "id": id, "img_id": image, "type": kind, "question": text, "answers_ids": answers,
        "active": True,
    }  # fmt: skip


def rsvqa(folder, prefix, split, questions, answers, images):
    held = {"questions": questions, "answers": answers, "images": images}
    for what, records in held.items():
        write(folder / f"{prefix}_split_{split}_{what}.json", {what: records})


@pytest.fixture
def lr(tmp_path):
    """Four questions of the test split about two images, among placeholders."""
    for name in ("1.tif", "3.tif"):
        picture(tmp_path / "Images_LR" / name)
    gone = [{"id": i, "active": False} for i in range(2)]
    questions = [
        *gone,
        question(2, 1, "presence", "Is a road present?", [7]),
        question(3, 3, "count", "What is the number of farms?", [8]),
        question(4, 1, "comp", "Are there more roads than farms?", [9]),
        question(5, 1, "rural_urban", "Is it a rural or an urban area", [6]),
    ]
    answers = [
        *gone,
        {"id": 6, "question_id": 5, "answer": "rural", "active": True},
        {"id": 7, "question_id": 2, "answer": "yes", "active": True},
        {"id": 8, "question_id": 3, "answer": 17, "active": True},
        {"id": 9, "question_id": 4, "answer": "no", "active": True},
    ]
    images = [{"id": 0, "active": False}, *({"id": i, "active": True} for i in (1, 3))]
    rsvqa(tmp_path, "LR", "test", questions, answers, images)
    return tmp_path, questions, answers, images


def test_rsvqa_takes_active_entries_by_their_ids(lr):
    data = RSVQALR(lr[0], "test")
    assert [e.id for e in data.entries] == ["2", "3", "4", "5"] and not data.problems
    assert data.inactive == 2
    assert dialogue(data) == [
        ("user", "Is a road present?", (0,), "presence"),
        ("assistant", "yes", (), "presence"),
    ]
    assert dialogue(data, 1)[1] == ("assistant", "17", (), "count")
    assert data[1].meta["image"] == "3.tif" and data[1].layout == "single"
    facts = describe(data)
    assert facts["turns"]["kinds"] == {"presence": 1, "count": 1, "comp": 1, "rural_urban": 1}
    assert facts["pictures"] == 2 and "4 samples, 10004 were published." in facts["problems"]


def test_rsvqa_types_and_grouping(lr):
    data = RSVQALR(lr[0], "test", types=["presence", "comp"])
    assert [e.id for e in data.entries] == ["2", "4"] and not describe(data)["problems"]
    data = RSVQALR(lr[0], "test", group="image")
    assert [e.id for e in data.entries] == ["1.tif", "3.tif"] and not describe(data)["problems"]
    turns = data[0].turns
    assert [t.image_ids for t in turns] == [(0,), ()] * 3
    assert len(dialogues(data[0])) == 3 and len(dialogues(data[1])) == 1
    assert [t.text for t in turns[1::2]] == ["yes", "no", "rural"]
    assert [t.kind for t in turns[::2]] == ["presence", "comp", "rural_urban"]
    # The counts belong to the class, not to this one.
    assert RSVQALR.published_counts["test"] == 10004
    with pytest.raises(UserError, match="type 'area'"):
        RSVQALR(lr[0], "test", types=["area"])
    with pytest.raises(UserError, match="group='picture'"):
        RSVQALR(lr[0], "test", group="picture")


def test_rsvqa_tells_what_is_wrong(lr):
    folder, questions, answers, images = lr
    questions += [
        question(6, 0, "presence", "Of an inactive image?", [7]),
        question(7, 1, "presence", "Without an answer?", [99]),
        question(8, 1, "colour", "Of an unknown type?", [7, 9]),
        question(9, 1, "presence", " ", [7]),
    ]
    rsvqa(folder, "LR", "test", questions, answers, images)
    data = RSVQALR(folder, "test")
    assert [e.id for e in data.entries] == ["2", "3", "4", "5", "8"]
    assert data.turns(4)[1].text == "yes"
    problems = "\n".join(data.problems)
    for words in (
        "1 question(s) name no active image and were left out: question 6.",
        "1 question(s) have no active answer and were left out: question 7.",
        "1 question(s) are of the unknown type 'colour': question 8.",
        "1 question(s) have several answers; the first was taken: question 8.",
        "1 question(s) have no words and were left out: question 9.",
    ):
        assert words in problems
    write(folder / "LR_split_test_answers.json", {"answers": [{"active": True}]})
    with pytest.raises(UserError, match=r"answers\[0\] has no id"):
        RSVQALR(folder, "test")
    write(folder / "LR_split_test_answers.json", [])
    with pytest.raises(UserError, match="no list under `answers`"):
        RSVQALR(folder, "test")
    with pytest.raises(UserError, match=r"there is no LR_split_val_images\.json"):
        RSVQALR(folder, "val")
    with pytest.raises(UserError, match="it has train, val, test"):
        RSVQALR(folder, "test_phili")


def test_rsvqa_hr_has_two_test_sets_and_images_of_either_ending(lr, tmp_path):
    _, questions, answers, images = lr
    picture(tmp_path / "Data/1.png")
    picture(tmp_path / "Data/3.png")
    questions = [q for q in questions if q.get("type") != "rural_urban"]
    rsvqa(tmp_path, "USGS", "test", questions[:3], answers, images)
    rsvqa(tmp_path, "USGS", "test_phili", questions, answers, images)
    assert len(RSVQAHR(tmp_path, "test")) == 1
    for word in ("test_phili", "test_2"):
        data = RSVQAHR(tmp_path, word)
        assert len(data) == 3 and data.entries[0].path.endswith("Data/1.png")
    (tmp_path / "Data/3.png").unlink()
    with pytest.raises(UserError, match=r"1 of 2 images are not in .*3\.tif"):
        RSVQAHR(tmp_path, "test_phili")
    assert [e.id for e in RSVQAHR(tmp_path, "test_phili", missing="skip").entries] == ["2", "4"]


def test_rsivqa_lines(tmp_path):
    with pytest.raises(UserError, match="there is no text file of it"):
        RSIVQA(tmp_path)
    picture(tmp_path / "RSIVQA/DOTA/images/P0003.png")
    picture(tmp_path / "rsicd/beach_1.jpg")
    lines = [
        "P0003: how many small vehicles are there in this picture?15",
        "P0003: does this picture contain ship?no",
        "P0003: does this picture contain ship?no",
        "P0003 does this picture contain plane?no",
        "P0003: does this picture contain plane?",
        "P0009: does this picture contain plane?no",
        "",
    ]
    write(tmp_path / "RSIVQA/DOTA/dota_val_vqa2.txt", "\n".join(lines))
    write(
        tmp_path / "RSIVQA/AID/rsicd_vqa.txt", "beach_1.jpg:what is the theme of this picture?beach"
    )
    data = RSIVQA(tmp_path, images={"AID": "rsicd"})
    assert [e.id for e in data.entries] == ["rsicd_vqa_1"] + [
        f"dota_val_vqa2_{i}" for i in (1, 2, 3)
    ]
    assert dialogue(data) == [
        ("user", "what is the theme of this picture?", (0,), "other"),
        ("assistant", "beach", (), "other"),
    ]
    assert dialogue(data, 1)[1] == ("assistant", "15", (), "number")
    assert data[2].turns[0].kind == "yes/no" and data[2].meta["source"] == "DOTA"
    problems = "\n".join(data.problems)
    assert "2 line(s) are not image:question?answer and were left out" in problems
    assert "DOTA/dota_val_vqa2.txt, line 4" in problems
    assert "1 line(s) repeat an earlier one; they were kept" in problems
    assert "UCM/ucm_res.txt is not there" in problems
    assert "1 of 3 images are not in" in problems and "P0009" in problems
    assert len(RSIVQA(tmp_path / "RSIVQA", "DOTA", missing="keep")) == 4
    grouped = RSIVQA(tmp_path, "DOTA+AID", images={"AID": "rsicd"}, group="image")
    assert [len(grouped.turns(i)) for i in range(2)] == [6, 2]
    with pytest.raises(UserError, match="1 of 2 images"):
        RSIVQA(tmp_path, "DOTA", missing="error")
    with pytest.raises(UserError, match=r"no image of split 'AID' is there"):
        RSIVQA(tmp_path, "AID")
    with pytest.raises(UserError, match=r"no split 'DOT'.*DOTA"):
        RSIVQA(tmp_path, "DOT")
    with pytest.raises(UserError, match="names the source 'RSICD'"):
        RSIVQA(tmp_path, images={"RSICD": "x"})


def test_rsivqa_types_are_those_of_the_paper():
    assert kind("How many  in the picture") == "number"
    assert kind("Does this picture contain an airplane") == "yes/no"
    assert kind("What is the location of the trees in this picture") == "other"


def test_rsivqa_own_split_never_divides_an_image(tmp_path):
    lines = [f"{i}.tif:{q}?x\n" for i in range(200) for q in ("what is it", "where is it")]
    write(tmp_path / "Sydney/sydney_vqa.txt", "".join(lines))
    parts = [RSIVQA(tmp_path, split, missing="keep") for split in ("train", "val", "test")]
    owners = [{e.meta["image"] for e in part.entries} for part in parts]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 200
    assert sum(map(len, parts)) == 400
    assert len(owners[0]) > 6 * len(owners[1]) > 0 and len(owners[2]) > 0


def test_rsivqa_as_published(real_data):
    root = real_data / "vqa_text/rsivqa"
    images = {
        "AID": str(real_data / "rsicd_160/images"),
        "DOTA": str(real_data / "dota_sample/images"),
    }
    data = RSIVQA(root, images=images, missing="keep")
    kinds = Counter(data.turns(i)[0].kind for i in range(len(data)))
    sources = Counter(e.meta["source"] for e in data.entries)
    here = set(sources)
    # 111,693 with UCM's two files, whose 4,895 lines not every copy has.
    assert sources == {s: RSIVQA.published_counts[s] for s in here} and here >= {"AID", "DOTA"}
    if "UCM" not in here:
        assert kinds == {"yes/no": 63492, "number": 31772, "other": 11534}
        assert len(data) == RSIVQA.published_counts["all"] - RSIVQA.published_counts["UCM"]
    assert any("9 line(s) repeat" in problem for problem in data.problems)
    themes = RSIVQA(root, "AID", images=images, missing="error")
    assert len(themes) == 10921 and not themes.problems
    assert themes[0].turns[1].text == "airport" and themes[0].images[0].size == (160, 160)
    assert len(RSIVQA(root, "DOTA", images=images)) == 18


def test_floodnet(tmp_path):
    with pytest.raises(UserError, match=r"there is no Questions/Training Question\.json"):
        FloodNet(tmp_path)
    for folder, name in (("Train", "6279.JPG"), ("Test", "6300.JPG")):
        picture(tmp_path / f"Images/{folder}_Image/{name}")
    asked = {
        "Image_ID": "6279.JPG",
        "Question": "How many buildings are flooded?",
        "Ground_Truth": 3,
        "Question_Type": "Complex_Counting",
    }
    questions = {
        "0": asked,
        "1": asked | {"Ground_Truth": "flooded", "Question_Type": "Condition_Recognition"},
        "2": {k: v for k, v in asked.items() if k != "Ground_Truth"},
        "3": {"Question": "?"},
    }
    write(tmp_path / "Questions/Training Question.json", questions)
    data = FloodNet(tmp_path)
    assert data.answered and len(data) == 2
    assert dialogue(data)[1] == ("assistant", "3", (), "Complex_Counting")
    assert "1 question(s) have no Ground_Truth and were left out: 2." in data.problems
    assert "1 question(s) lack Image_ID or Question and were left out: 3." in data.problems
    withheld = {"7": questions["2"] | {"Image_ID": "6300.JPG"}}
    write(tmp_path / "Questions/Test_Question.json", withheld)
    data = FloodNet(tmp_path, "test")
    assert not data.answered and not data.problems and data.entries[0].id == "7"
    assert [t.role for t in data[0].turns] == ["user"]
    assert describe(data)["turns"]["kinds"] == {"Complex_Counting": 1}
    with pytest.raises(UserError, match="it has train, val, test"):
        FloodNet(tmp_path, "valid")
    write(tmp_path / "Questions/Valid Question.json", [])
    with pytest.raises(UserError, match="no questions by number"):
        FloodNet(tmp_path, "val")
