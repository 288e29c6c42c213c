"""Of a dialogue of several turns every question is asked, with or without what was said before."""

import torch

from rsvlm.data.collate.every_question import EveryQuestion
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import Sample, Turn
from rsvlm.data.text.prompt_formats import dialogues


def item(*turns):
    images = [torch.zeros(3, 4, 4, dtype=torch.uint8)] * 2
    return TransformedSample(0, Sample(images, turns=list(turns), layout="interleaved"))


def asked(collate, one):
    """(history, question, images of the dialogue) of each dialogue that the inner collate meets."""
    (seen,) = collate([one])
    return [
        (
            [turn.text for turn in d if turn.role != "system"][:-2],
            [turn for turn in d if turn.role == "user"][-1].text,
            tuple(i for turn in d for i in turn.image_ids),
        )
        for d in dialogues(seen.sample)
    ]


TWO = (
    Turn("user", "how many?", (0,), kind="count"),
    Turn("assistant", "3"),
    Turn("user", "which colour?", kind="colour"),
    Turn("assistant", "red"),
)
OTHER = (Turn("user", "again?", (0,), kind="count"), Turn("assistant", "yes"))


def test_each_question_has_what_was_said_before_it():
    found = asked(EveryQuestion(list), item(*TWO, *OTHER))
    assert found == [
        ([], "how many?", (0,)),
        (["how many?", "3"], "which colour?", (0,)),
        ([], "again?", (0,)),
    ]


def test_alone_each_shows_the_images_of_its_dialogue():
    found = asked(EveryQuestion(list, history=False), item(Turn("system", "s"), *TWO))
    assert found == [([], "how many?", (0,)), ([], "which colour?", (0,))]


def test_kinds_are_those_of_the_question_that_is_asked():
    found = asked(EveryQuestion(list, kinds={"colour"}), item(*TWO))
    assert found == [(["how many?", "3"], "which colour?", (0,))]


def test_one_question_and_what_is_skipped_are_left_as_they_are():
    one, gone = item(*OTHER), Skipped(1, "broken")
    assert EveryQuestion(list)([one, gone]) == [one, gone]
