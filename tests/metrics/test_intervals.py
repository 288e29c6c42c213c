"""Intervals: against a formula, in pairs, and the same numbers as the metrics they belong to."""

import math

import numpy as np
import pytest
import torch

from rsvlm.errors import UserError
from rsvlm.metrics.binary import Binary, binary_statistics
from rsvlm.metrics.captions.metric import Captions
from rsvlm.metrics.change import ChangeCaptions, ChangeCounts, ChangeFlags, ChangeLocations
from rsvlm.metrics.classification import classification_statistics
from rsvlm.metrics.grounding import Detection, Grounding
from rsvlm.metrics.intervals import all_images, bootstrap, means, of_images, paired
from rsvlm.metrics.judge_scores import Judged
from rsvlm.metrics.region_recognition import Naming
from rsvlm.metrics.vqa import VQA
from rsvlm.metrics.zeroshot import Accuracy


def bernoulli(p, count, seed):
    return (np.random.default_rng(seed).random(count) < p).astype(float)


@pytest.mark.parametrize(("p", "count"), [(0.5, 400), (0.8, 1000), (0.93, 2000)])
def test_an_accuracy_of_bernoulli_draws_has_the_interval_of_its_formula(p, count):
    hits = bernoulli(p, count, 1)
    found = bootstrap([means(range(count), {"top1": hits})], times=2000, seed=3)["top1"]
    share = hits.mean()
    half = 100 * 1.96 * math.sqrt(share * (1 - share) / count)
    # Quantiles of 2,000 samples: within 6 per cent of the interval's width.
    assert found["low"] == pytest.approx(100 * share - half, abs=0.12 * half)
    assert found["high"] == pytest.approx(100 * share + half, abs=0.12 * half)
    assert (found["level"], found["bootstrap"], found["seed"]) == (95, 2000, 3)


def test_questions_of_one_image_are_drawn_together():
    """Five questions that are right or wrong as one give no narrower interval than the image."""
    hits = bernoulli(0.7, 300, 2)
    one = bootstrap([means(range(300), {"oa": hits})], times=800, seed=0)["oa"]
    images = np.repeat(np.arange(300), 5)
    five = bootstrap([means(images, {"oa": np.repeat(hits, 5)})], times=800, seed=0)["oa"]
    assert five == pytest.approx(one)
    apart = bootstrap([means(range(1500), {"oa": np.repeat(hits, 5)})], times=800, seed=0)["oa"]
    assert apart["high"] - apart["low"] < 0.6 * (one["high"] - one["low"])


def test_seeds_repeat_and_differ():
    statistics = [means(range(50), {"oa": bernoulli(0.5, 50, 1)})]
    first, again, other = (bootstrap(statistics, times=50, seed=s) for s in (1, 1, 2))
    assert first == again != other
    with pytest.raises(UserError, match=r"evaluation\.bootstrap=5: .*at least 20; try 1000"):
        bootstrap(statistics, times=5)


def test_in_pairs_a_planted_difference_is_found_and_none_where_there_is_none():
    draw = np.random.default_rng(0)
    hard = draw.random(600)
    base = (draw.random(600) > hard).astype(float)
    better = np.where(draw.random(600) < 0.06, 1.0, base)  # some more are right
    same = base.copy()
    swapped = draw.permutation(600)[:40]
    same[swapped] = draw.permutation(same[swapped])  # as many are right, others

    def of(hits):
        return [means(range(600), {"oa": hits})]

    found, images = paired(of(base), of(better), times=1000)
    assert images == 600 and found["oa"]["low"] > 0
    assert found["oa"]["difference"] == pytest.approx(100 * (better - base).mean())
    none, _ = paired(of(base), of(same), times=1000)
    assert none["oa"]["low"] <= 0 <= none["oa"]["high"]
    # Unpaired, the two intervals overlap: pairs are what finds it.
    a, b = (bootstrap(of(hits), times=1000)["oa"] for hits in (base, better))
    assert a["high"] > b["low"]


def test_pairs_are_of_the_images_that_both_have():
    first = [means(range(10), {"oa": np.ones(10)})]
    second = [means(range(5, 15), {"oa": np.zeros(10)})]
    found, images = paired(first, second, times=30)
    assert images == 5 and found["oa"]["difference"] == -100
    with pytest.raises(UserError, match="no image in common"):
        paired(first, [means(range(20, 30), {"oa": np.ones(10)})], times=30)
    with pytest.raises(UserError, match="share no metric"):
        paired(first, [means(range(10), {"aa": np.ones(10)})], times=30)


def test_a_false_alarm_is_as_rare_as_the_level_says():
    draw, alarms = np.random.default_rng(4), 0
    for seed in range(200):
        hits = [(draw.random(150) < 0.6).astype(float) for _ in range(2)]
        found, _ = paired(*([means(range(150), {"oa": h})] for h in hits), times=200, seed=seed)
        alarms += not found["oa"]["low"] <= 0 <= found["oa"]["high"]
    assert alarms <= 20  # of 200 at 5 per cent; 20 has a chance of 1 in 1,000


GUESSES = ["a red house", "two cars on a road", "trees", "", "a pond near the house"]
REFERENCES = [
    ["a red house", "the house is red"],
    ["three cars on a road", "cars drive"],
    ["many trees", "a forest of trees"],
    ["a field"],
    ["a pond", "a lake near a house"],
]


def filled():
    """Metrics with their statistics; each must give the same value from the sums of all items."""
    for protocol in ("coco", "nltk", "token_ids", "rs_rag"):
        words = ["bleu1", "bleu2", "bleu4", "rouge_l"] + ["cider"] * (protocol != "nltk")
        captions = Captions(protocol, metrics=words)
        captions.update(GUESSES, REFERENCES, [0, 1, 2, 3, 4])
        yield captions
    change = ChangeCaptions("token_ids", metrics=["bleu4", "cider", "rouge_l"])
    change.update(GUESSES, REFERENCES, [0, 1, 2, 3, 4], [1, 1, 0, 0, 1])
    yield change
    vqa = VQA("any", "exact")
    vqa.update(["yes", "no", "2", "x"], ["yes", "yes", "2", "3"], ["presence"] * 2 + ["count"] * 2)
    yield vqa
    boxes = Grounding("rsvg")
    boxes.update([(0, 0, 9, 9), None, (1, 1, 5, 8)], [(0, 0, 10, 10), (0, 0, 4, 4), (0, 0, 6, 7)])
    yield boxes
    several = Detection()
    several.update([[(0, 0, 9, 9), (50, 50, 60, 60)], []], [[(0, 0, 10, 10)], [(1, 1, 4, 4)]])
    yield several
    names = Naming("same")
    names.update(["a ship", "car", "car"], ["ship", "car", "truck"], ["ship", "car", "truck"])
    yield names
    judged = Judged()
    judged.update([1.0, 0.5, 0.0], ["a", "a", "b"])
    yield judged
    flags = ChangeFlags("yes_no")
    flags.update(["yes", "no", "yes", "hm", "no"], [1, 0, 0, 1, 1])
    yield flags
    counts = ChangeCounts("robust")
    counts.update(["3 roads", "no change", "?"], [(2, 1), (0, 0), (1, 4)])
    yield counts
    where = ChangeLocations("robust")
    where.update(["roads: top-left", "nothing"], [(["top-left", "top-center"], []), ([], [])])
    yield where


@pytest.mark.parametrize("number", range(13))
def test_the_value_of_all_items_is_the_metrics_own(number):
    metric = list(filled())[number]
    values = {word: float(value) for word, value in metric.compute().items()}
    found = metric.statistics()
    found = found if isinstance(found, list) else [found]
    again = of_images(found, all_images(found))
    assert set(again) == set(values)
    for word, value in values.items():
        assert again[word] == pytest.approx(value, rel=1e-9, abs=1e-9), word
    bounds = bootstrap(found, times=100)
    for word in values:
        assert not bounds[word]["low"] > bounds[word]["high"]


def test_classification_and_binary_from_their_scores():
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(40, 6, generator=draw), torch.randint(0, 6, (40,), generator=draw)
    metric = Accuracy(list("abcdef"))
    metric.update(scores, labels)
    found = classification_statistics(range(40), scores.numpy(), labels.numpy())
    again = of_images(found, range(40))
    assert again == pytest.approx({w: float(v) for w, v in metric.compute().items()})
    cosines = torch.tanh(scores)
    binary = Binary(list("abcdef"))
    binary.update(cosines, labels)
    again = of_images(binary_statistics(range(40), cosines, labels), range(40))
    assert again == pytest.approx({w: float(v) for w, v in binary.compute().items()})


@pytest.mark.slow  # its program takes seconds to start
def test_meteors_corpus_score_comes_from_sums(tmp_path):
    from rsvlm.metrics.captions import meteor

    if meteor.missing():
        pytest.skip(meteor.missing())
    corpus, each, rows = meteor.shared().measure(GUESSES, REFERENCES)
    assert float(meteor.of_sums(rows.sum(0))) == pytest.approx(corpus, abs=1e-12)
    assert meteor.of_sums(rows).tolist() == pytest.approx(each, abs=1e-12)


def test_ciders_document_frequencies_are_those_of_the_whole_set():
    metric = Captions("token_ids", metrics=["cider"])
    metric.update(GUESSES, REFERENCES, [0, 1, 2, 3, 4])
    metric.compute()
    each = metric.per_image["cider"].tolist()
    part = of_images(metric.statistics(), [0, 1])["cider"]
    assert part == pytest.approx(sum(each[:2]) / 2)
    alone = Captions("token_ids", metrics=["cider"])
    alone.update(GUESSES[:2], REFERENCES[:2], [0, 1])
    assert part != pytest.approx(float(alone.compute()["cider"]))
