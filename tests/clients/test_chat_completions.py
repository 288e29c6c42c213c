"""Dialogues to an endpoint: answers in order, refusals, what may be spent."""

import threading

import pytest
from loopback import completion, question, serving
from PIL import Image

from rsvlm.clients.chat_completions import ChatCompletions
from rsvlm.clients.http import EndpointError, HTTPClient
from rsvlm.clients.limits import Budget
from rsvlm.clients.pictures import PictureFormat
from rsvlm.errors import UserError


def said(text):
    return [{"role": "user", "content": text}]


def endpoint(script, *, cache=None, **options):
    client = HTTPClient(cache=cache, retries=0)
    return ChatCompletions(script.url, "m", client=client, **options)


def test_answers_come_in_order_from_several_requests_at_once():
    seen = threading.Barrier(3)

    def answer(body):
        seen.wait(10)  # nobody is answered before three have asked
        return completion(question(body).upper())

    with serving(answer) as script:
        replies = endpoint(script, workers=3).ask_all([said(w) for w in ("a", "b", "c")])
    assert [reply.text for reply in replies] == ["A", "B", "C"]
    assert all(body["temperature"] == 0 and body["max_tokens"] == 256 for body in script.asked)


def test_ctrl_c_asks_no_more_of_a_batch(monkeypatch):
    asked = []

    def ask(self, messages, **_):
        asked.append(messages)
        if messages[0]["content"] == "0":
            raise KeyboardInterrupt
        threading.Event().wait(0.4)

    monkeypatch.setattr(ChatCompletions, "ask", ask)
    model = ChatCompletions("http://x", "m", client=HTTPClient(), workers=2)
    with pytest.raises(KeyboardInterrupt):
        model.ask_all([said(str(n)) for n in range(50)])
    assert len(asked) < 50


@pytest.mark.parametrize(
    ("reply", "text", "finished", "note"),
    [
        (completion("a dock", reason="length"), "a dock", False, ""),
        (completion("", refusal="I cannot help"), "", True, "the model refused: I cannot help"),
        (completion("", reason="content_filter"), "", True, "filter kept the answer back"),
        (completion("", reason="length"), "", False, "went into reasoning"),
        (completion(None), "", True, "an empty answer"),
        (completion([{"type": "text", "text": "a "}, {"text": "b"}]), "a b", True, ""),
    ],
)
def test_what_an_answer_may_look_like(reply, text, finished, note):
    with serving(lambda _: reply) as script:
        found = endpoint(script).ask(said("?"))
    assert (found.text, found.finished) == (text, finished)
    assert note in found.note if note else not found.note


def test_a_refused_question_is_an_answer_and_an_endpoint_that_refuses_all_an_error():
    def answer(body):
        if question(body) == "bad":
            return 400, {"error": {"message": "unsupported image"}}, {}
        return completion("yes")

    with serving(answer) as script:
        good = endpoint(script, workers=1, give_up=2)
        found = good.ask_all([said(w) for w in ("ok", "bad", "bad", "bad", "ok")])
        assert [reply.text for reply in found] == ["yes", "", "", "", "yes"]
        assert "unsupported image" in found[1].note
        with pytest.raises(EndpointError, match=r"refused the first 2 .* unsupported image"):
            endpoint(script, workers=1, give_up=2).ask_all([said("bad")] * 3)


def test_what_is_no_completion_is_said():
    for body in ({}, {"choices": []}, {"choices": [{}]}, [1]):
        with (
            serving(lambda _, body=body: (200, body, {})) as script,
            pytest.raises(EndpointError, match="OpenAI-compatible"),
        ):
            endpoint(script).ask(said("?"))


def test_a_ceiling_is_not_passed_and_what_is_cached_is_free(tmp_path):
    # Ten questions of 100 tokens and ten back, 2 and 20 a million: 400 millionths each.
    with serving(lambda _: completion("x", usage=(100, 10))) as script:
        budget = Budget(1.5e-3, input_price=2.0, output_price=20.0)
        chat = endpoint(script, cache=tmp_path, budget=budget, max_tokens=10, workers=4)
        with pytest.raises(UserError, match=r"model\.max_cost=0\.0015") as caught:
            chat.ask_all([said(str(n)) for n in range(10)])
        assert caught.value.code == "cost_ceiling"
        assert budget.spent <= 1.5e-3
        sent = len(script.asked)
        assert 2 <= sent <= 3
        raised = Budget(1e-3, input_price=2.0, output_price=20.0)
        again = endpoint(script, cache=tmp_path, budget=raised, max_tokens=10, workers=1)
        # Which ones went first is the threads' affair: the server knows.
        again.ask_all([said(question(body)) for body in script.asked[:sent]])
        assert raised.spent == 0
        assert len(script.asked) == sent
    with pytest.raises(UserError, match="needs the prices"):
        Budget(1.0)


def test_a_ceiling_needs_a_server_that_counts():
    with serving(lambda _: completion("x", usage=None)) as script:
        assert endpoint(script).ask(said("?")).text == "x"
        budget = Budget(1.0, input_price=1.0, output_price=1.0)
        with pytest.raises(UserError, match="does not say how many tokens"):
            endpoint(script, budget=budget).ask(said("?"))


def test_pictures_are_scaled_and_limited():
    form = PictureFormat(max_side=100, multiple=28, jpeg_quality=None)
    assert form.size(400, 200) == (84, 56)
    assert form.size(10, 10) == (28, 28)
    small = PictureFormat(multiple=28, min_pixels=56 * 56)  # as Qwen2.5-VL's own processor
    assert [small.size(*s) for s in ((10, 10), (10, 40), (56, 56))] == [
        (56, 56),
        (28, 112),
        (56, 56),
    ]
    assert PictureFormat().size(600, 400) == (600, 400)
    noise = Image.effect_noise((300, 300), 90)
    with pytest.raises(UserError, match=r"model\.pictures\.max_side=1024"):
        PictureFormat(max_bytes=1000).data_url(noise)
    for wrong in ({"max_side": 0}, {"jpeg_quality": 0}, {"multiple": 0}):
        with pytest.raises(UserError):
            PictureFormat(**wrong)
