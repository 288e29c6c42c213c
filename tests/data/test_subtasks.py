"""Descriptions in theme, objects, positions and relations, and the aspect of a question."""

import json

import pytest
from PIL import Image

from rsvlm.data.datasets.rsicap import RSICap
from rsvlm.data.text.subtasks import ASPECTS, aspect_of, is_description, part, sentences, split
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes
from rsvlm.synthetic.caption import description
from rsvlm.synthetic.questions import questions

RSICAP = (
    "This is a high-resolution image of a harbor. In the image, two ships are docked next to a "
    "pier. There are five cars in the image. A big tree is in the lower left corner of the image."
)


def test_a_description_like_rsicaps():
    assert split(RSICAP) == {
        "theme": "This is a high-resolution image of a harbor.",
        "objects": "There are five cars in the image.",
        "positions": "A big tree is in the lower left corner of the image.",
        "relations": "In the image, two ships are docked next to a pier.",
    }
    assert part(RSICAP, "relations", ("theme", "objects", "relations")).startswith("In the image")
    assert part(RSICAP, "relations", ("theme", "objects", "relations")).endswith("of the image.")
    assert part(RSICAP, "whole", ("whole",)) == RSICAP


@pytest.mark.parametrize(
    "tasks",
    [
        ("whole",),
        ("theme", "objects+relations"),
        ("theme", "objects", "relations"),
        ASPECTS,
        ("objects", "theme"),
    ],
)
def test_parts_hold_each_sentence_once(tasks):
    for number in range(40):
        text = description(Scenes("train", n=40, size=64).scene(number)).text
        said = [s for task in tasks for s in sentences(part(text, task, tasks))]
        assert sorted(said) == sorted(sentences(text))


def test_a_text_without_a_theme_begins_with_it_and_one_sentence_has_one_part():
    assert split("There are two ships. There is a pier.")["theme"] == "There are two ships."
    found = split("many planes are parked next to a long building in an airport.")
    assert [aspect for aspect in ASPECTS if found[aspect]] == ["relations"]
    assert not any(split("").values()) and sentences("3.5 m wide. Two of them!") == [
        "3.5 m wide.",
        "Two of them!",
    ]


def test_the_rule_agrees_with_what_the_world_means():
    """The world knows what each sentence of a description claims."""
    means = {
        "class": "theme",
        "ground": "theme",
        "cover": "theme",
        "relation": "relations",
        "place": "positions",
        "count": "objects",
        "least": "objects",
    }
    scenes = Scenes("train", n=120, size=64)
    right = total = 0
    for number in range(len(scenes)):
        told = description(scenes.scene(number))
        parts = split(told.text)
        wanted = {means[claim.kind] for claim in told.claims if claim.kind in means}
        for aspect in ASPECTS:
            total += 1
            right += bool(parts[aspect]) == (aspect in wanted)
    assert right / total > 0.95


def test_instructions_of_rsicap_describe_and_questions_do_not():
    for asked in (
        "Describe this image in detail.",
        "Please provide a detailed description of the picture.",
        "Could you describe the contents of this image for me?",
        "Take a look at this image and describe what you notice.",
        " ",
    ):
        assert is_description(asked)
    assert not is_description("Is there a tank?")
    aspects = {"scene": "theme", "rural_urban": "theme", "place": "positions", "comp": "relations"}
    for number in range(30):
        for question in questions(Scenes("train", n=30, size=64).scene(number)):
            assert aspect_of(question.text) == aspects.get(question.kind, "objects")


def test_rsicap_in_its_sub_tasks(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "a.png")
    rows = [
        {"filename": "a.png", "text_input": "Describe it.", "text_output": text}
        for text in (RSICAP, "This is an image of a field.")
    ]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": rows}))
    assert len(RSICap(tmp_path)) == len(RSICap(tmp_path, subtask="theme")) == 2
    (sample,) = RSICap(tmp_path, subtask="objects")
    assert sample.texts == ["There are five cars in the image."] == [sample.turns[1].text]
    with pytest.raises(UserError, match="Did you mean theme"):
        RSICap(tmp_path, subtask="themes")
