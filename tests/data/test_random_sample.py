"""A seeded sample in the place of a data set."""

from functools import partial

import pytest

from rsvlm.data.loading.wrappers import RandomSample
from rsvlm.data.protocols import GivesCaptions, Sharded, attributes_of
from rsvlm.errors import UserError
from rsvlm.evaluation.base import facts_of


class Letters:
    name, split = "letters", "test"

    def __init__(self, split):
        self.entries = [f"{split}{n}" for n in range(20)]
        self.shard_sizes = [10, 10]

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return self.entries[index]

    def captions(self, index):
        return [self.entries[index]]


def test_a_sample_is_the_same_each_time_and_says_what_it_is():
    one, two, other = (RandomSample(Letters, 5, seed=seed) for seed in (0, 0, 1))
    assert list(one) == list(two) != list(other) and len(one) == 5
    assert one.entries == [one[n] for n in range(5)] == [one.captions(n)[0] for n in range(5)]
    assert isinstance(one, GivesCaptions) and not isinstance(one, Sharded)
    assert attributes_of(one).drawn == {"of": 20, "seed": 0} and one.name == "letters"
    assert facts_of(one).more == {"drawn": {"of": 20, "seed": 0}}
    assert one.positions == sorted(one.positions)


def test_other_splits_and_small_sets_are_whole():
    assert len(RandomSample(Letters, 5, split="train")) == 20
    assert attributes_of(RandomSample(Letters, 50)).drawn == {}
    assert len(partial(RandomSample, Letters, 3, splits=["val"])(split="val")) == 3
    with pytest.raises(UserError, match="limit=null for all"):
        RandomSample(Letters, 0)
