"""RSWK: its messages, mis-nested questions and off-list classes."""

import json

import pytest
from PIL import Image

from rsvlm.data.datasets import RSWK
from rsvlm.data.datasets.rswk import CLASSES
from rsvlm.errors import UserError


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5)).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str):
        content = json.dumps(content)
    path.write_text(content, encoding="utf-8")


def message(question, answer, image="Abbey.png", **more):
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": [image]} | more


def write_lines(path, records):
    write(path, "".join(json.dumps(r) + "\n" for r in records))


def test_rswk_messages(tmp_path):
    picture(tmp_path / "images/Abbey.png")
    picture(tmp_path / "images/St. Paul's.png")
    picture(tmp_path / "images/House of Terror.png")
    ask = "<image>What is it? Answer with one of the following 16 categories: "
    whole, part = ", ".join(CLASSES), ", ".join(c for c in CLASSES if c != "Tower")
    mini = tmp_path / "DATASET/DATASET_MINI"
    write_lines(
        mini / "train/mini_train_5.jsonl",
        [
            message("<image>Describe it.", "An old abbey.", task="Image Captioning"),
            message(ask + whole + ".", "Church", "St. Paul's.png", task="Image Classification"),
            message("<image>Who built it?", "Monks", "House of Terror"),
            message(ask + part + ".", "Zoo", "/home/user/images/Abbey.png"),
            message("<image><image>Which?", "This"),
            {"messages": [{"role": "tool", "content": "x"}], "images": ["Abbey.png"]},
        ],
    )
    data = RSWK(tmp_path, "train")
    kinds = ["caption", "classification", "vqa", "classification"]
    assert [data.turns(i)[0].kind for i in range(len(data))] == kinds
    assert data[0].texts == [] and data[1].label is None and data.classes is None
    assert data[2].meta["image"] == "House of Terror"
    problems = "\n".join(data.problems)
    assert "1 class(es) are none of the 16 and have no label: Zoo (1)." in problems
    assert "1 prompt(s) list no Tower: mini_train_5.jsonl, record 4." in problems
    assert "1 conversation(s) speak of more images" in problems
    assert "1 record(s) lack messages or images" in problems
    assert RSWK(tmp_path / "DATASET", "train", images="../images")[0].images
    one = [
        message(ask + whole + ".", "Church", "St. Paul's.png"),
        message(ask + whole + ".", "Zoo", "Abbey.png"),
    ]
    write_lines(mini / "test/image_classification_mini_test_2.jsonl", one)
    write_lines(mini / "test/image_captioning_mini_test_1.jsonl", [message("<image>?", "A zoo.")])
    classes = RSWK(tmp_path, "test_classification")
    assert [sample.label for sample in classes] == [CLASSES.index("Church"), None]
    assert classes.classes == list(CLASSES)
    assert [sample.texts for sample in RSWK(tmp_path, "test_caption")] == [["A zoo."]]
    both = RSWK(tmp_path, "test_caption+test_classification")
    assert [sample.texts for sample in both] == [[], [], []] and both.classes is None
    with pytest.raises(UserError, match=r"there is no DATASET_MINI/test/image_vqa_mini"):
        RSWK(tmp_path, "test_vqa")
    with pytest.raises(UserError, match=r"no split 'test_vq'.*test_vqa"):
        RSWK(tmp_path, "test_vq")


def test_rswk_mis_nested_questions(tmp_path):
    picture(tmp_path / "images/Abbey.png")
    pairs = [{"question": "Why?", "answer": 'So "it" is.'}, {"question": "How?", "answer": "Well."}]
    text = json.dumps(pairs, indent=1)
    broken = text.replace('"Why?",', '"Why?"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)
    outputs = [pairs, text, f"```json\n{broken}\n```", "sorry", [{"question": "x"}], None]
    file = tmp_path / "DATASET/DATASET_FULL/vqa/vqa_c/vqa_c_full_test_2.json"
    write(file, [{"image_name": "Abbey", "gpt_output": o} for o in outputs] + [{"gpt_output": []}])
    data = RSWK(tmp_path, "full_test_vqa_c")
    assert [data.turns(i)[1].text for i in range(len(data))] == ['So "it" is.', "Well."] * 3
    problems = "\n".join(data.problems)
    assert "2 output(s) are a text instead of a list, whose questions were read" in problems
    assert "1 output(s) are a text instead of a list, without questions" in problems
    assert "2 question(s) lack question or answer" in problems
    assert "1 record(s) have no image_name" in problems
