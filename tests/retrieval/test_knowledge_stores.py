"""What a store of a knowledge base keeps, one and the same for folders, LanceDB and Qdrant."""

import os
import socket
import sys

import numpy as np
import pytest
from knowledge_encoders import HashEncoder

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_base import KnowledgeBase
from rsvlm.retrieval.knowledge_lease import WRITER
from rsvlm.retrieval.knowledge_records import KnowledgeRecord
from rsvlm.retrieval.knowledge_search import Filter
from rsvlm.retrieval.knowledge_store import Asked, FileStore, store_of

CATEGORIES = ("Stadium", "Bridge", "Museum")
STORES = (
    "files",
    "lance",
    "qdrant",
    pytest.param(
        "server",
        marks=pytest.mark.skipif("QDRANT_URL" not in os.environ, reason="QDRANT_URL is not set"),
    ),
)
FILTERS = (
    None,
    Filter(categories=["bridge"]),
    Filter(categories=[]),
    Filter(splits=["train"]),
    Filter(since="2011", until="2012-12"),
    Filter(since="2012-05-02"),
    Filter(place="LACE3"),
    Filter(near=(3.0, 13.0, 50.0)),
    Filter(exclude=["picture_0.png", "p1"]),
    Filter(records=["p1", "p2"]),
)


def places(count, first=0):
    return [
        KnowledgeRecord(
            id=f"p{i}",
            name=f"Place{i}",
            category=CATEGORIES[i % 3],
            location=f"{i}.0, {10 + i}.0",
            date=f"20{10 + i % 80}-05-01" if i != 4 else "2012",
            split="train" if i % 2 else "test",
            image=f"picture_{i}.png" if i != 5 else "",
            world={"Primary_Function": f"use{i}"},
            monthly={"2019 July": {"NDVI": "0.5"}},
            description=f"a roof{i} beside a road",
        )
        for i in range(first, first + count)
    ]


@pytest.fixture
def make(tmp_path, monkeypatch):
    """kind -> a function that opens the store of one base again and again."""
    monkeypatch.setenv("RSVLM_CACHE", str(tmp_path / "cache"))
    left = []

    def of(kind, **options):
        if kind == "files":
            return lambda: FileStore(tmp_path / "kb")
        if kind == "lance":
            pytest.importorskip("lancedb")
            from rsvlm.retrieval.knowledge_lance import LanceStore

            return lambda: LanceStore(tmp_path / "kb", **options)
        client = pytest.importorskip("qdrant_client")
        from rsvlm.retrieval.knowledge_qdrant import QdrantStore

        if kind == "server":
            address = f"{os.environ['QDRANT_URL']}/rsvlm-test-{os.getpid()}"
            left.append(QdrantStore(address))
            return lambda: QdrantStore(address)
        memory = client.QdrantClient(":memory:")
        return lambda: QdrantStore("http://localhost:6333/places", memory)

    yield of
    for store in left:
        for end in ("", "-records", "-about"):
            store.client.delete_collection(store.name + end)


def found(hits):
    return [(h.record.line(), h.type, h.text, h.span, round(h.score, 5)) for h in hits]


def told(base):
    """What a base finds, on questions of each sort."""
    made = []
    for where in FILTERS:
        made.append(found(base.search("picture_2.png", "a roof1", k=5, where=where)))
    made.append(found(base.search("picture_2.png", "use3", k=999)))
    made.append(found(base.search("picture_1.png", k=4, exclude_self=True)))
    made.append(found(base.search("picture_1.png", "road", k=2, task="vqa", alpha=0.1)))
    made.append(found(base.search(text="a roof0", types=["caption"], k=2, mmr=0.5)))
    return made


@pytest.mark.parametrize("kind", STORES)
def test_each_store_finds_what_files_find_in_each_version(make, kind, tmp_path):
    opened = make(kind)
    plain = KnowledgeBase.build(places(6), HashEncoder(), tmp_path / "plain")
    base = KnowledgeBase.build(places(6), HashEncoder(), opened())
    states = [told(plain)]
    assert told(base) == states[0] and len(base) == 6
    assert base.version.counts() == plain.version.counts()
    query = base.encoder.encode_texts(["a roof3"])[0]
    exact = np.sort(plain.version.text @ (query / np.linalg.norm(query)))[::-1][:5]
    scores = [hit.score for hit in base.search(text="a roof3", k=5)]
    np.testing.assert_allclose(scores, exact, atol=1e-6)  # of torch

    new = [KnowledgeRecord("p1", name='it\'s "one"', texts=["zebra"]), *places(2, first=8)]
    for one in (plain, base):
        assert one.add(new) == 1
    states.append(told(plain))
    assert told(base) == states[1]
    for one in (plain, base):
        assert one.remove(["p1", "p0"]) == 2
        with pytest.raises(UserError, match=r"no record 'p1'\. Did you mean"):
            one.remove(["p1"])
    states.append(told(plain))
    assert told(base) == states[2]
    assert {r.id for r in base.version.records} == {r.id for r in plain.version.records}

    assert base.store.versions() == [1, 2, 3]
    for number, state in enumerate(states, 1):
        assert told(KnowledgeBase(opened(), HashEncoder(), version=number)) == state
    with pytest.raises(UserError, match="no version 9; there are 1, 2, 3"):
        KnowledgeBase(opened(), version=9)
    base.remove([record.id for record in base.version.records])
    assert len(base) == 0 and base.search("picture_1.png", "road", k=5) == []
    base.add(places(1))
    assert base.search(text="roof0", k=1)[0].record.id == "p0" and base.version.number == 5


@pytest.mark.parametrize("kind", STORES)
def test_what_is_no_base_of_this_encoder_is_refused(make, kind):
    opened = make(kind)
    with pytest.raises(UserError, match=r"is no knowledge base\. Make one") as error:
        KnowledgeBase(opened())
    assert error.value.code == "no_knowledge_base"
    with pytest.raises(UserError, match="no record to build"):
        KnowledgeBase.build([], HashEncoder(), opened())
    KnowledgeBase.build(places(2), HashEncoder(), opened())
    with pytest.raises(UserError, match=r"made by hash \(32 numbers"):
        KnowledgeBase(opened(), HashEncoder("wide", dim=48))
    with pytest.raises(UserError, match="with other weights"):
        KnowledgeBase.build(places(2), HashEncoder(salt="x"), opened())
    with pytest.raises(UserError, match="other records or options"):
        KnowledgeBase.build(places(3), HashEncoder(), opened())
    KnowledgeBase.build(places(2), HashEncoder(), opened())  # it is there
    assert opened().versions() == [1]


class Killed(BaseException):
    """Nobody catches it."""


def kills(monkeypatch, owner, names, after):
    """The calls of an object are counted, and the one behind `after` ends the process."""
    count = [0]

    def counted(plain):
        def call(*args, **words):
            count[0] += 1
            if count[0] > after:
                raise Killed
            return plain(*args, **words)

        return call

    for name in names:
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return count


@pytest.mark.parametrize("kind", ["lance", "qdrant"])
def test_a_write_that_is_killed_leaves_the_last_version(make, kind, monkeypatch, tmp_path):
    opened = make(kind)
    KnowledgeBase.build(places(3), HashEncoder(), opened())
    new = [KnowledgeRecord("p1", texts=["zebra"]), *places(1, first=8)]
    plain = KnowledgeBase.build(places(3), HashEncoder(), tmp_path / "plain")
    before = told(plain)
    plain.add(new)
    for after in range(100):
        with monkeypatch.context() as patch:
            base = KnowledgeBase(opened(), HashEncoder())
            if kind == "lance":
                import lancedb.table

                owner, names = lancedb.table.LanceTable, ("add", "delete", "restore", "checkout")
            else:
                owner, names = base.store.client, ("upsert", "delete", "set_payload")
            kills(patch, owner, names, after)
            try:
                base.add(new)
            except Killed:
                if kind == "qdrant":  # of a process that is no more, nobody lets go
                    patch.undo()
                    base.store._tell(1 << 40, {"token": "x", "host": "y", "pid": 1, "until": 0})
            else:
                break
        again = KnowledgeBase(opened(), HashEncoder())
        if again.version.number == 2:  # killed behind its last step
            break
        assert told(again) == before, after
    assert 3 < after < 99
    again = KnowledgeBase(opened(), HashEncoder())
    assert again.version.number == 2 and told(again) == told(plain)


def test_two_writers_of_a_server(make, monkeypatch, tmp_path):
    opened = make("qdrant")
    base = KnowledgeBase.build(places(2), HashEncoder(), opened())
    other = KnowledgeBase(opened(), HashEncoder())
    with other.store.locked():
        with pytest.raises(UserError, match="places is being written by another thread of this"):
            base.remove(["p0"])
        monkeypatch.setenv("RSVLM_CACHE", str(tmp_path / "another user's"))
        with pytest.raises(UserError, match=f"another process .{os.getpid()} on"):
            base.remove(["p0"])
        assert base.search(text="roof0", k=1)  # it can be searched meanwhile
    assert base.remove(["p0"]) == 1


def test_of_two_that_begin_at_once_one_writes(make, monkeypatch):
    """Both have read that nobody writes; the server lets one of them."""
    opened = make("qdrant")
    KnowledgeBase.build(places(2), HashEncoder(), opened())
    one, other = opened(), opened()
    monkeypatch.setattr(other.lease, "read", Forgets(other._about))
    one.lease.hold()
    with pytest.raises(UserError, match="is being written by another process"):
        other.lease.hold()
    assert one._about(WRITER)["token"] == one.lease.token
    one.client.delete("places-about", other.lease.own())  # not its own, so it stays
    one.lease.hold()
    # A lease that changed hands between reading and writing is left alone.
    stale = one._about(WRITER) | {"host": "elsewhere", "until": 0}
    monkeypatch.setattr(other.lease, "read", Forgets(other._about, stale))
    with pytest.raises(UserError, match="is being written by another process"):
        other.lease.hold()


def test_a_writer_whose_number_another_process_has_now_is_replaced(make):
    """Killed in a container whose name stays: the one that starts anew has its number."""
    store = make("qdrant")()
    base = KnowledgeBase.build(places(2), HashEncoder(), store)
    store._tell(
        WRITER, {"token": "x", "host": socket.gethostname(), "pid": os.getpid(), "until": 0}
    )
    assert base.remove(["p0"]) == 1


@pytest.mark.parametrize("kind", ["files", "lance"])
def test_two_threads_of_one_process(make, kind):
    opened = make(kind)
    base = KnowledgeBase.build(places(2), HashEncoder(), opened())
    with opened().locked(), pytest.raises(UserError, match="by another thread of this process"):
        base.remove(["p0"])
    assert base.remove(["p0"]) == 1


class Forgets:
    """Reads something else the first time."""

    def __init__(self, read, first=None):
        self.read, self.first = read, first or {}

    def __call__(self, id):
        first, self.first = self.first, None
        return self.read(id) if first is None else first


def test_a_version_that_came_between_is_not_overwritten(make, monkeypatch):
    opened = make("qdrant")
    base = KnowledgeBase.build(places(2), HashEncoder(), opened())
    late = opened()
    old, facts = late.open(), base._facts()
    monkeypatch.setattr(late.lease, "hold", lambda: None)  # it hung, and was replaced
    assert base.remove(["p0"]) == 1
    with pytest.raises(UserError, match="has written version 2 while this one was silent"):
        late.write([], "late", facts, of=old, gone=["p1"])
    assert opened().manifest["writer"] == base.store.lease.token


def test_a_server_that_is_away_is_an_error_and_no_empty_answer(make):
    base = KnowledgeBase.build(places(2), HashEncoder(), make("qdrant")())
    away = store_of("http://localhost:9/places")
    base.store.client = away.client
    for call in (
        lambda: base.search(text="roof0"),
        lambda: KnowledgeBase(away, HashEncoder()),
        lambda: KnowledgeBase.build(places(1), HashEncoder(), away),
    ):
        with pytest.raises(UserError, match="does not answer") as error:
            call()
        assert error.value.code == "server_away"


def test_what_needs_every_row_is_said_of_a_server(make):
    base = KnowledgeBase.build(places(2), HashEncoder(), make("qdrant")())
    for words in ({"lexical": True}, {"fusion": "rrf"}, {"variant": "released", "task": "vqa"}):
        with pytest.raises(UserError, match="on its server"):
            base.search("picture_1.png", "roof0", **words)
    with pytest.raises(UserError, match="on its server"):
        assert list(base.version.record_of)


def test_an_index_finds_what_all_rows_do(make, tmp_path):
    opened = make("lance", index_rows=200, exact_rows=50)
    base = KnowledgeBase.build(places(60), HashEncoder(), opened())
    plain = KnowledgeBase.build(places(60), HashEncoder(), tmp_path / "plain")
    for one in (base, plain):
        one.add(places(3, first=60))
        one.remove(["p7"])
    assert base.store._said(3)["indexed"]
    for where in (None, Filter(categories=["Bridge", "Museum"])):
        for text in ("a roof3", "use61", "Place20 is a Bridge"):
            a, b = (
                found(one.search("picture_9.png", text, k=4, where=where, types=None))
                for one in (base, plain)
            )
            assert a == b
    few = base.search(text="roof3", types=["image_description"], k=1)  # fewer than exact_rows
    assert few[0].record.id == "p3"


def test_an_index_is_no_limit_to_what_filters_and_words_find(make, monkeypatch):
    """What is nearest may all be of other classes or types, or lack the word that is asked for."""
    opened = make("lance", index_rows=200, exact_rows=20)
    monkeypatch.setattr("rsvlm.retrieval.knowledge_lance._AT_LEAST", 5)
    monkeypatch.setattr("rsvlm.retrieval.knowledge_lance._REFINE", 1)
    records = [
        KnowledgeRecord(
            f"p{i}", category=kind, texts=[f"{kind} {kind} {kind} w{i}"], image=f"{kind}_{i}.png"
        )
        for i, kind in enumerate(CATEGORIES * 40)
    ]
    for i in range(6):
        records.append(KnowledgeRecord(f"t{i}", texts=["d e f"], image=f"g{i}_h{i}.png"))
        records.append(KnowledgeRecord(f"i{i}", texts=[f"k{i} l{i}"], image=f"a_b_c_{i}.png"))
    records.append(KnowledgeRecord("x", texts=["d e z"], image="a_b_z.png"))
    base = KnowledgeBase.build(records, HashEncoder(), opened())
    assert base.store.narrow(base.version, base_asked(base, "Museum Museum"))[1].size < 30
    where = Filter(categories=["Museum"])
    for asked in ({"text": "Stadium Stadium"}, {"image": "Stadium_0.png"}):
        hits = base.search(**asked, where=where, types=["text"], k=5)
        assert [hit.record.category for hit in hits] == ["Museum"] * 5
    both = base.search("a_b_c.png", "d e f", alpha=0.5, k=1)
    assert both[0].record.id == "x", "the best of both is the best of neither"
    hits = base.search(text="Stadium Stadium w2", types=["text"], lexical=True, pool=3, k=3)
    assert "p2" in {hit.record.id for hit in hits}


def base_asked(base, text):
    _, words = base.encode(None, text)
    return Asked(None, words, 0.5, ["text"], None, 4)


def test_files_of_tables_are_made_again(make, tmp_path):
    base = KnowledgeBase.build(places(3), HashEncoder(), make("lance")())
    before = told(base)
    path = tmp_path / "kb/versions/000001/text.npy"
    path.write_bytes(path.read_bytes()[:-4])
    assert told(KnowledgeBase(tmp_path / "kb", HashEncoder())) == before
    (tmp_path / "kb/versions/000001/lance.json").write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        KnowledgeBase(tmp_path / "kb")


def test_places_and_kinds_that_do_not_fit_are_said(tmp_path):
    KnowledgeBase.build(places(1), HashEncoder(), tmp_path / "kb")
    for where, kind, says in (
        (tmp_path / "kb", "lance", "is a base in --store files"),
        (tmp_path / "x", "qdrant", "--out http://localhost:6333/places"),
        ("http://localhost:6333/places", "files", "--store qdrant"),
        ("http://localhost:6333", None, "names no base"),
        (tmp_path / "x", "lanc", "Did you mean lance"),
    ):
        with pytest.raises(UserError, match=says):
            store_of(where, kind)


@pytest.mark.parametrize(
    ("kind", "where", "package"),
    [("lance", "kb", "lancedb"), ("qdrant", "http://localhost:9/places", "qdrant_client")],
)
def test_a_store_that_is_not_installed_names_its_extra(monkeypatch, kind, where, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"{package} is not.*rsvlm\[knowledge\]'\. Without it,"):
        store_of(where, kind)
