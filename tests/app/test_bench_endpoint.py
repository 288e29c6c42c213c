"""A model behind an endpoint on a suite: asked, gone, and replayed without network."""

import csv

import pytest
from loopback import completion, serving

from rsvlm.app.bench.run import bench
from rsvlm.app.bench.state import state_of
from rsvlm.clients.http import EndpointError
from rsvlm.config.compose import compose
from rsvlm.config.overrides import quote
from rsvlm.errors import UserError
from rsvlm.evaluation.captions import CaptionEvaluation
from rsvlm.evaluation.question_answering import AnswerEvaluation
from rsvlm.evaluation.records import fingerprint

SCENES = "data=scenes, data.dataset.n=3, data.dataset.size=32, data.workers=0"
SUITE = f"""# A suite of a test.
about: questions and captions
entries:
  captions: {{words: [{SCENES}, evaluation=captions, "evaluation.metrics=[bleu4,cider]"]}}
  questions:
    words: [{SCENES}, evaluation=vqa, "data.dataset.parts=[turns]", "evaluation.kinds=[presence]"]
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conf")
    (folder / "suite").mkdir()
    (folder / "suite" / "asked.yaml").write_text(SUITE)
    return folder


def asked(own, out, url, cache, *more):
    words = ["suite=asked", "model=api", f"model.url={url}", "model.name=seer", "trainer=cpu"]
    words += [f"model.cache={cache}", "model.retries=0", "model.workers=1", "bootstrap=20", *more]
    return bench(compose("bench", words, own), out, overrides=quote(words))


def rows(out):
    held = list(csv.DictReader((out / "table.csv").open()))
    return [{k: v for k, v in row.items() if k != "seconds"} for row in held]


def test_an_endpoint_is_asked_goes_away_comes_back_and_is_replayed(own, tmp_path, monkeypatch):
    for kind in (CaptionEvaluation, AnswerEvaluation):  # the worst answers are drawn apart
        monkeypatch.setattr(kind, "draw", lambda *_: None)
    left, count, refused = [4], [], []

    def answer(body):
        count.append(1)
        if len(count) > left[0]:
            return 404, {"error": {"message": "gone"}}, {}
        if len(count) > 6 and not refused:
            refused.append(1)
            return 400, {"error": {"message": "image too large"}}, {}
        return completion("yes, a harbour", usage=(100, 7), reason="length")

    one, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "cache"
    with serving(answer) as script:
        script.url += "?api-version=1"  # as one large provider wants it
        with pytest.raises(UserError, match=r"input_price=<of questions>[^;]*\.$"):
            asked(own, tmp_path / "none", script.url, cache, "model.max_cost=1")
        with pytest.raises(EndpointError, match=r"not found.*go on: rsvlm bench resume="):
            asked(own, one, script.url, cache)
        assert state_of(one / "seer" / "captions").status == "done"
        assert "not run yet" in (one / "table.md").read_text()
        left[0], before = 1000, len(count)
        words = [f"resume={one}"]
        bench(compose("bench", words), overrides=words)
        url, sent = script.url, len(count) - before
    found = rows(one)
    assert {row["status"] for row in found} == {"done"}
    assert next(r for r in found if r["entry"] == "captions")["tokens_out"] == "21"
    assert (one / "seer" / "questions" / "pictures" / "worst.png").is_file()
    assert "questions of seer: worst" in (one / "report.html").read_text()
    # Nobody listens there any more: all of it comes from the cache, and nothing differs.
    asked(own, two, url, cache, "model.replay=true")
    assert rows(two) == found and sent > 0
    # What was refused counts as wrong, which is said; what was paid for is counted once.
    asked_in_all = next(int(r["count"]) for r in found if r["name"].endswith("/oa"))
    text = (two / "table.md").read_text()
    assert (
        f"questions of seer: 1 of {asked_in_all} questions have no answer and count as wrong: the "
        "endpoint refused this question: image too large." in text
    )
    assert f"{asked_in_all - 1} of {asked_in_all} answers were cut" in text
    tokens = {r["tokens_in"] for r in found if r["entry"] == "questions"}
    assert tokens == {str(100 * (asked_in_all - 1))}


def test_at_another_pace_predictions_are_the_same_run_s():
    model = {"_target_": "rsvlm.models.api.model.APIModel", "name": "seer", "timeout": 1}
    marks = fingerprint({"model": model}, None)
    assert marks == fingerprint({"model": model | {"timeout": 9, "max_cost": 2}}, None)
    assert marks != fingerprint({"model": model | {"name": "other"}}, None)
