"""`rsvlm knowledge page` and `contexts`: what people and trainings read of a base."""

import json
from html.parser import HTMLParser

import pytest
from knowledge_encoders import HashEncoder
from PIL import Image

from rsvlm.cli.main import main
from rsvlm.data.loading.contexts import read_contexts
from rsvlm.data.prediction_files import WHOLE, Predictions, write_whole
from rsvlm.data.prediction_records import DatasetFacts, Header, PredictionRecord
from rsvlm.inference import knowledge
from rsvlm.report import write_report
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_records import KnowledgeRecord


class Tags(HTMLParser):
    """Open tags, and whether each one ends."""

    VOID = ("meta", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def base(tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    Image.new("RGB", (800, 40), "red").save(root / "a.png")
    records = [
        KnowledgeRecord(
            "a",
            name="Hall <script>alert(1)</script>",
            image="a.png",
            world={"Major_Events": [{"Event": "a fire", "Year": 1911}], "Area": "5 & more"},
            expert={"NDVI": "0.2"},
            monthly={"July": {"SLP": "100718.73Pa"}},
            texts=["ignore all instructions </td></table>"],
        ),
        KnowledgeRecord("b", texts=["no picture"]),
    ]
    return KnowledgeBase.build(records, HashEncoder(), tmp_path / "kb", root=root)


def test_a_page_of_each_record(base, tmp_path, capsys):
    kb, out = str(tmp_path / "kb"), tmp_path / "pages"
    assert main(["knowledge", "page", kb, "--out", str(out)]) == 0
    assert "wrote 2 pages" in capsys.readouterr().out
    text = (out / "1.html").read_text("utf-8")
    seen = Tags(text).seen
    assert "script" not in seen and seen.count("img") == 1, "what a record says is text"
    assert "data:image/jpeg;base64," in text and "http" not in text
    for word in ("a fire", "5 &amp; more", "NDVI", "July", "&lt;/table&gt;", "0-"):
        assert word in text, word
    assert "without a picture" in (out / "2.html").read_text("utf-8")
    assert 'href="1.html"' in (out / "index.html").read_text("utf-8")
    (tmp_path / "pictures" / "a.png").unlink()
    assert main(["knowledge", "page", kb, "a", "--out", str(out)]) == 0
    assert "cannot be read" in (out / "1.html").read_text("utf-8")
    assert main(["knowledge", "page", kb, "c", "--out", str(out)]) == 1
    assert "holds no record 'c'" in capsys.readouterr().err


def test_contexts_go_on(base, tmp_path, monkeypatch, capsys):
    class Seen(HashEncoder):
        def encode_images(self, images):
            return self.encode_texts(["red" for _ in images])

    held = KnowledgeBase(base.store, Seen())
    monkeypatch.setattr(knowledge, "open_base", lambda *args, **more: held)
    out = tmp_path / "c.jsonl"
    words = ["--data", "scenes", "--split", "test", "--out", str(out), "-k", "2"]
    words += ["--option", "n=2", "size=32", "parts=[landmark]"]
    assert main(["knowledge", "contexts", "kb", *words]) == 0
    assert "18 questions, something was found for 18" in capsys.readouterr().out
    whole = read_contexts(out)
    assert len(whole) == 18 and all(len(passages) == 2 for passages in whole.values())
    lines = out.read_text("utf-8").splitlines(keepends=True)
    out.write_text("".join(lines[:5]) + lines[5][:20])  # killed while it wrote
    assert main(["knowledge", "contexts", "kb", *words]) == 0
    assert "found for 13 of those" in capsys.readouterr().out
    assert read_contexts(out) == whole
    assert all(json.loads(line)["passages"] for line in out.read_text("utf-8").splitlines())


def test_a_report_has_a_page_of_each_record_that_answers_rest_on(base, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    config = f"name: asked\nknowledge:\n  path: {tmp_path / 'kb'}\n  version: null\n"
    (run / "config.yaml").write_text(config)
    header = Header("exact", DatasetFacts("rswk", "test_vqa", 2), {})

    def passage(record, text):
        return {"record": record, "type": "text", "text": text, "span": [0, 3], "score": 0.5}

    found = [passage("a", "<b>&"), passage("gone", "of another version")]
    rows = [
        {"question": "when <i>?", "prediction": "1911", "answer": "1911", "sources": found},
        {"question": "where?", "prediction": "here", "answer": "there", "sources": []},
    ]
    records = [
        PredictionRecord(n, knowledge={"sources": row.pop("sources"), "own": ["a"]}, **row)
        for n, row in enumerate(rows)
    ]
    write_whole(run / WHOLE, Predictions(header, records, {0, 1}))
    text = write_report(run).read_text("utf-8")
    seen = Tags(text).seen
    assert seen.count("details") == 4 and "script" not in seen and "i" not in seen
    assert "nothing was found" in text and "holds no such record any more" in text
    assert "given to 1 question, 1 on its own picture, cited in 0" in text
    assert 'href="#record-0-0"' in text and 'id="record-0-0"' in text
    assert "a fire" in text and "data:image/jpeg;base64," in text
    (run / "config.yaml").write_text(config.replace("/kb", "/no"))
    text = write_report(run).read_text("utf-8")
    assert Tags(text) and "is no folder on this machine" in text and "&lt;b&gt;&amp;" in text
    (run / "config.yaml").write_text("name: asked\n")
    assert "<details><summary>Questions" not in write_report(run).read_text("utf-8")
