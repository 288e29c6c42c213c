"""A knowledge base: what it holds, what it finds, and what it refuses."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from knowledge_encoders import HashEncoder

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_records import (
    Chunk,
    KnowledgeRecord,
    Quantity,
    chunks_of,
    from_mapping,
    read_records,
    windows,
)
from rsvlm.retrieval.knowledge_search import Filter, cosines

CATEGORIES = ("Stadium", "Bridge", "Museum")


def places(count=12):
    return [
        KnowledgeRecord(
            id=f"p{i}",
            name=f"Place{i}",
            category=CATEGORIES[i % 3],
            location=f"{i}.0, {10 + i}.0",
            date=f"20{10 + i}-05-01",
            split="train" if i % 2 else "test",
            image=f"picture_{i}.png",
            world={
                "Construction_Period": f"19{10 + i}",
                "Primary_Function": f"use{i}",
                "Major_Events": [{"Event": f"fire{i}", "Year": "1900", "Description": "it burnt"}],
            },
            expert={"SLP 2019": "100718.73Pa"},
            monthly={"2019 July": {"NDVI": "0.5"}},
            description=f"a roof{i} beside a road",
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    out = tmp_path_factory.mktemp("kb") / "kb"
    return KnowledgeBase.build(places(), HashEncoder(), out)


def found(hits):
    return [(h.record.id, h.type, h.text, round(h.score, 5)) for h in hits]


def test_chunks_hold_what_is_known_and_no_empty_field():
    record = places(1)[0]
    texts = {chunk.type: chunk.text for chunk in chunks_of(record)}
    assert "Major events: fire0: it burnt (1900)" in texts["basic_info_and_history"]
    assert texts["expert_knowledge"] == "SLP 2019: 100718.73 Pa"
    assert "culture_and_visitor" not in texts
    assert texts["monthly_expert_knowledge"] == "Place0 2019 July: NDVI: 0.5"
    assert texts["caption"].endswith("a roof0 beside a road")
    assert Quantity.parse("12.51mm") == ("12.51", "mm") and Quantity.parse("built late") is None


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("99999.97Pa", "99999.97 Pa"),
        ("0.1234567", "0.1234567"),
        ("1,234.5678 mm", "1,234.5678 mm"),
        ("5,3 mm", "5,3 mm"),
        ("1886-1890", "1886-1890"),
        ("3/4", "3/4"),
        ("−3.5°C", "−3.5 °C"),
        ({"value": 1e-7, "unit": "kg/m2"}, "1e-07 kg/m2"),
        ({"value": None}, None),
    ],
)
def test_measured_numbers_keep_their_digits(said, told):
    record = from_mapping({"id": "a", "expert": {"x": said}}, "a test")
    assert [chunk.text for chunk in chunks_of(record)] == ([f"x: {told}"] if told else [])


def test_windows_overlap_and_cover_the_text():
    text = " ".join(f"w{i}" for i in range(50))
    made = list(windows(Chunk("text", text), lambda word: 1, 20, 5))
    assert [len(chunk.text.split()) for chunk in made] == [20, 20, 20]
    assert all(text[a:b] == chunk.text for chunk in made for a, b in [chunk.span])
    assert made[1].text.split()[:5] == made[0].text.split()[-5:]
    assert made[-1].span[1] == len(text)


def test_a_text_without_blanks_is_windowed_too():
    text = "港" * 90 + " gate"
    made = list(windows(Chunk("text", text), len, 20, 5))
    assert all(len(chunk.text.replace(" ", "")) <= 20 for chunk in made)
    spans = [chunk.span for chunk in made]
    assert spans[0][0] == 0 and spans[-1][1] == len(text)
    assert all(a[0] < b[0] <= a[1] for a, b in pairwise(spans))


def test_picture_text_and_both_find_the_place(base):
    assert base.search("picture_4.png", k=1)[0].record.id == "p4"
    hit = base.search(text="use7", task="vqa", k=1)[0]
    assert (hit.record.id, hit.type, hit.image_score) == ("p7", "architecture_and_function", None)
    both = base.search("picture_4.png", "use7", k=1, alpha=0.9)[0]
    assert both.record.id == "p4"
    assert both.score == pytest.approx(0.9 * both.image_score + 0.1 * both.text_score, abs=1e-6)
    assert len(base.search(text="roof1", k=10_000)) == len(base.version)


def test_exact_search_is_the_whole_product(base):
    query = base.encoder.encode_texts(["a roof3 beside Place5"])[0]
    query = query / np.linalg.norm(query)
    hits = base.search(text="a roof3 beside Place5", k=7)
    best = np.sort(np.asarray(base.version.text) @ query)[::-1][:7]
    np.testing.assert_allclose([hit.score for hit in hits], best, atol=1e-6)


@pytest.mark.parametrize("step", [1, 3])  # rows that stand together, and scattered ones
def test_scores_of_some_rows_are_those_of_all(step):
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((900, 48), dtype=np.float32)
    rows = np.arange(5, 800, step)
    found = cosines(vectors, vectors[7], rows)
    np.testing.assert_allclose(found, vectors[rows] @ vectors[7], atol=1e-4)


def test_filters_leave_out(base):
    def ids(**where):
        return {h.record.id for h in base.search(text="roof", where=Filter(**where), k=999)}

    assert ids(categories=["bridge"]) == {"p1", "p4", "p7", "p10"}
    assert ids(splits=["train"]) == {f"p{i}" for i in range(1, 12, 2)}
    assert ids(since="2018", until="2019-12") == {"p8", "p9"}
    assert ids(place="place11") == {"p11"}
    assert ids(near=(3.0, 13.0, 50.0)) == {"p3"}
    assert "p0" not in ids(exclude=["picture_0.png"])
    assert ids(categories=["casino"]) == set()


def test_the_question_s_own_picture_can_be_left_out(base):
    hits = base.search("picture_4.png", k=999, exclude_self=True)
    assert hits and "p4" not in {hit.record.id for hit in hits}
    asked = {"task": "vqa", "variant": "released", "k": 999, "where": Filter(exclude=["p5"])}
    hits = base.search("picture_4.png", "roof4", exclude_self=True, **asked)
    assert hits and not {"p4", "p5"} & {hit.record.id for hit in hits}


def test_words_fuse_with_vectors_and_diversity_spreads(base):
    assert base.search(text="fire9", k=1, lexical=True)[0].record.id == "p9"
    assert base.search("picture_2.png", "fire9", k=3, fusion="rrf")[0].record.id in {"p2", "p9"}
    plain = base.search(text="Place3 roof3", k=4)
    spread = base.search(text="Place3 roof3", k=4, mmr=0.3)
    assert plain[0] == spread[0]
    assert len({h.record.id for h in spread}) >= len({h.record.id for h in plain})
    # Ranks lie between 0 and 0.05, likeness between -1 and 1: the score would count for nothing.
    asked = {"text": "fire9 Place9", "k": 3, "lexical": True}
    assert base.search(**asked, mmr=0.99) == base.search(**asked)
    ranked = base.search(text="roof", k=2, rerank=lambda q, texts: [len(t) for t in texts])
    assert len(ranked[0].text) >= len(ranked[1].text)


def test_added_changed_and_removed_records_are_new_versions(tmp_path):
    base = KnowledgeBase.build(places(4), HashEncoder(), tmp_path / "kb")
    changed = KnowledgeRecord("p1", name="Place1", texts=["zebra crossing"])
    assert base.add([changed, *places(6)[4:]]) == 1
    assert [r.id for r in base.version.records] == ["p0", "p2", "p3", "p1", "p4", "p5"]
    assert base.search(text="zebra crossing", k=1)[0].record.id == "p1"
    assert base.search("picture_5.png", k=1)[0].record.id == "p5"
    assert base.remove(["p1", "p5"]) == 2
    assert {h.record.id for h in base.search(text="roof", k=99)} == {"p0", "p2", "p3", "p4"}
    assert base.store.versions() == [1, 2, 3]
    old = KnowledgeBase(tmp_path / "kb", HashEncoder(), version=2)
    assert old.search(text="zebra crossing", k=1)[0].text == "zebra crossing"
    whole = KnowledgeBase.build(places(3)[0:1] + places(5)[2:], HashEncoder(), tmp_path / "other")
    assert found(base.search("picture_2.png", "use3", k=9)) == found(
        whole.search("picture_2.png", "use3", k=9)
    )
    base.remove(["p0", "p2", "p3", "p4"])
    assert base.search(text="roof") == [] and base.search("picture_2.png", "roof") == []
    base.add(places(1))
    assert base.search(text="roof0", k=1)[0].record.id == "p0"


def test_what_cannot_be_used_is_said(tmp_path):
    records = [
        KnowledgeRecord("both", texts=["a pier"], image="broken_1.png"),
        KnowledgeRecord("neither"),
        KnowledgeRecord("only_broken", image="broken_2.png"),
        KnowledgeRecord("picture", image="a_pier.png"),
    ]
    base = KnowledgeBase.build(records, HashEncoder(), tmp_path / "kb")
    assert [r.id for r in base.version.records] == ["both", "picture"]
    told = " ".join(base.version.left_out)
    assert "broken_1.png: it is damaged" in told and "neither a text nor a picture" in told
    hit = next(h for h in base.search("a_pier.png", "pier", k=9) if h.record.id == "both")
    assert hit.score == pytest.approx(0.3 * hit.text_score, abs=1e-6)


def test_another_encoder_is_refused(tmp_path):
    KnowledgeBase.build(places(2), HashEncoder(), tmp_path / "kb")
    with pytest.raises(UserError, match="made by hash"):
        KnowledgeBase(tmp_path / "kb", HashEncoder("other", salt="x"))
    with pytest.raises(UserError, match="32 numbers"):
        KnowledgeBase(tmp_path / "kb", HashEncoder("wide", dim=48))


def test_bad_questions_and_bases_are_errors(base, tmp_path):
    with pytest.raises(UserError, match="needs a picture or a text"):
        base.search(None, "  ")
    with pytest.raises(UserError, match="alpha=2"):
        base.search("picture_1.png", "a", alpha=2)
    with pytest.raises(UserError, match="k=0"):
        base.search(text="a", k=0)
    with pytest.raises(UserError, match=r"fusion=rff is not known\. Did you mean rrf"):
        base.search(text="a", fusion="rff")
    with pytest.raises(UserError, match="Did you mean caption"):
        base.search(text="a", types=["captoin"])
    with pytest.raises(UserError, match="ranks as published: leave types"):
        base.search("picture_1.png", "a", task="vqa", variant="released", lexical=True)
    with pytest.raises(UserError, match="no knowledge base"):
        KnowledgeBase(tmp_path)
    with pytest.raises(UserError, match="no record 'p99'"):
        base.remove(["p99"])
    with pytest.raises(UserError, match="other records or options"):
        KnowledgeBase.build(places(3), HashEncoder(), base.store.root)
    with pytest.raises(UserError, match="two records have the id"):
        KnowledgeBase.build(places(1) * 2, HashEncoder(), tmp_path / "kb")
    again = KnowledgeBase.build(places(), HashEncoder(), base.store.root)  # it is there
    assert again.store.versions() == base.store.versions()


def test_a_damaged_version_names_an_older_one(tmp_path):
    base = KnowledgeBase.build(places(2), HashEncoder(), tmp_path / "kb")
    base.add(places(3)[2:])
    path = tmp_path / "kb/versions/000002/text.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="--version 1"):
        KnowledgeBase(tmp_path / "kb")
    assert len(KnowledgeBase(tmp_path / "kb", version=1)) == 2


def test_two_writers(tmp_path):
    base = KnowledgeBase.build(places(2), HashEncoder(), tmp_path / "kb")
    holder = (
        "import sys, time; from rsvlm.retrieval.knowledge_store import FileStore\n"
        "with FileStore(sys.argv[1]).locked():\n    print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "kb")], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline().strip() == b"held"
        with pytest.raises(UserError, match=f"another process \\({child.pid}\\)"):
            base.remove(["p0"])
        assert base.search(text="roof0", k=1)  # it can be searched meanwhile
        child.kill()


def test_records_of_a_file_are_held_against_their_fields(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text('{"name": "A", "expert": {"rain": {"value": 3, "unit": "mm"}}}\n')
    (record,) = read_records(path)
    assert (record.id, record.expert) == ("A", {"rain": "3 mm"})
    for line, says in (
        ('{"nam": "A"}', "Did you mean name"),
        ('{"image": "a.png"}', "needs an id or a name"),
        ('{"id": "a", "texts": "x"}', "texts is a list"),
        ("[1]", "an object"),
        ('{"id": "a", "chunks": [{"type": "text"}]}', "belongs to texts"),
        ('{"id": "a", "chunks": 3}', "belongs to texts"),
        ('{"id": "a", "date": "May 2019"}', "'May 2019' is not ISO"),
        ('{"id": "a", "date": "2019-13"}', "is not ISO"),
        ('{"id": "a", "location": "116.4, 39.9"}', "the latitude comes first"),
    ):
        path.write_text(line + "\n")
        with pytest.raises(UserError, match=says):
            list(read_records(path))


BUILD = textwrap.dedent("""
    import os, sys, time, json
    sys.path.insert(0, {tests!r})
    from knowledge_encoders import HashEncoder
    from rsvlm.retrieval.knowledge_base import KnowledgeBase
    from rsvlm.retrieval.knowledge_builder import Options
    from rsvlm.retrieval.knowledge_records import KnowledgeRecord
    records = [KnowledgeRecord(f"r{{i}}", name=f"Place{{i}}", image=f"picture_{{i}}.png",
                               texts=[f"fact{{i}} of it"]) for i in range(60)]
    KnowledgeBase.build(records, HashEncoder(), sys.argv[1], options=Options(per_part=2),
                        progress=lambda done, all: print(done, flush=True) or time.sleep(0.004),
                        store=sys.argv[2])
    assert "torch" not in sys.modules
    print("whole", flush=True)
""")


def built(out, store, kill_after=None):
    """Runs the build in a process; kills it that many seconds after its first part."""
    code = BUILD.format(tests=str(Path(__file__).parents[1]))
    with subprocess.Popen(
        [sys.executable, "-c", code, str(out), store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        if kill_after is not None:
            child.stdout.readline()
            time.sleep(kill_after)
            os.kill(child.pid, signal.SIGKILL)
            return child.wait()
        said, err = child.communicate()
        assert child.returncode == 0, err.decode()
        return said.decode().split()


def held(out):
    base = KnowledgeBase(out, HashEncoder())
    v = base.version
    hits = [found(base.search(f"picture_{i}.png", f"fact{i + 1}", k=5)) for i in range(0, 60, 9)]
    texts = [v.text_of(i) for i in range(len(v))]
    return [r.line() for r in v.records], v.text.tobytes(), v.image.tobytes(), texts, hits


#: Until a build of each has ended, in seconds behind its first part.
TAKES = {"files": 0.13, "lance": 0.5}


@pytest.mark.parametrize("store", TAKES)
@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_build_goes_on_to_the_same_base(tmp_path, kills, store):
    if store == "lance":
        pytest.importorskip("lancedb")
    records = [
        KnowledgeRecord(
            f"r{i}", name=f"Place{i}", image=f"picture_{i}.png", texts=[f"fact{i} of it"]
        )
        for i in range(60)
    ]
    KnowledgeBase.build(records, HashEncoder(), tmp_path / "whole")
    draws = random.Random(kills)
    for _ in range(kills):
        built(tmp_path / "killed", store, kill_after=draws.uniform(0, TAKES[store]))
        if not (tmp_path / "killed/manifest.json").is_file():
            with pytest.raises(UserError, match="goes on"):
                KnowledgeBase(tmp_path / "killed")
    said = built(tmp_path / "killed", store)
    assert said[-1] == "whole"
    assert held(tmp_path / "whole") == held(tmp_path / "killed")
    assert not (tmp_path / "killed/building").exists()
    assert json.loads((tmp_path / "killed/manifest.json").read_text())["version"] == 1
