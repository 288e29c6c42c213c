"""Confidence intervals: a bootstrap over images of each image's sufficient statistics.

A metric's value is a function of sums over items (right answers and questions; n-grams found and
tried; intersections and unions). Images are drawn with replacement, the sums of those drawn are
put into the same function, and the middle 95 per cent of the values are the interval. All items of
an image (its questions, its captions) are drawn together. What belongs to the whole set stays that
of the whole set: CIDEr's document frequencies, and the gallery that retrieval looks through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rsvlm.errors import UserError

Floats = npt.NDArray[np.float64]
#: [..., S] sums of the items' statistics -> metric word -> [...] values.
Value = Callable[[Floats], dict[str, Floats]]

#: Per cent of the bootstrap's values that lie within an interval.
LEVEL = 95
#: Entries of a block of drawn counts.
_BLOCK = 16_000_000


@dataclass(frozen=True)
class Statistics:
    """What items bring to some metric words.

    Attributes:
        images: [N] the image that each item belongs to.
        rows: [N, S] each item's statistics.
        value: the metric words from the sums over items.
    """

    images: Sequence[Any]
    rows: Floats
    value: Value


def means(
    images: Sequence[Any], columns: Mapping[str, Sequence[float] | Floats], *, scale: float = 100.0
) -> Statistics:
    """Statistics of words that are means over items.

    Args:
        images: [N].
        columns: word -> [N] values; an item whose value is NaN is not counted for that word.
        scale: what the means are multiplied by.
    """
    words = list(columns)
    table = np.array([columns[word] for word in words], np.float64).reshape(len(words), -1).T
    counted = ~np.isnan(table)
    rows = np.concatenate([np.where(counted, table, 0.0), counted], axis=1)

    def value(sums: Floats) -> dict[str, Floats]:
        top, bottom = sums[..., : len(words)], sums[..., len(words) :]
        found = share(top, bottom)
        return {word: scale * found[..., n] for n, word in enumerate(words)}

    return Statistics(images, rows.astype(np.float64), value)


def share(part: Floats, whole: Floats) -> Floats:
    """A part by its whole; NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def one_hot(labels: Sequence[Any], kinds: Sequence[Any]) -> Floats:
    """[N, K] 1 where an item is of a kind."""
    place = {kind: n for n, kind in enumerate(kinds)}
    out = np.zeros((len(labels), len(kinds)))
    for row, label in enumerate(labels):
        if label in place:
            out[row, place[label]] = 1
    return out


def draws(
    statistics: Iterable[Statistics], images: Sequence[Any], *, times: int, seed: int = 0
) -> dict[str, Floats]:
    """Metric word -> [times] values of bootstrap samples of the images.

    Two calls with the same images and seed draw the same images, whatever the statistics.

    Args:
        statistics: of all words; items of images that are not among `images` are left out.
        images: the distinct images that are drawn from.
        times: how many samples.
        seed: of the draws.
    """
    place = {image: n for n, image in enumerate(images)}
    held = [(one, _by_image(one, place)) for one in statistics]
    parts: dict[str, list[Floats]] = {}
    for counts in _counts(len(images), times, seed):
        for one, sums in held:
            for word, values in one.value(counts @ sums).items():
                parts.setdefault(word, []).append(np.asarray(values, np.float64))
    return {word: np.concatenate(found) for word, found in parts.items()}


def of_images(statistics: Iterable[Statistics], images: Sequence[Any]) -> dict[str, float]:
    """Metric word -> value on some images."""
    place = {image: n for n, image in enumerate(images)}
    found: dict[str, float] = {}
    for one in statistics:
        sums = _by_image(one, place).sum(0)
        found |= {word: float(value) for word, value in one.value(sums).items()}
    return found


def bootstrap(
    statistics: Sequence[Statistics], *, times: int, seed: int = 0, level: float = LEVEL
) -> dict[str, dict[str, float]]:
    """Metric word -> `low`, `high`, `level`, `bootstrap` and `seed`, as metrics.json has them.

    Of n independent draws of an accuracy p the interval is that of the normal approximation,
    p -+ 1.96 sqrt(p (1 - p) / n), within some per cent of its width (seeds differ by as much as
    quantiles of `times` values do).

    Args:
        statistics: of all words.
        times: bootstrap samples; 1000 are usual.
        seed: of the draws.
        level: per cent.

    Raises:
        UserError: fewer samples than an interval needs.
    """
    if times < 20:
        raise UserError(f"evaluation.bootstrap={times}: an interval needs at least 20; try 1000.")
    images = all_images(statistics)
    found = draws(statistics, images, times=times, seed=seed)
    out: dict[str, dict[str, float]] = {}
    for word, values in found.items():
        low, high = interval(values, level)
        out[word] = {"low": low, "high": high, "level": level, "bootstrap": times, "seed": seed}
    return out


def interval(values: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` per cent; values that a sample does not define (NaN) are left out."""
    held = values[~np.isnan(values)]
    if not len(held):
        return float("nan"), float("nan")
    low, high = np.percentile(held, [(100 - level) / 2, (100 + level) / 2])
    return float(low), float(high)


def paired(
    first: Sequence[Statistics],
    second: Sequence[Statistics],
    *,
    times: int = 1000,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[dict[str, dict[str, float]], int]:
    """Differences of two runs on the images that both have, second less first.

    Both are measured on the same drawn images, so that what makes an image hard for both falls out
    of the difference.

    Returns:
        Metric word -> `first`, `second`, `difference`, `low`, `high`; and the number of images.

    Raises:
        UserError: no image or no word in common.
    """
    known = set(all_images(first))
    images = [image for image in all_images(second) if image in known]
    if not images:
        raise UserError(
            "the two runs have no image in common, so nothing can be compared in pairs."
        )
    values = [of_images(one, images) for one in (first, second)]
    drawn = [draws(one, images, times=times, seed=seed) for one in (first, second)]
    out: dict[str, dict[str, float]] = {}
    for word in values[0]:
        if word in values[1]:
            low, high = interval(drawn[1][word] - drawn[0][word], level)
            a, b = values[0][word], values[1][word]
            out[word] = {"first": a, "second": b, "difference": b - a, "low": low, "high": high}
    if not out:
        raise UserError("the two runs share no metric whose value is known image by image.")
    return out, len(images)


def all_images(statistics: Iterable[Statistics]) -> list[Any]:
    """The distinct images of all items, in ascending order: numbers first, then names."""
    found = {image for one in statistics for image in one.images}
    return sorted(found, key=lambda image: (isinstance(image, str), image))


def _by_image(one: Statistics, place: dict[Any, int]) -> Floats:
    """[I, S] sums of each image's items."""
    rows = np.asarray(one.rows, np.float64)
    sums = np.zeros((len(place), rows.shape[1]))
    at = np.array([place.get(image, -1) for image in one.images], np.int64)
    np.add.at(sums, at[at >= 0], rows[at >= 0])
    return sums


def _counts(images: int, times: int, seed: int) -> Iterator[Floats]:
    """[b, images] how often each image is drawn, in blocks that fit memory."""
    generator = np.random.default_rng(seed)
    size = max(1, min(times, _BLOCK // max(1, images)))
    even = np.full(images, 1 / images)
    for start in range(0, times, size):
        yield generator.multinomial(images, even, size=min(size, times - start)).astype(np.float64)
