"""ChangeChat's tasks by hand: what a dialogue asks, what it is told, and how answers are read."""

from types import SimpleNamespace

import pytest
import torch

from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Answer, Sample, SampleError, Turn
from rsvlm.errors import UserError
from rsvlm.evaluation.change_chat import ChangeTaskEvaluation, DialogueEvaluation
from rsvlm.evaluation.semantic_localisation import WholeImages

ASKED = ("Changed?", "How many?", "Describe.")
COUNT = "There are 2 new roads and 1 new building."
CAPTION = "two roads are built"
NONE = "there is no difference"


class Asked:
    """The model's batch: the samples as they were given."""

    def __init__(self, items):
        self.items, self.index = items, torch.tensor([item.index for item in items])
        self.ids = [str(item.index) for item in items]
        self.answers = [item.sample.turns[-1].text for item in items]
        self.instructions = [item.sample.turns[0].text for item in items]

    def to(self, device):
        return self


class Stub:
    """Answers from a function of (place, dialogue so far), and keeps what it was asked."""

    words = None

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def parameters(self):
        return iter(())

    def collate(self, training):
        assert not training
        return Asked

    def generate(self, batch, **options):
        said = []
        for item in batch.items:
            turns = [(turn.role, turn.text) for turn in item.sample.turns]
            assert item.sample.turns[0].image_ids == (0, 1)
            self.asked.append((item.index, turns))
            said.append(Answer(self.answer(item.index, [text for _, text in turns])))
        return said


def pair(index, changed, *, kind="dialogue", said=None):
    right = said or (("Yes", COUNT, CAPTION) if changed else ("No", "There are no changes.", NONE))
    turns = []
    for i, (question, answer) in enumerate(zip(ASKED, right, strict=False)):
        turns.append(Turn("user", question, (0, 1) if i == 0 else (), kind=kind))
        turns.append(Turn("assistant", answer, kind=kind))
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8)] * 2
    meta = {"id": str(index), "changeflag": int(changed)}
    return TransformedSample(index, Sample(images, layout="before_after", turns=turns, meta=meta))


def lead(mode, answer, items):
    evaluation = DialogueEvaluation(mode=mode, metrics=["bleu1", "bleu2", "bleu4"])
    model = Stub(answer)
    evaluation.start(model, SimpleNamespace(name="pairs"), torch.device("cpu"))
    evaluation.update(model, WholeImages(items))
    return evaluation, evaluation.compute(), model.asked


def test_the_released_dialogue_asks_on_only_where_the_caption_tells_a_change():
    def answer(place, told):
        if len(told) == 1:
            # Pair 0 has changed and is seen; 1 has not; 2 has, and the model sees nothing.
            return {0: "a road is built", 1: "The scene is the same as before.", 2: NONE}[place]
        return COUNT if len(told) == 3 else CAPTION

    items = [pair(0, True), pair(1, False), pair(2, True)]
    evaluation, values, asked = lead("released", answer, items)
    caption = "Please briefly describe the changes in these two images."
    first = [(place, [("user", caption)]) for place in range(3)]
    # The caption itself is forgotten: the history says that the model answered "Yes".
    told = [("user", "Changed?"), ("assistant", "Yes"), ("user", "How many?")]
    last = [*told, ("assistant", COUNT), ("user", "Describe.")]
    assert asked == [*first, (0, told), (0, last)]
    used = {record.id: record.prediction for record in evaluation.metric.used}
    assert used == {0: CAPTION, 1: NONE, 2: NONE}
    assert values["no_change_bleu1"] == pytest.approx(100)
    assert values["road_mae"] == 0 and values["building_mae"] == 0
    # Yes or no was never asked.
    assert "change_accuracy" not in values
    assert evaluation.facts("bleu1")["protocol"] == "dialogue_released"


def test_the_free_dialogue_asks_all_and_remembers_what_was_said():
    def answer(place, told):
        if len(told) == 1:
            return "No" if place == 1 else "Yes"
        return "There are 3 new roads and 1 new building." if len(told) == 3 else f"caption {place}"

    items = [pair(0, True), pair(1, True)]
    evaluation, values, asked = lead("free", answer, items)
    assert [place for place, _ in asked] == [0, 1, 0, 1, 0, 1]
    assert asked[0][1] == [("user", "Changed?")]
    assert asked[3][1] == [("user", "Changed?"), ("assistant", "No"), ("user", "How many?")]
    assert [text for _, text in asked[5][1]] == [
        "Changed?",
        "No",
        "How many?",
        "There are 3 new roads and 1 new building.",
        "Describe.",
    ]
    assert values["change_accuracy"] == 50
    assert values["road_mae"] == 1 and values["building_mae"] == 0
    assert {r.prediction for r in evaluation.metric.used} == {"caption 0", "caption 1"}
    assert evaluation.facts("change_accuracy")["protocol"] == "dialogue_free"


def test_a_released_dialogue_without_any_change_counts_nothing():
    _, values, asked = lead("released", lambda place, told: NONE, [pair(0, False), pair(1, False)])
    assert len(asked) == 2 and "road_mae" not in values
    assert values["bleu1"] == pytest.approx(100)


def test_what_is_no_dialogue():
    with pytest.raises(UserError, match=r"evaluation\.mode='fre'.*free"):
        DialogueEvaluation(mode="fre")
    short = pair(0, True)
    short.sample.turns = short.sample.turns[:4]
    with pytest.raises(SampleError, match=r"2 questions.*three.*test_dialog"):
        lead("free", lambda place, told: "Yes", [short])
    strange = pair(0, True, said=("Perhaps", COUNT, CAPTION))
    with pytest.raises(SampleError, match="'Perhaps' is neither yes nor no"):
        lead("free", lambda place, told: "Yes", [strange])


def ask(task, told, right, **options):
    evaluation = ChangeTaskEvaluation(task=task, **options)
    model = Stub(lambda place, history: told[place])
    evaluation.start(model, SimpleNamespace(name="pairs"), torch.device("cpu"))
    evaluation.update(
        model, Asked([pair(i, True, kind=task, said=(text,)) for i, text in enumerate(right)])
    )
    return evaluation.compute()


def test_answers_of_the_single_questions_are_read():
    values = ask("binary", ["yes.", "No", "yes", "no"], ["Yes", "No", "No", "Yes"])
    assert values["change_accuracy"] == 50
    values = ask("count", [COUNT, "There are no changes."], [COUNT, COUNT])
    assert values["road_mae"] == 1 and values["building_mae"] == 0.5
    where = "Roads: ['top-left', 'center-left'] Buildings: ['top-right']"
    values = ask("location", [where, "Roads: [] Buildings: ['top-right']"], [where, where])
    assert values["building_loc_f1"] == 100 and values["road_loc_recall"] == 50
    with pytest.raises(UserError, match=r"evaluation\.task='counts'.*count"):
        ChangeTaskEvaluation(task="counts")
    with pytest.raises(UserError, match="does not read binary answers"):
        ChangeTaskEvaluation(task="binary", protocol="published")


class Pairs(list):
    name = "pairs"


@pytest.mark.parametrize("kind", ["dialogue", "count"])
def test_what_was_asked_is_shown_with_the_pairs(tmp_path, kind):
    items = [pair(0, True), pair(1, False)]
    if kind == "dialogue":
        evaluation, *_ = lead("free", lambda place, told: COUNT, items)
    else:
        evaluation = ChangeTaskEvaluation(task="count")
        model = Stub(lambda place, told: COUNT)
        evaluation.start(model, Pairs(), torch.device("cpu"))
        items = [pair(i, True, kind="count", said=(COUNT,)) for i in range(2)]
        evaluation.update(model, Asked(items))
        evaluation.compute()
    pictures = tmp_path / "pictures"
    evaluation.draw(evaluation.records(), Pairs(item.sample for item in items), pictures)
    assert (pictures / ("answers.png" if kind == "dialogue" else "questions.png")).is_file()
    if kind == "dialogue":
        first = evaluation.records()[0]
        assert first.question == "Changed? / How many? / Describe."
        assert first.answer == f"Yes / {COUNT} / {CAPTION}"
