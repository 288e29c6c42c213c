"""Models that write are asked through the one function that serves predict.py."""

import pytest
import torch
from model_options import build
from PIL import Image

import rsvlm
from rsvlm.data.sample import Turn
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.encoders.resnet import ConvStem
from rsvlm.errors import UserError
from rsvlm.inference.display import dialogue
from rsvlm.models.change_captioning.rsiccformer import RSICCformer
from rsvlm.models.protocols import is_generator

PAIR = [Image.new("RGB", (48, 40), "green"), Image.new("RGB", (48, 40), "grey")]


@pytest.fixture(scope="module")
def delta():
    torch.manual_seed(0)
    return build("deltavlm_tiny").eval()


@pytest.fixture(scope="module")
def captioner():
    torch.manual_seed(0)
    words = Vocabulary.build(["a house is built", "nothing has changed"], more_than=0)
    return RSICCformer(
        ConvStem((8, 8)), words=words, dim=16, heads=2, grid=4, decoder_heads=2, image_size=32
    ).eval()


def test_a_question_and_one_with_history(delta):
    assert is_generator(delta)
    first = rsvlm.predict(delta, PAIR, "has anything changed ?")
    again = rsvlm.predict(delta, PAIR, "has anything changed ?")
    assert first.text == again.text and first.score == again.score
    history = [Turn("user", "has anything changed ?", (0, 1)), Turn("assistant", "yes")]
    second = rsvlm.predict(delta, PAIR, "how many houses ?", history)
    assert second.score != first.score
    with pytest.raises(UserError, match="question is empty"):
        rsvlm.predict(delta, PAIR, " ")


def test_what_a_recipe_learns_from_is_no_limit_to_what_may_be_asked():
    torch.manual_seed(0)
    model = build("skyeyegpt_tiny", chat={"kinds": ["refer"]}).eval()
    assert rsvlm.predict(model, PAIR[0], "[refer] the house").score
    assert rsvlm.predict(model, PAIR[0], "what is this ?").score


def test_a_captioner_takes_two_dates_and_no_question(captioner):
    assert set(rsvlm.predict(captioner, PAIR, "").text.split()) <= set(captioner.words.words)
    with pytest.raises(UserError, match="takes no question"):
        rsvlm.predict(captioner, PAIR, "what is new?")
    with pytest.raises(UserError, match="two dates"):
        rsvlm.predict(captioner, PAIR[:1], "")


def test_a_dialogue_carries_its_history(delta, monkeypatch, capsys):
    lines = iter(["has anything changed ?", "how many houses ?", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    asked = []
    monkeypatch.setattr(
        "rsvlm.inference.api.predict",
        lambda model, pictures, question, history: (
            asked.append((question, len(history)))
            or rsvlm.data.sample.Answer(f"answer to {question}")
        ),
    )
    last = dialogue(delta, PAIR)
    assert asked == [("has anything changed ?", 0), ("how many houses ?", 2)]
    assert last.text == "answer to how many houses ?"
    assert "answer to has anything changed ?" in capsys.readouterr().out
