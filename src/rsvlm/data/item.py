"""One transformed sample, ready for a collate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rsvlm.data.geometry import Geometry
from rsvlm.data.sample import Instance, Sample


@dataclass(slots=True)
class TransformedSample:
    """One sample as a model sees it.

    Attributes:
        index: its position in the data set.
        sample: images as uint8 [3, S, S] tensors, texts as chosen; instances, semantic maps and
            `meta["change_mask"]` moved along with the images; what a rotation turns in from
            outside is class 0 of a map, as it is black in an image. The rest of `meta` speaks of
            the images as stored.
        skipped: one sentence for each unreadable image in whose place this one stands.
        geometry: where the pixels of each image went; empty where the transform does not say.
        stored: the instances as stored, for measuring in pixels of the original image.
        lost: ids of instances of which the transform left too little in view.
        key: (seed, epoch, index) of the draws, for what a collate chooses.
        beside: of each image as stored what a transform keeps beside it (`SeesBeside`); else empty.
    """

    index: int
    sample: Sample
    skipped: tuple[str, ...] = ()
    geometry: tuple[Geometry, ...] = ()
    stored: list[Instance] = field(default_factory=list)
    lost: tuple[int, ...] = ()
    key: tuple[int, int, int] = (0, 0, 0)
    beside: tuple[Any, ...] = ()


@dataclass(slots=True)
class Skipped:
    """A place that stays empty, because its image cannot be used.

    Attributes:
        index: its position in the data set.
        reason: file and fault.
    """

    index: int
    reason: str
