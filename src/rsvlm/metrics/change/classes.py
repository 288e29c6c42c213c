"""Change captions by class of change: of the pairs whose references name a road, a building, ...

Corpus statistics are those of the class's pairs, document frequencies those of the whole set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rsvlm.data.prediction_records import image_of
from rsvlm.metrics.captions.statistics import statistics
from rsvlm.metrics.change.captions import SPLIT, ChangeCaptions
from rsvlm.metrics.intervals import Floats, Statistics, Value

#: Class of change -> the words that name it, in the singular; a plural counts too.
CLASSES: dict[str, tuple[str, ...]] = {
    "road": ("road", "street", "path", "lane", "highway", "crossroad", "roundabout", "driveway"),
    "building": (
        *("building", "house", "villa", "residential", "factory", "shed", "roof", "block", "hall"),
        *("apartment", "warehouse", "cottage", "dwelling"),
    ),
    "vegetation": (
        *("tree", "forest", "wood", "grass", "plant", "meadow", "vegetation", "bush", "lawn"),
        *("shrub", "greenery", "crop"),
    ),
    "water": ("water", "river", "lake", "pond", "pool", "canal", "sea"),
    "ground": ("ground", "bareland", "land", "soil", "desert", "sand", "field", "parking"),
    "playground": ("playground", "stadium", "court", "pitch"),
}
_WORDS = {
    name: re.compile(rf"\b(?:{'|'.join(words)})(?:e?s)?\b", re.IGNORECASE)
    for name, words in CLASSES.items()
}


def classes_of(references: Sequence[str]) -> set[str]:
    """The classes of change that any of a pair's references names."""
    return {name for name, words in _WORDS.items() if any(map(words.search, references))}


@dataclass(frozen=True)
class Part:
    """What the pairs of one class give.

    Attributes:
        count: how many there are.
        values: metric word -> per cent.
        statistics: for intervals.
    """

    count: int
    values: dict[str, float]
    statistics: Statistics


def by_class(metric: ChangeCaptions) -> Iterator[Part]:
    """`change_<class>_<word>` of each class that has changed pairs.

    Args:
        metric: after `compute`.
    """
    whole = statistics(metric.scores, [image_of(one.id) for one in metric.used])
    flags = metric.changed
    named = [classes_of(one.references) if flags[n] else set() for n, one in enumerate(metric.used)]
    for name in CLASSES:
        inside = np.array([[name in one] for one in named], np.float64)
        count = int(inside.sum())
        if count:
            part = Statistics(whole.images, whole.rows * inside, _renamed(whole, name))
            sums = part.rows.sum(0)
            values = {word: float(value) for word, value in part.value(sums).items()}
            yield Part(count, values, part)


def _renamed(whole: Statistics, name: str) -> Value:
    def value(sums: Floats) -> dict[str, Floats]:
        found = whole.value(sums)
        return {f"change_{name}_{word}": found[word] for word in SPLIT if word in found}

    return value
