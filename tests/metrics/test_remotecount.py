"""Captions with another number, and the counts of what fits best."""

import pytest
import torch

from rsvlm.metrics.remotecount import NUMBERS, RemoteCount, count_prompts


def test_prompts():
    prompts, number = count_prompts("there are three planes.")
    assert number == 3
    assert prompts[0] == "there are one planes."
    assert prompts[9] == "there are ten planes."
    prompts, number = count_prompts("Seven courts by the road", digits=True)
    assert (prompts[6], number) == ("7 courts by the road", 7)
    prompts, number = count_prompts("Seven courts by the road")
    assert (prompts[1], number) == ("Two courts by the road", 7)
    prompts, number = count_prompts("10 ships (in a harbour)")
    assert (prompts[2], number) == ("three ships (in a harbour)", 10)


def test_numbers_inside_other_words_do_not_count():
    assert count_prompts("someone parked two cars, often")[1] == 2
    assert count_prompts("4 tanks at 0.5 m and 12 roads")[1] == 4
    for caption, what in (("many planes", "no number"), ("two cars and 3 vans", "2 numbers")):
        with pytest.raises(ValueError, match=what):
            count_prompts(caption)


def test_counts_by_hand():
    metric = RemoteCount()
    text = torch.eye(10).repeat(3, 1, 1)
    image = torch.zeros(3, 10)
    image[0, 4] = 1  # says five
    image[1, [0, 1]] = torch.tensor([0.9, 0.8])  # says one, two is second
    # The third is equally far from all, so that the smaller numbers come first.
    metric.update(image, text, torch.tensor([5, 2, 10]))
    found = metric.compute()
    assert float(found["top1"]) == pytest.approx(100 / 3)
    assert float(found["top2"]) == pytest.approx(200 / 3)
    assert float(found["top9"]) == pytest.approx(200 / 3)
    assert float(found["top10"]) == 100
    assert metric.confusion_matrix[1, 0] == 1 and metric.confusion_matrix[4, 4] == 1
    assert metric.chance()["top3"] == 30
    assert len(NUMBERS) == len(found) == 10


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_says_what_is_wrong():
    metric = RemoteCount("remotecount_digits")
    assert metric.prompts("two cars")[0][2] == "3 cars"
    with pytest.raises(ValueError, match=r"\[2, 10, 4\]"):
        metric.update(torch.ones(2, 4), torch.ones(2, 9, 4), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="number 11"):
        metric.update(torch.ones(1, 4), torch.ones(1, 10, 4), torch.tensor([11]))
    with pytest.raises(ValueError, match="remotecount_digits"):
        RemoteCount("digits")
    with pytest.raises(ValueError, match="no images"):
        metric.compute()
