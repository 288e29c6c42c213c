"""A language model as judge: what it is asked, what its replies mean, what results say of it."""

import json

import pytest
from loopback import completion, question, serving

from rsvlm.app import run
from rsvlm.clients.http import EndpointError
from rsvlm.errors import UserError
from rsvlm.evaluation.language_judge import LanguageJudge, verdict
from rsvlm.metrics.names import parse


@pytest.mark.parametrize(
    ("reply", "most", "value"),
    [
        ("1", 1, 1.0),
        ("0.", 1, 0.0),
        ("Yes, the same.", 1, 1.0),
        ("no", 1, 0.0),
        ("Score: 7", 10, 0.7),
        ("**Score:** 10 (all 3 parts)", 10, 1.0),
        ("7/10", 10, None),
        ("11", 10, None),
        ("0.5", 1, None),
        ("1 or 0", 1, None),
        ("I cannot say", 1, None),
        ("", 10, None),
    ],
)
def test_what_a_reply_means(reply, most, value):
    assert verdict(reply, most) == value


def judge(script, **options):
    return LanguageJudge(script.url, "Judge-4o", **{"retries": 0, "workers": 1, **options})


def test_it_is_asked_again_and_what_stays_unreadable_is_none(tmp_path):
    def answer(body):
        if "wharf" in question(body):
            return completion("who knows")
        return completion("1" if len(body["messages"]) > 1 else "perhaps")

    asked = [("what?", "a dock", "a harbour"), ("what?", "a wharf", "a harbour")]
    with serving(answer) as script:
        one = judge(script, cache=str(tmp_path))
        assert one.all(asked) == [1.0, None] or one.all(asked)[0] == 1.0
        sent = len(script.asked)
        assert "True answer: a harbour" in script.asked[0]["messages"][0]["content"]
        again = judge(script, cache=str(tmp_path), replay=True)
        again.all(asked)
        assert len(script.asked) == sent


def test_the_protocol_names_prompt_model_and_settings():
    first = LanguageJudge("http://x/v1", "Judge-4o")
    other = LanguageJudge("http://x/v1", "Judge-4o", temperature=1.0)
    assert first.protocol.startswith("judge_match_1_judge_4o_")
    assert first.protocol != other.protocol
    assert parse(f"test/rsieval/{first.protocol}/judged").protocol == first.protocol
    with pytest.raises(ValueError, match="unknown protocol"):
        parse(f"test/rsieval/{first.protocol}/cider")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": None, "name": "a"}, r"evaluation\.judge\.url="),
        ({"url": "http://x/v1", "name": "a", "prompt": "mach"}, "Did you mean match"),
        ({"url": "http://x/v1", "name": "a", "tries": 0}, "at least once"),
    ],
)
def test_a_judge_that_cannot_be(options, said):
    with pytest.raises(UserError, match=said):
        LanguageJudge(**options)


def test_an_endpoint_that_is_away_is_said_to_be_the_judges():
    with pytest.raises(EndpointError, match=r"the judge: .*cannot be reached"):
        LanguageJudge("http://127.0.0.1:9/v1", "a", retries=0)("q", "a", "t")


def test_answers_of_a_model_are_judged_and_results_say_by_whom(compose, tmp_path):
    words = ["model=skyeyegpt_tiny", "task=captioner", "loss=answer", "data=scenes"]
    words += ["data.dataset.n=2", "data.dataset.size=32", "data.dataset.parts=[turns]"]
    words += ["evaluation=judged", "evaluation.judge.name=Judge-4o", "evaluation.bootstrap=20"]
    words += ["+evaluation.options={max_new_tokens: 2}", "evaluation.kinds=[presence,count]"]
    words += ["data.workers=0", "trainer=cpu", "logger=none", "model.lm.words=chat"]

    def answer(body):
        number = int.from_bytes(question(body).encode()[-40:], "big")
        return completion(("1", "0", "hm")[number % 3])

    with serving(answer) as script:
        cfg = compose("eval", [*words, f"evaluation.judge.url={script.url}"])
        run.evaluate(cfg, tmp_path, overrides=[])
    rows = {
        row["name"]: row for row in json.loads((tmp_path / "metrics.json").read_text())["results"]
    }
    named = {parse(name).metric: row for name, row in rows.items()}
    assert named["judged"]["protocol"].startswith("judge_match_1_judge_4o_")
    assert named["judged"]["judge"]["model"] == "Judge-4o" and "low" in named["judged"]
    assert named["judged_unparsable"]["count"] == named["judged"]["count"]
    assert 0 <= named["judged"]["value"] + named["judged_unparsable"]["value"] <= 100
