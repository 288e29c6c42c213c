"""Linear probe and nearest neighbours on frozen features."""

import pytest
import torch
import torch.nn.functional as F

from rsvlm.metrics.probe import Probe, knn_scores, linear_probe

CLASSES = ["a", "b", "c"]


def clusters(n, seed, spread=0.4):
    """Three clouds in six dimensions."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=g)
    return torch.eye(3, 6)[labels] + spread * torch.randn(n, 6, generator=g), labels


def test_knn_votes_by_hand():
    train = F.normalize(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), dim=1)
    labels = torch.tensor([0, 1, 1])
    query = torch.tensor([[2.0, 0.0]])
    votes = knn_scores(train, labels, query, classes=3, k=2, temperature=0.5)
    expected = torch.tensor([[2.0, 1.6, -torch.inf]]).exp()
    torch.testing.assert_close(votes, expected)
    # All neighbours where there are fewer than k.
    votes = knn_scores(train, labels, query, classes=3, k=20, temperature=0.5)
    torch.testing.assert_close(votes[0, 1].log(), torch.tensor([1.6, 0.0]).logsumexp(0))


def test_knn_blocks_change_nothing():
    train, labels = clusters(200, 0)
    query, _ = clusters(50, 1)
    whole = knn_scores(train, labels, query, classes=3)
    # Other blocks are other kernels: a cosine may move by its last bit, 1.2e-7, which a temperature
    # of 0.07 makes 1.7e-6 of a vote. 1.9e-6 was measured with several threads.
    blocks = knn_scores(train, labels, query, classes=3, block=7)
    torch.testing.assert_close(blocks, whole, rtol=5e-6, atol=0)


def test_linear_probe_reaches_the_minimum_of_its_loss():
    """Full batches and 1,000 epochs come to where L-BFGS on the same loss does."""
    features, labels = clusters(300, 0)
    decay = 1e-2
    layer = linear_probe(features, labels, classes=3, weight_decay=decay)
    weight = torch.zeros(3, 7, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=500, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )
    wide = features.double()

    def objective():
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(wide, weight[:, :6], weight[:, 6]), labels)
        loss = loss + decay / 2 * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(objective)
    found = torch.cat((layer.weight, layer.bias[:, None]), dim=1).double()
    # Measured 3.4e-6; both are at the optimum of a strictly convex loss.
    torch.testing.assert_close(found, weight, atol=3e-5, rtol=0)


def test_the_start_follows_from_the_seed():
    features, labels = clusters(40, 0)
    args = {"classes": 3, "epochs": 2}
    one, same = (linear_probe(features, labels, **args) for _ in range(2))
    other = linear_probe(features, labels, seed=1, **args)
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)


@pytest.mark.parametrize("protocol", ["linear_probe", "knn"])
def test_probe_beats_chance_on_another_split(protocol):
    probe = Probe(CLASSES, protocol)
    with torch.inference_mode():  # as evaluation loops run it
        for seed, train in ((0, True), (1, False)):
            features, labels = clusters(150, seed)
            for rows in torch.arange(150).split(40):
                probe.update(features[rows], labels[rows], rows, train=train)
        # A padded sample counts once.
        probe.update(features[:3], labels[:3], torch.arange(3))
        found = probe.compute()
    assert float(found["top1"]) > 85 > probe.chance()["top1"]
    assert int(probe.confusion_matrix.sum()) == 150
    assert set(found) == {"top1", "top5", "mean_per_class"}


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="linear_probe or knn"):
        Probe(CLASSES, "svm")
    probe = Probe(CLASSES, "knn")
    with pytest.raises(ValueError, match="outside the 3 classes"):
        probe.update(torch.ones(1, 4), torch.tensor([3]), torch.tensor([0]))
    with pytest.raises(ValueError, match="not finite"):
        probe.update(torch.full((1, 4), torch.nan), torch.tensor([0]), torch.tensor([0]))
    probe.update(torch.ones(1, 4), torch.tensor([0]), torch.tensor([0]))
    with pytest.raises(ValueError, match="train split"):
        probe.compute()
