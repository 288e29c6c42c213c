"""How good frozen features are: a linear layer on them, and their nearest neighbours.

Both as RemoteCLIP (TGRS 2024, section IV) sets them; the code is ITRA's
(`itra/evaluation/linear_eval.py`, ccf87ed). One thing differs: ITRA reports the best epoch on the
test set, which is a choice made with the answers; ours reports the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsvlm.metrics.gather import GatherMetric
from rsvlm.metrics.ranking import exact_float32, first_of_each
from rsvlm.metrics.zeroshot import Accuracy


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    *,
    classes: int,
    epochs: int = 1000,
    lr: float = 0.8,
    weight_decay: float = 4e-5,
    momentum: float = 0.9,
    batch: int = 10_000,
    seed: int = 0,
) -> nn.Linear:
    """Fits one linear layer by cross-entropy; SGD, cosine by epoch, rows in their order.

    Args:
        train_features: [n, D], as the encoder gives them (RemoteCLIP's are not normalised).
        train_labels: [n] long.
        classes: number of outputs.
        epochs: passes over the features.
        lr: first learning rate; the last is zero.
        weight_decay: on weights and biases alike.
        momentum: of SGD.
        batch: rows per step.
        seed: of the initial weights (normal, 0.01).

    Returns:
        The layer, on the features' device.
    """
    # Metrics compute without gradients, and evaluation loops in inference mode, whose tensors
    # autograd refuses; the fit needs its own copies.
    with torch.inference_mode(False), torch.enable_grad():
        features = train_features.detach().float().clone()
        labels = train_labels.long().clone()
        layer = nn.Linear(features.shape[1], classes, device=features.device)
        _fit(layer, features, labels, epochs, lr, weight_decay, momentum, batch, seed)
    return layer


def _fit(
    layer: nn.Linear,
    features: Tensor,
    labels: Tensor,
    epochs: int,
    lr: float,
    weight_decay: float,
    momentum: float,
    batch: int,
    seed: int,
) -> None:
    # Drawn on the CPU, so that every device starts at the same weights.
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(layer.weight.shape, generator=generator) * 0.01
    with torch.no_grad():
        layer.weight.copy_(start)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(
        layer.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows, target in zip(features.split(batch), labels.split(batch), strict=True):
            optimizer.zero_grad()
            F.cross_entropy(layer(rows), target).backward()
            optimizer.step()
        scheduler.step()


def knn_scores(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    *,
    classes: int,
    k: int = 20,
    temperature: float = 0.07,
    block: int = 1024,
) -> Tensor:
    """Votes of the nearest training features: each gives exp(cosine / temperature) to its class.

    Args:
        train_features: [n, D].
        train_labels: [n] long.
        features: [m, D].
        classes: number of classes.
        k: neighbours; all where there are fewer.
        temperature: of the weights.
        block: rows of `features` compared at a time.

    Returns:
        [m, classes].
    """
    bank = F.normalize(train_features.float(), dim=1)
    found = []
    for rows in F.normalize(features.float(), dim=1).split(block):
        near = (rows @ bank.T).topk(min(k, len(bank)), dim=1)
        votes = torch.zeros(len(rows), classes, device=rows.device)
        votes.scatter_add_(1, train_labels[near.indices].long(), (near.values / temperature).exp())
        found.append(votes)
    return torch.cat(found)


class Probe(GatherMetric):
    """Fits on one split's features and reports accuracy on another's.

    Formula: top1, the share of test samples given their own class by the fitted layer, or by their
    neighbours' vote. Range: 0 to 100 per cent. Higher is better. Protocols: linear_probe, knn. Used
    in: RemoteCLIP's linear probing and k-NN tables.

    Args:
        classes: class names, in the order of the labels.
        protocol: `linear_probe` or `knn`.
        options: of `linear_probe` or `knn_scores`, other than features, labels and classes.
        kwargs: of `torchmetrics.Metric`.
    """

    higher_is_better = True

    train_features: list[Tensor]
    train_labels: list[Tensor]
    train_index: list[Tensor]
    test_features: list[Tensor]
    test_labels: list[Tensor]
    test_index: list[Tensor]

    def __init__(
        self,
        classes: Sequence[str],
        protocol: Literal["linear_probe", "knn"] = "linear_probe",
        *,
        options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if protocol not in ("linear_probe", "knn"):
            raise ValueError(f"protocol {protocol!r} is unknown; choose linear_probe or knn.")
        states = {
            f"{part}_{name}": name == "features"
            for part in ("train", "test")
            for name in ("features", "labels", "index")
        }
        super().__init__(states, **kwargs)
        self.protocol = protocol
        self.options = dict(options or {})
        self._score: Callable[[Tensor], Tensor] | None = None
        # Every rank holds all rows when this one counts: it must not add the ranks up.
        self.accuracy = Accuracy(classes, sync_on_compute=False)

    def update(
        self, features: Tensor, labels: Tensor, index: Tensor, *, train: bool = False
    ) -> None:
        """Adds a batch of either split; a sample that comes twice counts once.

        Args:
            features: [b, D].
            labels: [b] long, positions in `classes`.
            index: [b], the sample's position in its data set.
            train: whether the batch is of the split that is fitted.

        Raises:
            ValueError: a label outside the class list, or features that are not finite.
        """
        self.accuracy.check_labels(labels, len(features))
        if not bool(features.isfinite().all()):
            raise ValueError("features are not finite.")
        part = "train" if train else "test"
        getattr(self, f"{part}_features").append(features.detach().float())
        getattr(self, f"{part}_labels").append(labels.long())
        getattr(self, f"{part}_index").append(index.long())

    def compute(self) -> dict[str, Tensor]:
        """Fits, and gives `top1`, `top5`, `mean_per_class` in per cent on the other split."""
        train, train_labels = self._split("train")
        test, test_labels = self._split("test")
        classes = len(self.accuracy.classes)
        with exact_float32(train.device):
            if self.protocol == "knn":

                def score(rows: Tensor) -> Tensor:
                    votes = knn_scores(train, train_labels, rows, classes=classes, **self.options)
                    return votes.log()  # so that their softmax are the votes' shares

            else:
                layer = linear_probe(train, train_labels, classes=classes, **self.options)

                def score(rows: Tensor) -> Tensor:
                    return layer(rows.float()).detach()

            scores = score(test)
        self._score = score
        self.accuracy.to(scores.device).reset()
        self.accuracy.update(scores, test_labels)
        return self.accuracy.compute()

    def scores(self, features: Tensor) -> Tensor:
        """[n, classes] logits of other features [n, D], by what the last `compute` has fitted.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._score is None:
            raise RuntimeError("scores are there after compute; call that first.")
        return self._score(features)

    @property
    def confusion_matrix(self) -> Tensor:
        """[classes, classes] of the last `compute`: row true, column predicted."""
        return self.accuracy.confusion_matrix

    def chance(self) -> dict[str, float]:
        """What a uniform guess is expected to score."""
        return self.accuracy.chance()

    def _split(self, part: str) -> tuple[Tensor, Tensor]:
        features, labels = self.held(f"{part}_features"), self.held(f"{part}_labels")
        index = self.held(f"{part}_index")
        if features is None or labels is None or index is None:
            flag = "train=True" if part == "train" else "train=False"
            raise ValueError(f"no features of the {part} split: call update(..., {flag}) first.")
        keep = first_of_each(index)[1]
        return features[keep], labels[keep]
