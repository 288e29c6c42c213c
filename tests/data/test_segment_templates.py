"""What is asked for masks: whole questions, expressions with an article, what is not there."""

from __future__ import annotations

import numpy as np
import pytest

from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.data.text.segment_templates import SegmentTemplates

MASK = np.ones((4, 4), bool)


def asked(system, sample, **options):
    made = SegmentTemplates(system, **{"tasks": [], **options})
    item = TransformedSample(0, sample, stored=list(sample.instances))
    every = [made(item, np.random.default_rng(seed)) for seed in range(8)]
    return {(d[0].text, d[1].text) for dialogues in every for d in dialogues}


def shown(*categories, phrase="the red ship"):
    objects = [Instance(i, c, phrase=phrase, mask=MASK) for i, c in enumerate(categories)]
    return Sample([np.zeros((4, 4, 3), np.uint8)], instances=objects)


@pytest.mark.parametrize("system", ["lisa", "pixellm"])
def test_an_expression_with_an_article_gets_no_second_one(system):
    for phrase, kept in (("the red ship", "segment the red"), ("red ship", "segment the red")):
        found = asked(system, shown("ship", phrase=phrase), tasks=["segment"])
        assert any(kept in question for question, _ in found)
        assert not any("the the" in question for question, _ in found)


@pytest.mark.parametrize(
    ("system", "wanted"),
    [
        ("geopix", "[segment] Who lands here?"),
        ("lisa", "Who lands here? Please output segmentation mask."),
        ("pixellm", "Who lands here? Please output segmentation mask."),
    ],
)
def test_a_whole_question_is_no_noun_of_a_template(system, wanted):
    sample = shown("target")
    sample.turns = [
        Turn("user", "Who lands here?", (0,), kind="reason"),
        Turn("assistant", "", (), (0,), kind="reason"),
    ]
    ((question, answer),) = asked(system, sample, measuring=True)
    assert question == wanted and "[SEG]" in answer


@pytest.mark.parametrize(
    ("there", "absent"),
    [("passenger ship", "ship"), ("tenniscourt", "tennis court"), ("vehicle", "Small-Vehicle")],
)
def test_what_is_there_under_another_name_is_not_asked_for_as_absent(there, absent):
    def share(*classes):
        return asked("geopix", shown(there), absent=1.0, absent_classes=classes)

    assert not share(absent)
    assert share(absent, "dam") == {
        ("[segment] Can you segment the dam?", "There is no dam in the image.")
    }
