"""The order of shards: a function of (seed, epoch) like any other, and near to how they lie."""

import numpy as np
import pytest

from rsvlm.data.loading.sampler import BatchSampler, blocked

SIZES = [30, 7, 0, 40, 23, 1, 50]


def test_every_sample_once_and_a_function_of_seed_and_epoch():
    order = blocked(3, 1, SIZES, 16)
    assert sorted(order) == list(range(sum(SIZES)))
    assert np.array_equal(order, blocked(3, 1, SIZES, 16))
    for other in ((4, 1), (3, 2)):
        assert not np.array_equal(order, blocked(*other, SIZES, 16))


def test_a_window_reaches_over_few_shards_and_mixes_them():
    sizes = [100] * 20
    order = blocked(0, 0, sizes, 200)
    for start in range(0, 2000, 200):
        window = order[start : start + 200]
        assert len(set(window // 100)) == 2
        # Two shards are interleaved: in one half of the window neither has more than three parts
        # of four (ten standard deviations of a fair draw).
        assert 25 < np.sum(window[:100] // 100 == window[0] // 100) < 75
    assert set(np.diff(order)) > {1}


def batches(**options):
    options = {"n": sum(SIZES), "batch_size": 12, "seed": 5} | options
    return list(BatchSampler(order="blocked", block=40, sizes=SIZES, **options))


def test_ranks_and_a_later_start_give_parts_of_one_order():
    one = batches()
    assert len(one) == sum(SIZES) // 12
    parts = [batches(rank=r, world=3) for r in range(3)]
    for batch, *shares in zip(one, *parts, strict=True):
        assert batch == [key for share in shares for key in share]
    sampler = BatchSampler(sum(SIZES), 12, seed=5, order="blocked", block=40, sizes=SIZES)
    sampler.start = 4
    assert list(sampler) == one[4:]
    assert list(sampler) == one


def test_the_default_order_is_what_it_was():
    first = next(iter(BatchSampler(50, 8, seed=1)))
    # Drawn with the code from before there was another order.
    assert [i for _, i in first] == [13, 8, 38, 44, 16, 40, 24, 34]
    assert first == next(iter(BatchSampler(50, 8, seed=1, order="shuffled", sizes=[20, 30])))
    evaluation = list(BatchSampler(50, 8, training=False, order="blocked"))
    assert evaluation == list(BatchSampler(50, 8, training=False))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"order": "blocks"}, "neither shuffled, blocked nor grouped"),
        ({"order": "blocked"}, "needs a data set with shard_sizes"),
        ({"order": "blocked", "sizes": [3, 4]}, "needs a data set with shard_sizes"),
        ({"order": "blocked", "sizes": [50], "block": 0}, r"data\.block="),
    ],
)
def test_impossible_orders_say_what_to_do(options, words):
    with pytest.raises(ValueError, match=words):
        BatchSampler(50, 8, **options)
