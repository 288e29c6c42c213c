"""Duplicates by address, perceptual hash and vectors; the published code's groups."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from rsvlm.curate.dedup.keep import KeepRule
from rsvlm.curate.dedup.neighbours import neighbours, pairs_above
from rsvlm.curate.dedup.stages import (
    DocumentDeduplicator,
    ImageDeduplicator,
    ImageHash,
    SemanticDeduplicator,
)
from rsvlm.curate.record import Dropped
from rsvlm.data.perceptual_hash import components, groups_of, near_of, near_pairs, perceptual_hash
from rsvlm.errors import UserError

CASE = pytest.mark.parity("remoteclip_dedup")


@pytest.fixture
def case(golden):
    return json.loads((golden / "remoteclip_dedup/case.json").read_text())


@CASE
def test_remoteclip_dedup_hashes_of_pictures(case, golden):
    tensors = load_file(golden / "remoteclip_dedup/tensors.safetensors")
    for name, expected in case["phash"].items():
        image = Image.fromarray(tensors[f"picture_{name}"])
        assert f"{perceptual_hash(image):016x}" == expected, name


@CASE
@pytest.mark.parametrize("grouping", ["transitive", "first_come"])
def test_remoteclip_dedup_groups(case, grouping):
    hashes = [int(text, 16) for text, _ in case["hashes"]]
    names = [name for _, name in case["hashes"]]
    word = {"transitive": "components"}.get(grouping, grouping)
    for bits, expected in case["groups"][grouping].items():
        for blocks in (case["config"]["blocks"], None):
            pairs = near_pairs(hashes, int(bits), blocks)
            found = groups_of(len(hashes), pairs, word)
            assert sorted(sorted(names[i] for i in group) for group in found) == expected


@CASE
def test_remoteclip_dedup_groups_of_pictures_and_queries(case):
    names = list(case["phash"])
    hashes = [int(case["phash"][name], 16) for name in names]
    found = groups_of(len(names), near_pairs(hashes, 2, 4))
    assert sorted(sorted(names[i] for i in g) for g in found) == case["picture_groups"]
    base = [int(case["phash"][name], 16) for name in case["base"]]
    for bits, expected in case["query"].items():
        for blocks in (4, None):
            pairs = near_of(hashes, base, int(bits), blocks)
            answer = {name: [] for name in names}
            for a, b in pairs.tolist():
                answer[names[a]].append(case["base"][b])
            if blocks == 4:
                assert {n: sorted(v) for n, v in answer.items()} == expected
            elif bits == "8":
                lost = {(n, x) for n in names for x in {*answer[n]} - {*expected[n]}}
                assert lost == {tuple(pair[:2]) for pair in case["missed_at_8"]}


def test_all_pairs_are_found_where_published_blocks_lose_some():
    draw = np.random.default_rng(0)
    hashes = draw.integers(0, 2**63, 300, dtype=np.uint64)
    for i in range(0, 300, 3):  # the same with eight bits turned
        turned = draw.choice(64, 8, replace=False)
        hashes[i + 1] = hashes[i] ^ np.uint64(sum(1 << int(b) for b in turned))
    distance = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = {(i, j) for i, j in np.argwhere(distance <= 8).tolist() if i < j}
    assert {tuple(p) for p in near_pairs(hashes, 8).tolist()} == expected
    assert len(near_pairs(hashes, 8, 4)) < len(expected)


def test_many_equal_hashes_take_no_squared_memory_and_chains_join():
    hashes = [7] * 5000 + [6, 1 << 40]
    pairs = near_pairs(hashes, 1)
    assert len(pairs) < 6000
    (group,) = groups_of(len(hashes), pairs)
    assert group == list(range(5001))
    chain = np.array([[i, i + 1] for i in range(999)])
    assert (components(1001, chain[::-1]) == [*[0] * 1000, 1000]).all()


@pytest.mark.parametrize(("bits", "blocks"), [(64, None), (-1, None), (1, 5)])
def test_odd_distances_are_refused(bits, blocks):
    with pytest.raises(UserError, match=r"bits=|blocks="):
        near_pairs([1, 2], bits, blocks)


def kept(stage, records):
    keys = np.stack([stage.key(record) for record in records])
    found = stage.decide([record["id"] for record in records], keys)
    return [r["id"] for r, d in zip(records, found, strict=True) if not isinstance(d, Dropped)], [
        d.detail for d in found if isinstance(d, Dropped)
    ]


RS5M = KeepRule(
    by="source",
    best=["laion2b"],
    groups=[["laion2b", "laion400m", "coyo700m"]],
    worst=["laioncoco"],
    draw=True,
)


@pytest.mark.parametrize(
    ("sources", "stays"),
    [
        (["laioncoco", "cc3m", "laion400m"], {2}),
        (["cc3m", "laion2B", "laionCOCO"], {1}),
        (["laioncoco", "cc3m", "redcaps"], {1, 2}),
        (["laioncoco", "laioncoco"], {0, 1}),
        (["laion2b", "coyo700m", "laioncoco"], {0, 1}),
    ],
)
def test_rs5ms_rule_which_source_stays(sources, stays):
    found = set()
    for start in range(12):
        records = [
            {"id": f"{start}-{i}", "url": "http://a/b", "source": source}
            for i, source in enumerate(sources)
        ]
        (one,), lost = kept(DocumentDeduplicator(keep=RS5M), records)
        assert lost == [f"as {one}"] * (len(sources) - 1)
        found.add(int(one[-1]))
    assert found == stays  # each of the best is drawn now and then, and no other


def test_addresses_are_the_same_whatever_their_spelling():
    urls = ["HTTP://Host.com/a?b=1", "http://host.com/a?b=1#top", "http://host.com/A?b=1"]
    records = [{"id": str(i), "url": url} for i, url in enumerate(urls)]
    assert kept(DocumentDeduplicator(), records)[0] == ["0", "2"]
    # What is no address at all ends no run; the download drops it as `bad_url`.
    odd = [
        {"id": str(i), "url": url} for i, url in enumerate(["http://[a/b", "http://[a/b", "//["])
    ]
    assert kept(DocumentDeduplicator(), odd)[0] == ["0", "2"]


def picture(seed, quality=None, size=(64, 48)):
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    out = io.BytesIO()
    image.save(
        out, *(("JPEG",) if quality else ("PNG",)), **({"quality": quality} if quality else {})
    )
    return out.getvalue()


def test_a_picture_saved_again_is_a_duplicate_across_splits_and_the_test_split_keeps_it():
    records = [
        {"id": "train-0", "split": "train", "image": picture(0)},
        {"id": "train-1", "split": "train", "image": picture(1)},
        {"id": "test-0", "split": "test", "image": picture(0, quality=80)},
    ]
    hashed = [ImageHash()(record) for record in records]
    rule = KeepRule(by="split", best=["test", "val", "train"])
    assert kept(ImageDeduplicator(bits=2, keep=rule), hashed)[0] == ["train-1", "test-0"]


def vectors(count, dim=32, seed=0):
    draw = np.random.default_rng(seed)
    made = draw.standard_normal((count, dim)).astype(np.float32)
    made[1::4] = made[::4] + 0.02 * draw.standard_normal((len(made[::4]), dim)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_near_vectors_are_duplicates():
    records = [{"id": f"{i:03d}", "embedding": v} for i, v in enumerate(vectors(40))]
    stays, _ = kept(SemanticDeduplicator(), records)
    assert stays == [f"{i:03d}" for i in range(40) if i % 4 != 1]


def test_exact_neighbours_are_those_of_a_full_table():
    held = vectors(200)
    table = held @ held.T
    np.fill_diagonal(table, -np.inf)
    places, scores = neighbours(held, 5, method="exact")
    assert np.sort(-table, axis=1)[:, :5] == pytest.approx(-scores, abs=1e-6)
    assert np.take_along_axis(table, places, 1) == pytest.approx(scores, abs=1e-6)
    few, none = neighbours(held[:2], 5)
    assert (
        few.tolist() == [[1, -1, -1, -1, -1], [0, -1, -1, -1, -1]] and np.isinf(none[:, 1:]).all()
    )
    assert neighbours(held[:1], 2)[0].tolist() == [[-1, -1]]


def test_one_picture_a_thousand_times_is_one_and_takes_no_larger_tables(monkeypatch):
    pytest.importorskip("faiss")
    from rsvlm.curate.dedup import neighbours as module

    held, sizes, real = vectors(3000), [], module._keep_best
    held[500:2500] = held[0]

    def watched(table, *rest):
        sizes.append(table.size)
        real(table, *rest)

    monkeypatch.setattr(module, "_keep_best", watched)
    monkeypatch.setattr(module, "_TABLE", 30_000)
    for method in ("ivf", "exact"):
        pairs = pairs_above(*neighbours(held, 5, method=method), 0.96)
        largest = max(groups_of(3000, pairs), key=len)
        assert {*range(500, 2500)} <= {*largest} and len(largest) < 2010
    assert max(sizes) <= 30_000


def test_an_index_finds_the_pairs_above_a_threshold():
    pytest.importorskip("faiss")
    held = vectors(3000)
    exact = pairs_above(*neighbours(held, 5, method="exact"), 0.95)
    found = pairs_above(*neighbours(held, 5, method="ivf", probes=4), 0.95)
    exact, found = {tuple(p) for p in exact.tolist()}, {tuple(p) for p in found.tolist()}
    assert found <= exact and len(exact) >= 750
    assert len(found) >= 0.97 * len(exact)


def test_odd_words_are_refused():
    for make in (
        lambda: neighbours(vectors(4), 0),
        lambda: neighbours(vectors(4), 1, method="hnsw"),
        lambda: ImageDeduplicator(variant="mine"),
        lambda: groups_of(2, np.zeros((0, 2), int), "best"),
    ):
        with pytest.raises(UserError):
            make()
