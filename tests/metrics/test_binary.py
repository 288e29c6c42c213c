"""SkyScript's binary mode against its own definition, one threshold at a time."""

import numpy as np
import pytest
import torch

from rsvlm.metrics.binary import THRESHOLDS, Binary


def plain(cosines, true):
    """Best F1 and what goes with it, by counting."""
    best = (0.0, 0.0, 0.0)
    for threshold in np.linspace(-1, 1, THRESHOLDS):
        told = cosines >= threshold
        hit = float((told & true).sum())
        precision = (hit + 1e-9) / (told.sum() + 1e-9)
        recall = (hit + 1e-9) / (true.sum() + 1e-9)
        f1 = 2 * precision * recall / (precision + recall + 1e-9)
        if f1 > best[0]:
            best = (f1, precision, recall)
    return best


@pytest.mark.parametrize("classes", [1, 3])
def test_each_class_takes_its_best_threshold(classes):
    draw = np.random.RandomState(classes)
    cosines = draw.uniform(-0.4, 0.6, (60, classes))
    labels = draw.randint(-1, classes, 60)
    metric = Binary([f"c{i}" for i in range(classes)])
    for rows in np.array_split(np.arange(60), 4):
        metric.update(torch.tensor(cosines[rows]), torch.tensor(labels[rows]))
    found = metric.compute()
    expected = np.mean([plain(cosines[:, c], labels == c) for c in range(classes)], axis=0)
    for name, value in zip(("f1", "precision", "recall"), expected, strict=True):
        assert float(found[name]) == pytest.approx(100 * value, abs=1e-9)
    # The published 1e-9 in each divisor moves the value by as much.
    assert float(found["f1"]) > metric.chance()["f1"] - 1e-6


def test_a_class_that_no_image_has_does_not_count():
    metric = Binary(["there", "nowhere"])
    metric.update(torch.tensor([[0.9, 0.9], [0.1, 0.9]]), torch.tensor([0, -1]))
    found = metric.compute()
    assert {name: float(value) for name, value in found.items()} == pytest.approx(
        {"f1": 100, "precision": 100, "recall": 100}
    )
    # Half of the images: yes to both is half right and finds all.
    assert metric.chance() == pytest.approx({"f1": 200 / 3, "precision": 50, "recall": 100})


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="at least one"):
        Binary([])
    metric = Binary(["a"])
    with pytest.raises(ValueError, match=r"must be \[2, 1\]"):
        metric.update(torch.ones(2, 2), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="label 1 is outside"):
        metric.update(torch.ones(1, 1), torch.tensor([1]))
    with pytest.raises(ValueError, match="not finite"):
        metric.update(torch.full((1, 1), torch.nan), torch.tensor([0]))
    metric.update(torch.ones(1, 1), torch.tensor([-1]))
    with pytest.raises(ValueError, match="no image of any"):
        metric.compute()
