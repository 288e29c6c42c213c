"""From computed metrics and their data sets to the pictures of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from rsvlm.data.sample import SampleError
from rsvlm.metrics.retrieval import Example
from rsvlm.metrics.zeroshot import Accuracy
from rsvlm.report.figures import (
    Answered,
    Prediction,
    confusion_matrix,
    predictions,
    retrieval_sheet,
)


def draw_retrieval(
    by_text: Sequence[Example],
    by_image: Sequence[Example],
    protocol: str,
    dataset: Any,
    folder: Path,
) -> list[Path]:
    """retrieval_texts.png and retrieval_images.png: queries with their five best answers.

    Args:
        by_text: texts that look for images.
        by_image: images that look for texts.
        protocol: under which a hit counts.
        dataset: the data set that was searched, yields samples by position.
        folder: the run's `pictures`.
    """
    samples: dict[int, Any] = {}

    def sample(index: int) -> Any:
        if index not in samples:
            samples[index] = dataset[index]
        return samples[index]

    def image(at: tuple[int, int]) -> Image.Image:
        return as_picture(sample(at[0]).images[0])

    def text(at: tuple[int, int]) -> str:
        return str(sample(at[0]).texts[at[1]])

    def rows(
        found: Sequence[Example], query: Callable[..., Any], answer: Callable[..., Any]
    ) -> list[Answered]:
        return [
            Answered(query(e.query), [answer(at) for at in e.answers], e.hits, e.scores, e.rank)
            for e in found
        ]

    drawn = []
    if by_text:
        title = f"{dataset.name}: the five nearest images of a text ({protocol})"
        file = folder / "retrieval_texts.png"
        drawn.append(retrieval_sheet(rows(by_text, text, image), file, title=title))
    if by_image:
        title = f"{dataset.name}: the five nearest texts of an image ({protocol})"
        file = folder / "retrieval_images.png"
        drawn.append(retrieval_sheet(rows(by_image, image, text), file, title=title))
    return drawn


def draw_classification(
    metric: Accuracy,
    dataset: Any,
    folder: Path,
    *,
    scores: Callable[[list[int]], torch.Tensor] | None = None,
    count: int = 12,
) -> list[Path]:
    """confusion.png and, with `scores`, predictions.png.

    Args:
        metric: after `compute`.
        dataset: the data set that it was computed on, yields samples by position.
        folder: the run's `pictures`.
        scores: positions in the data set to logits [n, classes] (`ZeroShot.logits` of the
            images' features).
        count: how many predictions to show, evenly spread over the data set.
    """
    title = f"{dataset.name}: confusion, per cent of each true class"
    matrix = metric.confusion_matrix.cpu().numpy()
    drawn = [confusion_matrix(matrix, metric.classes, folder / "confusion.png", title=title)]
    if scores is None or not len(dataset):
        return drawn
    found = _spread(dataset, count)
    if not found:
        return drawn
    probability = scores(list(found)).float().softmax(1).cpu()
    rows = []
    for sample, values in zip(found.values(), probability, strict=True):
        best = values.topk(min(3, len(values)))
        told = [
            (metric.classes[i], p)
            for i, p in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]
        truth = metric.classes[sample.label]
        rows.append(Prediction(as_picture(sample.images[0]), truth, told))
    title = f"{dataset.name}: predictions, evenly spread over the split"
    drawn.append(predictions(rows, folder / "predictions.png", title=title))
    return drawn


def _spread(dataset: Any, count: int) -> dict[int, Any]:
    """Samples from the middles of equal stretches; for one that cannot be read, the next."""
    found: dict[int, Any] = {}
    edges = [i * len(dataset) // count for i in range(count + 1)]
    for start, stop in pairwise(edges):
        middle = (start + stop) // 2
        for position in [*range(middle, stop), *range(start, middle)]:
            try:
                sample = dataset[position]
            except SampleError:
                continue
            if sample.label is not None:
                found[position] = sample
                break
    return found


def as_picture(image: Image.Image | torch.Tensor | np.ndarray) -> Image.Image:
    """A PIL image from what a sample holds: PIL, uint8 [3, H, W], or uint8 [H, W, 3]."""
    if isinstance(image, torch.Tensor):
        image = image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(np.ascontiguousarray(image))
    return image.convert("RGB")
