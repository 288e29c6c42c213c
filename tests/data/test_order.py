"""The order of data is a function of (seed, epoch), whatever the ranks, and nothing is lost."""

import numpy as np
import pytest

from rsvlm.data.loading.sampler import BatchSampler, permutation, rng


def keys(**options):
    sampler = BatchSampler(**options)
    sampler.set_epoch(options.pop("epoch", 0))
    return list(sampler)


def test_rng_is_pure_and_differs_by_each_argument():
    first = rng(1, 2, 3).random(4)
    assert np.array_equal(first, rng(1, 2, 3).random(4))
    for other in ((0, 2, 3), (1, 0, 3), (1, 2, 0), (2, 1, 3)):
        assert not np.array_equal(first, rng(*other).random(4))


def test_ranks_together_give_the_single_process_batch():
    one = keys(n=103, batch_size=12, seed=5)
    parts = [keys(n=103, batch_size=12, seed=5, rank=r, world=3) for r in range(3)]
    for batch, *shares in zip(one, *parts, strict=True):
        assert batch == [key for share in shares for key in share]
        assert {len(share) for share in shares} == {4}


def test_an_epoch_shows_no_sample_twice_and_epochs_differ():
    sampler = BatchSampler(50, 8, seed=1)
    epochs = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        shown = [key for batch in sampler for key in batch]
        assert all(key[0] == epoch for key in shown)
        assert len({i for _, i in shown}) == len(shown) == 48
        epochs.append([i for _, i in shown])
    assert epochs[0] != epochs[1] != epochs[2]
    assert sorted(permutation(1, 0, 50)) == list(range(50))


@pytest.mark.parametrize(("n", "batch", "world"), [(10, 4, 1), (10, 4, 2), (7, 7, 3), (5, 64, 4)])
def test_evaluation_shows_each_sample_once_with_equally_many_batches(n, batch, world):
    parts = [
        list(BatchSampler(n, batch, training=False, rank=r, world=world)) for r in range(world)
    ]
    assert len({len(part) for part in parts}) == 1
    assert all(len(share) > 0 for part in parts for share in part)
    assert sorted(i for part in parts for share in part for _, i in share) == list(range(n))


def test_start_skips_batches_once():
    whole = keys(n=40, batch_size=8)
    sampler = BatchSampler(40, 8)
    sampler.start = 3
    assert list(sampler) == whole[3:]
    assert list(sampler) == whole


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 100, "batch_size": 10, "world": 4}, "multiple"),
        ({"n": 5, "batch_size": 10}, "do not fill"),
        ({"n": 1, "batch_size": 10, "training": False, "world": 2}, "fewer"),
    ],
)
def test_impossible_batches_say_what_to_do(options, words):
    with pytest.raises(ValueError, match=words):
        BatchSampler(**options)
