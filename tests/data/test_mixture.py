"""A mixture's shares are exact, its places pure, and a restart in an epoch changes nothing."""

import csv
from collections import Counter

import numpy as np
import pytest
import torch

from rsvlm.data.loading.mixture import Mixture
from rsvlm.data.loading.sampler import BatchSampler
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample
from rsvlm.data.transforms import Squash
from rsvlm.errors import UserError


class Part:
    """`n` samples that say who they are."""

    def __init__(self, split, word, n):
        self.split, self.word, self.n = split, word, n
        self.problems = [f"{word} is made up"]

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        meta = {"id": f"{self.split}-{self.word}-{index}", "dataset": self.word}
        image = torch.full((3, 2, 2), index % 256, dtype=torch.uint8)
        return Sample([image], texts=[f"{self.word} {index}"], label=1, meta=meta)


def part(word, n):
    return lambda split: Part(split, word, n)


def mixture(split="train", sizes=(("a", 10), ("b", 100), ("c", 1000)), **options):
    return Mixture({word: part(word, n) for word, n in sizes}, split, **options)


def ids(data, epoch):
    return [data.at(epoch, i).meta["id"] for i in range(len(data))]


def test_shares_are_exact():
    assert mixture().quota(0) == {"a": 10, "b": 100, "c": 1000}
    assert mixture(temperature=1e9, length=300).quota(5) == {"a": 100, "b": 100, "c": 100}
    half = mixture(temperature=2.0, length=1000).quota(0)
    roots = np.sqrt([10, 100, 1000])
    assert sum(half.values()) == 1000
    assert np.abs(np.array(list(half.values())) - 1000 * roots / roots.sum()).max() < 1
    weighed = mixture(weights={"a": 1, "c": 3}, length=40)
    assert weighed.quota(0) == {"a": 10, "b": 0, "c": 30}
    seen = Counter(weighed.at(0, i).meta["source"] for i in range(40))
    assert seen == {"a": 10, "c": 30}
    odd = mixture(weights={"a": 1, "b": 1, "c": 1}, length=100).quota(0)
    assert sorted(odd.values()) == [33, 33, 34]


def test_everything_is_seen_before_anything_is_seen_again():
    data = mixture(weights={"a": 1, "b": 1}, length=46)  # 23 of each
    shown = {"a": Counter(), "b": Counter()}
    for epoch in range(10):
        for name in ids(data, epoch):
            shown[name.split("-")[1]][name] += 1
    for word, size in (("a", 10), ("b", 100)):
        counts = shown[word].values()
        assert sum(counts) == 230 and len(counts) == size
        assert max(counts) - min(counts) <= 1
    first, second = ids(data, 0)[:10], ids(data, 0)[10:20]
    assert sorted(first) == sorted(second) and first != second  # passes have their own order


def test_places_are_pure_functions_of_seed_epoch_and_index():
    keys = [(epoch, i) for epoch in (3, 0, 7) for i in (0, 45, 19)]
    options = {"weights": {"a": 1, "b": 2}, "length": 46}
    first = [mixture(**options).place(*key) for key in keys]
    data = mixture(**options)
    assert [data.place(*key) for key in reversed(keys)] == first[::-1]
    other = mixture(**options, seed=1)
    assert [other.place(*key) for key in keys] != first
    sample = data.at(0, 3)
    assert sample.label is None and sample.meta["source"] == "a" and data[3].texts == sample.texts
    with pytest.raises(IndexError):
        data.place(0, 46)


def test_stages_follow_each_other_without_losing_the_thread():
    stages = [
        {"epochs": 2, "weights": {"a": 1}},
        {"epochs": 1, "weights": {"a": 1, "b": 1}},
        {"temperature": 1e9},
    ]
    data = mixture(stages=stages, length=6)
    assert [tuple(data.quota(e).values()) for e in range(5)] == [
        (6, 0, 0),
        (6, 0, 0),
        (3, 3, 0),
        (2, 2, 2),
        (2, 2, 2),
    ]
    order = [name for e in range(4) for name in ids(data, e) if "-a-" in name]
    assert len(order) == 17 and len(set(order[:10])) == 10
    assert len(set(order[10:])) == 7  # the second pass goes on through the stages
    with pytest.raises(UserError, match="one stage"):
        _ = data.source_sizes
    assert "stage 3, to the end" in data.table()


def test_evaluation_holds_all_of_every_part():
    data = mixture("test", weights={"a": 1}, length=3)
    assert len(data) == 1110
    assert ids(data, 0) == ids(data, 9)
    assert ids(data, 0)[:11] == [*(f"test-a-{i}" for i in range(10)), "test-b-0"]
    renamed = mixture("test", splits={"a": "testing"})
    assert ids(renamed, 0)[0] == "testing-a-0" and ids(renamed, 0)[10] == "test-b-0"
    by_stage = {"a": {"train": "trainval"}, "b": {"test": "test_2"}}
    assert ids(mixture("test", splits=by_stage), 0)[10] == "test_2-b-0"
    assert ids(mixture("train", splits=by_stage), 0)[0].startswith("trainval-a-")
    assert data.problems == ["a: a is made up", "b: b is made up", "c: c is made up"]


@pytest.mark.parametrize("order", ["shuffled", "grouped"])
def test_a_restart_in_the_middle_of_an_epoch_goes_on_alike(order):
    data = mixture(weights={"a": 2, "b": 1, "c": 1}, length=64)

    def run(start_epoch, start, epochs):
        view = TransformedDataset(data, Squash(2), seed=4, training=True)
        sampler = BatchSampler(
            len(data), 8, seed=4, order=order, sizes=data.source_sizes, rank=1, world=2
        )
        sampler.start = start
        for epoch in range(start_epoch, epochs):
            sampler.set_epoch(epoch)
            for keys in sampler:
                yield [(view[key].sample.meta["id"], view[key].sample.texts[0]) for key in keys]

    whole = list(run(0, 0, 3))
    assert len(whole) == 24
    assert list(run(1, 5, 3)) == whole[13:]
    assert {len(batch) for batch in whole} == {4}


def test_grouped_batches_have_one_source():
    data = mixture(weights={"a": 2, "b": 1, "c": 1}, length=70)
    sampler = BatchSampler(70, 8, order="grouped", sizes=data.source_sizes, seed=2)
    sampler.set_epoch(1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 35 // 8 + 17 // 8 + 18 // 8
    sources = []
    for keys in batches:
        found = {data.at(*key).meta["source"] for key in keys}
        assert len(found) == 1
        sources += found
    assert sources != sorted(sources)  # the batches are shuffled
    assert len({key for keys in batches for key in keys}) == 8 * len(batches)
    with pytest.raises(ValueError, match="source_sizes"):
        BatchSampler(70, 8, order="grouped")
    with pytest.raises(ValueError, match="no source has the 64"):
        BatchSampler(70, 64, order="grouped", sizes=data.source_sizes)


def test_counts_are_those_of_the_places():
    data = mixture(weights={"a": 2, "b": 1, "c": 1}, length=64)
    sampler = BatchSampler(64, 8, seed=3)
    shown = sampler.ordered(2)[:24]
    counts = data.counts(2, shown)
    assert sum(counts.values()) == 24
    assert counts == dict.fromkeys("abc", 0) | Counter(data.place(2, int(i))[0] for i in shown)
    assert data.counts(2) == {"a": 32, "b": 16, "c": 16}
    table = data.table()
    assert "64 places" in table and "50.0% of an epoch" in table and "3.20 passes" in table


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sizes": ()}, "needs parts"),
        ({"sizes": (("a", 0), ("b", 3))}, "without samples.*a"),
        ({"weights": {"aa": 1}}, "Did you mean|Known"),
        ({"weights": {"a": -1, "b": 2}}, "at least 0"),
        ({"weights": {"a": 0}}, "at least 0"),
        ({"temperature": 0.5e-9 - 1}, "greater than 0"),
        ({"length": 0}, "at least one place"),
        ({"stages": [{"weights": {"a": 1}}, {}]}, "every stage but the last"),
        ({"stages": [{"wieghts": {"a": 1}}]}, "not wieghts"),
        ({"stages": [{}], "temperature": 2.0}, "not both"),
        ({"splits": {"x": "y"}}, "no part"),
    ],
)
def test_unusable_options_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        mixture(**options)


def test_a_cache_cannot_hold_a_mixture():
    with pytest.raises(UserError, match="cannot hold a mixture"):
        TransformedDataset(mixture(), Squash(2), training=True, cache="decoded", cache_size=2)


class Killed(BaseException):
    """Stands for a signal."""


def test_a_killed_run_ends_alike_and_its_sources_are_counted(compose, monkeypatch, tmp_path):
    from rsvlm.app import run
    from rsvlm.lit.contrastive import Contrastive

    words = ["data=scenes_mixture", "evaluation=none", "trainer=cpu", "logger=csv"]
    words += ["trainer.max_epochs=2", "trainer.save_every=1", "trainer.limit_val_batches=0"]
    words += ["data.batch_size=6", "data.workers=0", "data.dataset.length=12", "seed=3"]
    words += [f"data.dataset.parts.{p}.size=32" for p in ("captions", "questions", "places")]
    words += ["data.dataset.stages=[{epochs:1,weights:{captions:1}},{temperature:1000}]"]
    run.fit(compose("train", words), tmp_path / "whole", overrides=[])
    with monkeypatch.context() as patch:
        before = Contrastive.on_train_batch_start

        def stop(self, *args, **kwargs):
            if self.global_step == 3:
                raise Killed
            return before(self, *args, **kwargs)

        patch.setattr(Contrastive, "on_train_batch_start", stop)
        with pytest.raises(Killed):
            run.fit(compose("train", words), tmp_path / "killed", overrides=[])
    resume = [f"resume={tmp_path / 'killed'}"]
    run.fit(compose("train", resume), overrides=resume)
    whole, killed = (
        torch.load(tmp_path / folder / "last.ckpt", weights_only=True)["state_dict"]
        for folder in ("whole", "killed")
    )
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    for folder in ("whole", "killed"):
        with (tmp_path / folder / "metrics.csv").open() as file:
            rows = [row for row in csv.reader(file) if row[1].startswith("sources/")]
        found = {(row[0], row[1]): float(row[2]) for row in rows}
        assert found["2", "sources/captions"] == 12 and found["2", "sources/places"] == 0
        assert found["4", "sources/captions"] == 4 and found["4", "sources/places"] == 4
