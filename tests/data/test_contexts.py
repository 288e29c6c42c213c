"""Questions beside retrieved passages, a stated share of which is of other places."""

import json
import re

import numpy as np
import pytest

from rsvlm.data.loading.contexts import RetrievedContext, read_contexts, stands_in
from rsvlm.data.sample import Sample, Turn
from rsvlm.errors import UserError

COUNT = 200


class Places(list):
    name, split = "places", "train"


def places(split="train"):
    del split
    return Places(
        Sample(
            [np.zeros((2, 2, 3), np.uint8)],
            turns=[
                Turn("user", "when?", (0,), kind="vqa"),
                Turn("assistant", f"{1000 + i}", kind="vqa"),
            ],
            meta={"id": f"p{i}"},
        )
        for i in range(COUNT)
    )


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "contexts.jsonl"
    lines = [
        {"id": f"p{i}", "question": "when?", "passages": [
            {"record": f"r{i}", "text": "a hall"}, {"record": f"r{i}", "text": f"built {1000 + i}"},
        ]}
        for i in range(COUNT)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_stated_share_is_of_other_places_and_is_not_cited(file):
    data = RetrievedContext(places, contexts=file, wrong=0.3)
    wrong = 0
    for i in range(COUNT):
        asked, said = data[i].turns
        (year,) = re.findall(r"built (\d+)", asked.text)
        own = int(year) == 1000 + i
        wrong += not own
        assert said.text == (f"{1000 + i} [2]" if own else f"{1000 + i}")
        assert data[i].turns[0].text == asked.text, "the same in every epoch"
    assert 0.2 * COUNT < wrong < 0.4 * COUNT
    assert data.name == "places_retrieved" and len(data) == COUNT


def test_shares_of_none_and_all_and_the_published_prompt(file):
    none = RetrievedContext(places, contexts=file, wrong=0, k=1, prompt="released")
    assert none[3].turns[0].text == "with those context: 1. a hall, when?"
    assert none[3].turns[1].text == "1003"
    every = RetrievedContext(places, contexts=file, wrong=1)
    assert not any(f"{1000 + i}" in every[i].turns[0].text for i in range(20))


def test_an_answer_stands_in_a_text_by_whole_words():
    assert stands_in("in 1911.", ["x", "built In 1911"]) == 1
    assert stands_in("911", ["built in 1911"]) is None
    assert stands_in("Yes", ["yes"]) is None


def test_what_is_refused(file, tmp_path):
    with pytest.raises(UserError, match="rsvlm knowledge contexts"):
        read_contexts(tmp_path / "none.jsonl")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "p0"}\n')
    with pytest.raises(UserError, match="line 1"):
        read_contexts(bad)
    bad.write_text('{"id": "q", "question": "when?", "passages": []}\n')
    with pytest.raises(UserError, match="no passages for 'p0'"):
        RetrievedContext(places, contexts=bad)
    for words in ({"wrong": 2}, {"k": 0}, {"prompt": "cite"}):
        with pytest.raises(UserError, match=r"data\.dataset\."):
            RetrievedContext(places, contexts=file, **words)
