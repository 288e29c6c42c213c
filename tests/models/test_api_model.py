"""A model behind an endpoint is asked, measured and replayed as any other."""

import base64
import io

import numpy as np
import pytest
import torch
from loopback import completion, question, serving
from model_options import build
from PIL import Image

from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.prediction_records import DatasetFacts
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.errors import UserError
from rsvlm.evaluation.grounding import GroundingEvaluation
from rsvlm.evaluation.pointing import PointingEvaluation
from rsvlm.inference.ask import ask
from rsvlm.models.api.model import FAMILIES, family


def model(url="http://127.0.0.1:1/v1", name="gpt-4o", **options):
    return build("api", url=url, name=name, **options)


def picture(high=40, wide=80):
    return Image.fromarray(np.full((high, wide, 3), 90, np.uint8))


def sent(body):
    """The pictures of a request."""
    parts = [p for m in body["messages"] if isinstance(m["content"], list) for p in m["content"]]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in urls]


def batch_of(model, *samples, **options):
    view = TransformedDataset(list(samples), model.preprocess, training=False, caption="all")
    return model.collate(training=False, **options)([view[(0, i)] for i in range(len(samples))])


def test_a_question_with_history_and_two_pictures():
    with serving(lambda _: completion("a new pier")) as script:
        history = [Turn("user", "What is this?", (0,)), Turn("assistant", "a port")]
        answer = ask(model(script.url), [picture(), picture()], "What is new?", history)
    assert answer.text == "a new pier"
    (body,) = script.asked
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == "a port"
    assert question(body) == "What is new?"
    assert [image.size for image in sent(body)] == [(80, 40), (80, 40)]
    assert body["model"] == "gpt-4o"


def test_boxes_are_asked_for_and_read_in_the_family_s_convention():
    # One box, (20, 10, 60, 30) of a picture of 80 x 40, as each family writes it.
    written = {
        "qwen2.5-vl-72b-instruct": '[{"bbox_2d": [21, 14, 63, 42]}]',  # sent as 84 x 56
        "Qwen3-VL-8B": '{"bbox_2d": [250, 250, 750, 750]}',
        "qwen2-vl-7b": "<|box_start|>(250,250),(750,750)<|box_end|>",
        "InternVL3-8B": "<box>[[250, 250, 750, 750]]</box>",
        "gemini-2.5-flash": '```json\n[{"box_2d": [250, 250, 750, 750], "label": "pier"}]\n```',
        "Florence-2-large-ft": "the pier<loc_250><loc_250><loc_750><loc_750>",
        "gpt-4o": "[0.250, 0.250, 0.750, 0.750]",
    }
    named = {words for words, _ in FAMILIES.values()}
    assert {family(name)[0] for name in written} >= named - {"molmo"}  # which points
    assert family("accounts/x/models/qwen2p5-vl-32b")[0] == family("Qwen2_5_VL")[0] == "qwen2_5_vl"
    sample = Sample(
        [picture()],
        turns=[
            Turn("user", "the pier", (0,), kind="refer"),
            Turn("assistant", "", (), (1,), "refer"),
        ],
        instances=[Instance(1, "pier", box=(20.0, 10.0, 60.0, 30.0))],
    )
    for name, text in written.items():
        with serving(lambda _, text=text: completion(text)) as script:
            one = model(script.url, name=name, key_env=None)
            batch = batch_of(one, sample)
            (answer,) = one.generate(batch)
        assert answer.boxes == [pytest.approx((20, 10, 60, 30), abs=0.1)], name
        assert "the pier" in question(script.asked[0])
        read = one.codec.parse(batch.answers[0], batch.geometry[0][0])  # what it was asked to say
        assert read.boxes[0].box == pytest.approx((20, 10, 60, 30), abs=0.6), name
    assert sent(script.asked[0])[0].size == (80, 40)


def test_a_model_that_points_is_measured_by_its_points():
    sample = Sample(
        [picture()],
        turns=[
            Turn("user", "the pier", (0,), kind="refer"),
            Turn("assistant", "", (), (1,), "refer"),
        ],
        instances=[Instance(1, "pier", box=(20.0, 10.0, 60.0, 30.0))],
    )
    told = '<point x="50.0" y="30.0" alt="the pier">the pier</point>'
    with serving(lambda _: completion(told)) as script:
        one = model(script.url, name="Molmo-7B-D-0924", key_env=None)
        batch = batch_of(one, sample)
        with pytest.raises(UserError, match="evaluation=pointing"):
            GroundingEvaluation().prepare(one, None, torch.device("cpu"))
        points = PointingEvaluation(protocol="inside")
        points.prepare(one, None, torch.device("cpu"))
        records = points.predict(one, batch)
    assert question(script.asked[0]) == "Point to the pier"
    assert records[0].boxes == [[40.0, 12.0, 40.0, 12.0]]
    found = points.metric_from(records, DatasetFacts("x", samples=1))
    assert found.values["point_acc"] == 100 and found.facts["point_acc"]["chance"] == 100


def test_a_yx_box_is_written_and_read_alike():
    one = model(name="gemini-3-pro")
    batch = batch_of(
        one,
        Sample(
            [picture(100, 200)],
            turns=[
                Turn("user", "it", (0,), kind="refer"),
                Turn("assistant", "", (), (1,), "refer"),
            ],
            instances=[Instance(1, "pier", box=(20.0, 30.0, 120.0, 60.0))],
        ),
    )
    assert '"box_2d": [300, 100, 600, 600]' in batch.answers[0]
    one.codec.parse("[[[", batch.geometry[0][0])


def test_what_cannot_be_read_or_is_refused_is_counted():
    replies = iter(
        [
            completion("[0.1, 0.2, 0.3]"),
            (400, {"error": "image refused"}, {}),
            completion("a lake", reason="length"),
        ]
    )
    with serving(lambda _: next(replies)) as script:
        one = model(script.url, workers=1)
        turn = Turn("user", "where?", (0,))
        found = one.generate(batch_of(one, *[Sample([picture()], turns=[turn])] * 3))
    assert [answer.text for answer in found] == ["[0.1, 0.2, 0.3]", "", "a lake"]
    assert "image refused" in found[1].notes[0]
    assert not found[2].finished
    assert one.counts == {"answered": 2, "refused": 1, "cut": 1, "unreadable": 1, "cached": 0}


def test_it_is_asked_and_not_trained():
    one = model()
    for use in (one.collate(training=True), one):
        with pytest.raises(UserError, match="asked, not trained"):
            use([])
    batch = batch_of(one, Sample([picture()], turns=[Turn("user", "?", (0,))]))
    for options, words in (({"num_beams": 4}, "give 1"), ({"top_p": 1}, "no option top_p=")):
        with pytest.raises(UserError, match=words):
            one.generate(batch, **options)
    for missing in ({"url": None}, {"name": None}):
        with pytest.raises(UserError, match=r"model=api needs model\."):
            ask(model(**missing), [picture()], "?")


def test_a_stopped_evaluation_replays_without_network(tmp_path):
    sample = Sample([picture()], turns=[Turn("user", "what?", (0,))])
    with serving(lambda _: completion("a farm")) as script:
        url = script.url
        one = model(url, cache=str(tmp_path))
        one.generate(batch_of(one, sample))
        one.generate(batch_of(one, sample))
        assert len(script.asked) == 1
    again = model(url, cache=str(tmp_path), replay=True)
    (answer,) = again.generate(batch_of(again, sample))
    assert answer.text == "a farm"
    assert again.counts["cached"] == 1
    other = Sample([picture(41)], turns=[Turn("user", "what?", (0,))])
    with pytest.raises(UserError, match="something that decides it has changed"):
        again.generate(batch_of(again, other))


def test_a_long_history_goes_before_the_question():
    turns = []
    for n in range(20):
        turns += [Turn("user", f"question {n}?", (0,) if n == 0 else ()), Turn("assistant", "yes")]
    one = model(max_length=60)
    batch = batch_of(one, Sample([picture()], turns=turns[:-1]))
    (messages,) = batch.messages
    assert batch.truncated == 1
    assert messages[-1]["content"][-1]["text"] == "question 19?"
    assert messages[0]["content"][0]["type"] == "image_url"  # the picture moves along
    assert len(messages) < 8
