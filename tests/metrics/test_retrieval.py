"""Both retrieval protocols against a plain reimplementation, ties and duplicates included."""

import pytest
import torch
import torch.nn.functional as F
from largest_tensor import Largest

from rsvlm.metrics import Retrieval, chance_recall, text_keys
from rsvlm.metrics.ranking import rank_of_best


def brute_force(images, texts, owner, sentences, protocol):
    """Whole score matrix, stable sort, one query at a time."""
    ks = {"remoteclip": (1, 5, 10), "skyscript": (1, 5, 10, 100)}[protocol]
    owner = owner.tolist()
    if protocol == "remoteclip":
        rows = list(range(len(texts)))
        positives = [{i for i, o in enumerate(owner) if o == n} for n in range(len(images))]
        of_text = [{o} for o in owner]
    else:
        seen = list(dict.fromkeys(sentences))
        rows = [sentences.index(s) for s in seen]
        number = {s: i for i, s in enumerate(seen)}
        positives = [
            {number[s] for s, o in zip(sentences, owner, strict=True) if o == n}
            for n in range(len(images))
        ]
        of_text = [{o for s, o in zip(sentences, owner, strict=True) if s == w} for w in seen]
    # float64 sums of these float32 features are the same in any order of summation to well below
    # the gaps that the float32 path can resolve, and exact for the integer features of the tests.
    scores = images.double() @ texts[rows].double().T
    result = {}
    for way, table, wanted in (("i2t", scores, positives), ("t2i", scores.T, of_text)):
        order = table.argsort(dim=1, descending=True, stable=True).tolist()
        for k in ks:
            hits = [bool(set(o[:k]) & w) for o, w in zip(order, wanted, strict=True)]
            result[f"{way}_r{k}"] = 100 * sum(hits) / len(hits)
    mean = {w: [result[f"{w}_r{k}"] for k in (1, 5, 10)] for w in ("i2t", "t2i")}
    if protocol == "remoteclip":
        result["mean_recall"] = sum(mean["i2t"] + mean["t2i"]) / 6
    else:
        result |= {f"{w}_mean_recall": sum(v) / 3 for w, v in mean.items()}
    return result


def world(seed, *, images=37, width=8, coarse=False, vocabulary=60):
    """Images with 1 to 7 captions from a small vocabulary, so that sentences repeat."""
    g = torch.Generator().manual_seed(seed)
    counts = torch.randint(1, 8, (images,), generator=g)
    owner = torch.repeat_interleave(torch.arange(images), counts)
    which = torch.randint(vocabulary, (len(owner),), generator=g)
    if coarse:  # few distinct directions: whole groups of exact ties
        image_features = torch.randint(-1, 2, (images, width), generator=g).float()
        bank = torch.randint(-1, 2, (vocabulary, width), generator=g).float()
    else:
        image_features = F.normalize(torch.randn(images, width, generator=g), dim=-1)
        bank = F.normalize(torch.randn(vocabulary, width, generator=g), dim=-1)
    return image_features, bank[which], owner, [f"sentence {int(i)}" for i in which]


def feed(metric, data, batches):
    image_features, text_features, owner, sentences = data
    for rows in batches:
        mine = [t for t, o in enumerate(owner.tolist()) if o in rows]
        metric.update(
            image_features[rows],
            text_features[mine],
            torch.tensor([rows.index(int(owner[t])) for t in mine], dtype=torch.long),
            torch.tensor(rows),
            text_keys([sentences[t] for t in mine]),
        )
    return {name: float(value) for name, value in metric.compute().items()}


def in_batches(n, size):
    return [list(range(i, min(i + size, n))) for i in range(0, n, size)]


@pytest.mark.parametrize("protocol", ["remoteclip", "skyscript"])
@pytest.mark.parametrize("coarse", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_equals_brute_force(protocol, coarse, seed):
    data = world(seed, coarse=coarse)
    expected = brute_force(*data, protocol)
    for block in (1, 7, 1024):
        found = feed(Retrieval(protocol, block=block), data, in_batches(37, 5))
        # Counts of hits are equal; only the division differs, float64 on both sides.
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("protocol", ["remoteclip", "skyscript"])
def test_batches_order_and_padding_change_nothing(protocol):
    data = world(11, coarse=True)
    expected = feed(Retrieval(protocol), data, in_batches(37, 37))
    shuffled = torch.randperm(37, generator=torch.Generator().manual_seed(0)).tolist()
    padded = [shuffled[:20], shuffled[20:] + shuffled[:3]]
    assert feed(Retrieval(protocol, block=16), data, padded) == expected


def test_the_protocols_differ_on_a_shared_sentence():
    """Two images, one sentence: under remoteclip only one of them can have the first copy."""
    images = torch.eye(2)
    texts = torch.tensor([[1.0, 1.0], [1.0, 1.0]]) / 2**0.5
    args = images, texts, torch.tensor([0, 1]), torch.tensor([0, 1]), text_keys(["same", "same"])
    ours, theirs = Retrieval("remoteclip"), Retrieval("skyscript")
    ours.update(*args)
    theirs.update(*args)
    assert float(ours.compute()["i2t_r1"]) == 50
    assert float(theirs.compute()["i2t_r1"]) == 100
    assert ours.counts() == {"images": 2, "captions": 2, "sentences": 1}
    assert ours.chance()["i2t_r1"] == 50
    assert "mean_recall" not in theirs.compute()
    assert {"i2t_mean_recall", "t2i_mean_recall", "t2i_r100"} <= set(theirs.compute())


def test_collapsed_features_score_chance():
    n = 200
    metric = Retrieval("remoteclip", block=64)
    ones = F.normalize(torch.ones(n, 16), dim=-1)
    metric.update(
        ones, ones, torch.arange(n), torch.arange(n), text_keys([str(i) for i in range(n)])
    )
    found, chance = metric.compute(), metric.chance()
    for name in ("i2t_r1", "t2i_r5", "mean_recall"):
        assert float(found[name]) == pytest.approx(chance[name])


def test_never_holds_the_whole_score_matrix(monkeypatch):
    largest = 0
    real = torch.Tensor.__matmul__

    def watch(a, b):
        nonlocal largest
        product = real(a, b)
        largest = max(largest, product.numel())
        return product

    monkeypatch.setattr(torch.Tensor, "__matmul__", watch)
    data = world(2, images=300, vocabulary=2000)
    feed(Retrieval("remoteclip", block=32, examples=0), data, in_batches(300, 50))
    assert 0 < largest <= 32 * 32


@pytest.mark.parametrize("protocol", ["remoteclip", "skyscript"])
def test_memory_is_flat(protocol):
    """A hundredth of benchmarks/retrieval_memory.py and a four-hundredth: the same peak."""
    peaks = []
    for images in (250, 1000):
        metric = Retrieval(protocol, block=128, examples=0)
        draw = torch.Generator().manual_seed(0)
        for first in range(0, images, 50):
            owner = torch.arange(50).repeat_interleave(5)
            keys = torch.arange(first * 5, first * 5 + 250)
            features = torch.randn(50, 64, generator=draw), torch.randn(250, 64, generator=draw)
            metric.update(*features, owner, torch.arange(first, first + 50), keys)
        with Largest(least_dims=2) as largest:
            metric.compute()
        peaks.append(largest.found)
    assert peaks == [128 * 128] * 2


def test_a_sentence_with_many_copies_is_counted_in_pieces():
    columns = torch.eye(3)
    item_column = torch.tensor([0] * 50 + [1] + [2] * 50)
    pairs = torch.tensor([[0, 1], [50, 100]])
    queries = torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert rank_of_best(queries, columns, item_column, pairs, block=4).tolist() == [50, 49]


@pytest.mark.parametrize("protocol", ["remoteclip", "skyscript"])
def test_examples_agree_with_the_recalls(protocol):
    """With every image shown, the examples' ranks give the recalls of their queries."""
    data = world(3, images=20, vocabulary=25)
    metric = Retrieval(protocol, examples=20)
    found = feed(metric, data, in_batches(20, 6))
    by_text, by_image = metric.examples()
    assert [e.query for e in by_image] == [(i, 0) for i in range(20)]
    assert 100 * sum(e.rank <= 5 for e in by_image) / 20 == pytest.approx(found["i2t_r5"])
    assert [e.query for e in by_text] == [(i, 0) for i in range(20)]
    sentences, owner = data[3], data[2].tolist()
    own = {i: {s for s, o in zip(sentences, owner, strict=True) if o == i} for i in range(20)}
    first = [0, *data[2].bincount().cumsum(0).tolist()]
    for example in by_text + by_image:
        assert any(example.hits) == (example.rank <= 5)
        assert example.scores == sorted(example.scores, reverse=True)
    for example in by_text:
        asked = sentences[first[example.query[0]]]
        for (image, _), hit in zip(example.answers, example.hits, strict=True):
            expected = asked in own[image] if protocol == "skyscript" else image == example.query[0]
            assert hit == expected
    for example in by_image:
        for (image, place), hit in zip(example.answers, example.hits, strict=True):
            told = sentences[first[image] + place]
            mine = example.query[0]
            assert hit == (told in own[mine] if protocol == "skyscript" else image == mine)


def test_chance_is_what_random_rankings_score():
    metric = Retrieval("skyscript")
    data = world(5, images=60, vocabulary=150)
    feed(metric, data, in_batches(60, 60))
    owner, sentences = data[2:]
    total = {}
    rounds = 60
    for seed in range(rounds):
        g = torch.Generator().manual_seed(seed)
        bank = {s: torch.randn(64, generator=g) for s in dict.fromkeys(sentences)}
        noise = torch.stack([bank[s] for s in sentences])
        once = brute_force(torch.randn(60, 64, generator=g), noise, owner, sentences, "skyscript")
        for name, value in once.items():
            total[name] = total.get(name, 0) + value / rounds
    for name, value in metric.chance().items():
        # 60 rounds of 60 or more queries, a standard error of at most 0.84 points.
        assert total[name] == pytest.approx(value, abs=3)


def test_chance_of_rsicd_by_hand():
    # 1,093 images with five captions each: 1 - C(5460, 1) / C(5465, 1).
    assert chance_recall(5465, torch.full((1093,), 5), k=1) == pytest.approx(500 / 5465)
    assert chance_recall(1093, torch.ones(5465), k=10) == pytest.approx(1000 / 1093)
    assert chance_recall(3, torch.tensor([1, 3]), k=5) == 100


def test_prompt_and_keys():
    assert Retrieval("skyscript").prompt("a pond.") == "a satellite image. a pond."
    assert Retrieval("skyscript", prefix="").prompt("a pond.") == "a pond."
    assert Retrieval("remoteclip").prompt("a Big pond.") == "A big pond."
    assert Retrieval("rs5m").prompt("a Big pond.") == "a Big pond."
    assert text_keys(["a", "b", "a"]).unique().numel() == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_features": torch.ones(2, 5)}, r"\[b, D\] and \[t, D\]"),
        ({"image_of_text": torch.tensor([0, 7])}, "rows within the batch"),
        ({"image_features": torch.full((2, 4), torch.nan)}, "not finite"),
        ({"image_index": torch.tensor([1])}, r"image_index"),
        ({"text_keys": None}, "give text_keys"),
    ],
)
def test_bad_batches_say_what_is_wrong(change, message):
    batch = {
        "image_features": torch.ones(2, 4),
        "text_features": torch.ones(2, 4),
        "image_of_text": torch.tensor([0, 1]),
        "image_index": torch.tensor([0, 1]),
        "text_keys": torch.tensor([3, 4]),
    }
    with pytest.raises(ValueError, match=message):
        Retrieval("skyscript").update(**(batch | change))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_images_without_captions_and_empty_metrics_are_errors():
    metric = Retrieval()
    with pytest.raises(ValueError, match="no images were given"):
        metric.compute()
    metric.update(torch.eye(2), torch.eye(2)[:1], torch.tensor([0]), torch.tensor([4, 9]))
    with pytest.raises(RuntimeError, match="after compute"):
        metric.chance()
    with pytest.raises(ValueError, match="1 images have no caption"):
        metric.compute()
    with pytest.raises(ValueError, match="choose one of"):
        Retrieval("coco")
