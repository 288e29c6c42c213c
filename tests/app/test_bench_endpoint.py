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
    left, count = [4], []

    def answer(body):
        count.append(1)
        if len(count) > left[0]:
            return 404, {"error": {"message": "gone"}}, {}
        return completion("yes, a harbour", usage=(100, 7))

    one, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "cache"
    with serving(answer) as script:
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


def test_refused_questions_are_told_replayed_and_paid_for_once(own, tmp_path, monkeypatch):
    monkeypatch.setattr(AnswerEvaluation, "draw", lambda *_: None)
    count = []

    def answer(body):
        count.append(1)
        if len(count) % 2 == 0:
            return 400, {"error": {"message": "image too large"}}, {}
        return completion("yes", usage=(100, 7), reason="length")

    one, two, cache = tmp_path / "one", tmp_path / "two", tmp_path / "cache"
    only = "~suite.entries.captions"
    with serving(answer) as script:
        url = f"{script.url}?api-version=1"  # as one large provider wants it
        with pytest.raises(UserError, match=r"input_price=<of questions>[^;]*\.$"):
            asked(own, tmp_path / "none", url, cache, only, "model.max_cost=1")
        asked(own, one, url, cache, only)
    refused, total = len(count) // 2, len(count)
    assert refused
    text = (one / "table.md").read_text()
    assert (
        f"{refused} of {total} questions have no answer and count as wrong: the endpoint refused "
        "this question: image too large." in text
    )
    assert f"{total - refused} of {total} answers were cut" in text
    assert {row["tokens_in"] for row in rows(one)} == {str(100 * (total - refused))}
    # What was refused is in the cache too, for a replay alone.
    asked(own, two, url, cache, only, "model.replay=true", "model.workers=2")
    assert rows(two) == rows(one) and len(count) == total
    folder = two / "seer" / "questions"
    (folder / "bench_entry.json").unlink()
    words = [f"resume={two}", "model.timeout=3"]
    bench(compose("bench", words), overrides=words)  # its predictions are still its own
    assert rows(two) == rows(one)
