"""Conversations in a system's words, and landmarks, of the generated world."""

import re

import numpy as np
import pytest

from rsvlm.data.geometry import identity
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.instructions import system
from rsvlm.data.text.prompt_formats import SEG, dialogues
from rsvlm.errors import UserError
from rsvlm.synthetic import Scenes
from rsvlm.synthetic.caption import captions, description
from rsvlm.synthetic.facts import Facts
from rsvlm.synthetic.landmarks import landmark
from rsvlm.synthetic.questions import questions
from rsvlm.synthetic.refer import find, references

SIZE = 128


@pytest.fixture(scope="module", params=["skyeyegpt", "geopix", "geochat", "minigptv2"])
def told(request):
    words = system(request.param)
    dataset = Scenes("train", n=60, size=SIZE, parts=("dialogue",), system=request.param)
    return words, dataset, list(dataset)


def test_one_conversation_of_several_questions(told):
    words, _, samples = told
    lengths, kinds = [], set()
    for sample in samples:
        (dialogue,) = dialogues(sample)
        assert [t.role for t in dialogue] == ["user", "assistant"] * (len(dialogue) // 2)
        assert [t.image_ids for t in dialogue] == [(0,)] + [()] * (len(dialogue) - 1)
        lengths.append(len(dialogue) // 2)
        kinds |= {t.kind for t in dialogue}
        for turn in dialogue[::2]:
            assert turn.text.startswith(words.tasks[turn.kind].identifier)
        for turn in dialogue:
            assert not re.search(r"\{(?:text|boxes|masks)\}", turn.text)
    assert np.mean(lengths) > 2.5
    expected = {"caption", "vqa", "refer", "identify", "detection", "segment", "description"}
    assert kinds == expected & set(words.tasks)


def test_boxes_in_the_text_are_those_of_the_instances(told):
    words, _, samples = told
    found = 0
    convention, at = codec(words.boxes), identity(SIZE, SIZE)
    for sample in samples:
        by_id = {i.id: i for i in sample.instances}
        for turn in sample.turns:
            boxes = convention.parse(turn.text, at).boxes
            if not boxes:
                assert "{<" not in turn.text
                continue
            assert len(boxes) == len(turn.instance_ids)
            for box, id in zip(boxes, turn.instance_ids, strict=True):
                # numbers are hundredths of a side, cut off or rounded
                assert np.allclose(box.box, by_id[id].box, atol=1.001 * SIZE / 100)
                found += 1
    assert found > 15


def test_what_is_said_is_true(told):
    """Each answer is one that the scene's own annotations give."""
    _, dataset, samples = told
    for index, sample in enumerate(samples):
        scene = dataset.scene(index)
        facts = Facts(scene)
        true = {q.answer for q in questions(scene)}
        meant = {r.phrase.lower(): r.ids for r in references(scene)}
        for asked, said in zip(sample.turns[::2], sample.turns[1::2], strict=True):
            if said.kind == "vqa":
                assert said.text in true
            if said.kind == "caption":
                assert said.text in {c.text for c in captions(scene)}
            if said.kind == "description":
                assert said.text == description(scene).text
            if said.kind == "refer":
                phrase = max((p for p in meant if p in asked.text.lower()), key=len)
                assert meant[phrase] == said.instance_ids
            if said.kind == "segment":
                assert said.text.count(SEG) == len(said.instance_ids)
                masks = {i.id for i in sample.instances if i.mask is not None}
                assert set(said.instance_ids) <= masks
            if said.kind == "detection":
                ids = set(said.instance_ids)
                assert any(set(found) == ids for found in meant.values())
                assert len(ids) > 1 and len({t.kind for t in scene.things if t.id in ids}) == 1
        assert facts.scene is scene


def test_references_mean_what_a_query_finds_among_what_shows():
    count = 0
    for index in range(60):
        dataset = Scenes("val", n=60, size=SIZE, parts=("references",))
        sample, scene = dataset[index], dataset.scene(index)
        phrases = {r.phrase: r.query for r in references(scene)}
        for turn in sample.turns[1::2]:
            assert find(scene, phrases[turn.text]) == turn.instance_ids
            count += 1
        # a phrase for one thing is the phrase of no other thing
        single = [i.phrase for i in sample.instances if i.phrase]
        assert len(single) == len(set(single))
    assert count > 150


def test_counts_and_areas_agree_with_the_maps():
    dataset = Scenes("val", n=80, size=256, parts=("instances", "masks"))
    counted = 0
    for index in range(len(dataset)):
        sample, scene = dataset[index], dataset.scene(index)
        seen = [i.category for i in sample.instances]
        for q in questions(scene):
            if q.kind == "count":
                name = q.claims[0].what[0]
                if any(t.kind == name for t in scene.things):
                    # small things may stand under trees, or be less than a pixel at the edge
                    missing = int(q.answer) - seen.count(name)
                    assert 0 <= missing <= (3 if name in ("tree", "vehicle") else 0), q.text
                    counted += 1
            if q.kind == "presence" and q.answer == "no":
                assert q.claims[0].what[0] not in seen
    assert counted >= 40


def test_landmarks_are_one_of_a_kind_and_do_not_change():
    dataset = Scenes("train", n=300, size=16)
    places = [dataset.landmark(i) for i in range(300)]
    assert len({p.name for p in places}) == len({p.id for p in places}) == 300
    assert len({p.facts["Location"] for p in places}) > 15
    assert places[7] == Scenes("train", n=9, size=64).landmark(7)
    for place, sample in zip(places, dataset, strict=False):
        assert place.id == sample.meta["id"]
        assert place.kind == dataset.classes[sample.label]
        break
    for place in places:
        assert -180 <= place.lonlat[0] <= 180 and -90 <= place.lonlat[1] <= 90
        years = [int(place.facts["Construction_Period"])]
        years += [event["Year"] for event in place.facts["Major_Events"]]
        assert years == sorted(set(years))
        assert all(len(values) == 12 for values in place.climate.values())
        told = place.passages()
        text = " ".join(told.values())
        for asked in place.asked:
            if not asked.seen and asked.kind != "climate":
                assert asked.answer in text, asked
            if asked.kind == "climate":
                assert asked.answer in told["climate"]
        assert sum(asked.seen for asked in place.asked) >= 2


def test_landmark_questions_come_with_either_layout():
    single = Scenes("val", n=3, size=32, parts=("landmark",))
    dates = Scenes("val", n=3, size=32, parts=("landmark",), layout="before_after")
    for one, two in zip(single, dates, strict=True):
        assert one.meta["landmark"] == two.meta["landmark"]
        assert [t.text for t in one.turns] == [t.text for t in two.turns]
        assert {t.kind for t in one.turns} == {"landmark"}
        # the second picture of a place asks a base that holds its first
        assert {t.image_ids for t in two.turns} == {(1,), ()}
    assert landmark(single.scene(0)).name == single[0].meta["landmark"]


def test_a_system_without_words_is_refused():
    with pytest.raises(UserError, match="skyeyegpt"):
        Scenes(parts=("dialogue",), system="skyeyegtp")
