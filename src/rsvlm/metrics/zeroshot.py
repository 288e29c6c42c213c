"""Zero-shot classification by class prompts, with both published ways to average templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

Ensemble = Literal["normalised_mean", "mean"]
ENSEMBLES = ("normalised_mean", "mean")


def class_embeddings(text_features: Tensor, ensemble: Ensemble = "normalised_mean") -> Tensor:
    """One unit vector per class from the embeddings of its prompts.

    Args:
        text_features: [templates, classes, D] as `encode_text` gives them, not normalised.
        ensemble: `normalised_mean` brings each template's embedding to unit length, takes the mean
            and normalises again (open_clip; SkyScript `src/training/zero_shot.py`, b16d2e7);
            `mean` takes the mean of the raw embeddings (ITRA; GeoRSCLIP `inference_tool.py`,
            084cdd9), so that long embeddings weigh more.

    Returns:
        [classes, D], unit length.

    Raises:
        ValueError: an unknown rule, or features of another shape.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"ensemble {ensemble!r} is unknown; choose one of {ENSEMBLES}.")
    if text_features.ndim != 3:
        raise ValueError(
            f"text features {tuple(text_features.shape)} must be [templates, classes, D]."
        )
    text_features = text_features.float()
    if ensemble == "normalised_mean":
        text_features = F.normalize(text_features, dim=-1)
    return F.normalize(text_features.mean(dim=0), dim=-1)


class Accuracy(Metric):
    """Top-1, top-5 and per-class accuracy, in per cent, and the confusion matrix.

    Formula: topk, the share of samples whose class is among the k with the highest scores;
    mean_per_class, the mean over classes of the class's own top1. Range: 0 to 100 per cent. Higher
    is better. Protocols: skyscript, georsclip, remoteclip, normalised_mean, mean (the templates and
    their mean, see `ZeroShot`), linear_probe, knn. Used in: the zero-shot and probing tables of
    RemoteCLIP, GeoRSCLIP and SkyScript.

    Of classes with equal scores the earlier one counts as the better. Labels outside the class list
    are errors, and so is a set of no images.

    Args:
        classes: class names, in the order of the labels.
        kwargs: of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    within_five: Tensor

    def __init__(self, classes: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if len(classes) < 2 or len(set(classes)) != len(classes):
            raise ValueError(
                f"{len(classes)} class names, {len(set(classes))} of them distinct: "
                "classification needs at least two, all different."
            )
        self.classes = list(classes)
        count = len(self.classes)
        self._gathered: Tensor | None = None
        self.add_state("confusion", torch.zeros(count, count, dtype=torch.long), "sum")
        self.add_state("within_five", torch.zeros((), dtype=torch.long), "sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            scores: [b, classes], higher is better.
            labels: [b] long, positions in `classes`.

        Raises:
            ValueError: a label outside the class list.
        """
        count = len(self.classes)
        self.check_labels(labels, len(scores))
        order = scores.sort(dim=1, descending=True, stable=True).indices
        cells = labels.long() * count + order[:, 0]
        self.confusion += torch.bincount(cells, minlength=count * count).view(count, count)
        self.within_five += (order[:, :5] == labels[:, None]).sum()

    def check_labels(self, labels: Tensor, rows: int) -> None:
        """Raises a ValueError for labels that are not [rows] positions in the class list."""
        if labels.shape != (rows,):
            raise ValueError(f"labels {tuple(labels.shape)} must be [{rows}], one per image.")
        outside = labels[(labels < 0) | (labels >= len(self.classes))]
        if len(outside):
            raise ValueError(
                f"label {int(outside[0])} is outside the {len(self.classes)} classes; -1 marks a "
                "sample without a class: evaluate a data set whose classes are those of this "
                "metric."
            )

    def compute(self) -> dict[str, Tensor]:
        """Top-1, top-5 (all classes where there are fewer) and the mean over classes, per cent.

        Afterwards `confusion_matrix` and `per_class` hold what all ranks saw.
        """
        seen = self.confusion.sum()
        if not int(seen):
            raise ValueError("no images were given: call update before compute.")
        self._gathered = self.confusion.clone()
        per_class = self.per_class
        return {
            "top1": self.confusion.diagonal().sum().double() / seen * 100,
            "top5": self.within_five.double() / seen * 100,
            "mean_per_class": per_class[~per_class.isnan()].mean(),
        }

    @property
    def confusion_matrix(self) -> Tensor:
        """[true class, predicted class] counts of the last `compute`, over all ranks.

        Raises:
            RuntimeError: before the first `compute`.
        """
        if self._gathered is None:
            raise RuntimeError("confusion_matrix is there after compute; call that first.")
        return self._gathered

    @property
    def per_class(self) -> Tensor:
        """[classes] top-1 accuracy in per cent of each class's samples; NaN where there are none.

        Of the last `compute`, over all ranks.
        """
        matrix = self.confusion_matrix.double()
        return matrix.diagonal() / matrix.sum(1) * 100

    def chance(self) -> dict[str, float]:
        """What a uniform guess is expected to score."""
        count = len(self.classes)
        return {
            "top1": 100 / count,
            "top5": 100 * min(5, count) / count,
            "mean_per_class": 100 / count,
        }


class ZeroShot(Accuracy):
    """Classification by the nearest class embedding; counts as `Accuracy` does.

    Formula: the class with the highest cosine of image and class embedding, the class's being the
    mean of its templates' (`class_embeddings`). Range: 0 to 100 per cent. Higher is better.
    Protocols: skyscript, georsclip, remoteclip, normalised_mean, mean. Used in: the zero-shot
    tables of RemoteCLIP, GeoRSCLIP and SkyScript. Features that are not finite are errors.

    Args:
        classes: class names, in the order of the labels.
        ensemble: see `class_embeddings`; also the protocol's word in metric names.
        block: images scored at a time.
        kwargs: of `torchmetrics.Metric`.
    """

    embeddings: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        ensemble: Ensemble = "normalised_mean",
        *,
        block: int = 4096,
        **kwargs: Any,
    ) -> None:
        super().__init__(classes, **kwargs)
        if ensemble not in ENSEMBLES:
            raise ValueError(f"ensemble {ensemble!r} is unknown; choose one of {ENSEMBLES}.")
        self.ensemble = ensemble
        self.protocol = ensemble
        self.block = block
        self.register_buffer("embeddings", torch.empty(0), persistent=False)

    def set_text_features(self, text_features: Tensor) -> None:
        """Gives the classifier: [templates, classes, D] raw embeddings of the filled templates.

        Raises:
            ValueError: another number of classes than this metric has.
        """
        found = class_embeddings(text_features, self.ensemble)
        if len(found) != len(self.classes):
            raise ValueError(
                f"text features of {len(found)} classes for a metric with {len(self.classes)}: "
                "encode each template for every class, in the order of `classes`."
            )
        self.embeddings = found.detach().to(self.device)

    def logits(self, image_features: Tensor) -> Tensor:
        """[b, classes]: 100 times the cosine of each image, [b, D] of any length, and each class.

        Raises:
            ValueError: no classifier yet, or another width.
        """
        if not self.embeddings.numel():
            raise ValueError("no class embeddings yet: call set_text_features before update.")
        if image_features.ndim != 2 or image_features.shape[1] != self.embeddings.shape[1]:
            raise ValueError(
                f"image features {tuple(image_features.shape)} do not fit class embeddings "
                f"{tuple(self.embeddings.shape)}."
            )
        with torch.autocast(device_type=image_features.device.type, enabled=False):
            return 100.0 * F.normalize(image_features.float(), dim=-1) @ self.embeddings.T

    def update(self, image_features: Tensor, labels: Tensor) -> None:
        """Adds a batch.

        Args:
            image_features: [b, D].
            labels: [b] long, positions in `classes`.

        Raises:
            ValueError: a label outside the class list, or features that are not finite.
        """
        self.check_labels(labels, len(image_features))
        if not bool(image_features.isfinite().all()):
            raise ValueError("image features are not finite.")
        for rows, target in zip(
            image_features.split(self.block), labels.split(self.block), strict=True
        ):
            super().update(self.logits(rows), target)
