"""What a data set may say of itself beside its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class DatasetAttributes:
    """The attributes that tools read, with the values of a plain sequence of samples.

    `datasets.base.FileDataset` has them all; so may a class of your own.

    Attributes:
        name: of the data set, a word of metric names.
        split: of the data set.
        licence, paper, homepage: where it is from.
        sample_layout: of its samples, see `data.sample.Layout`; None where nothing says it.
        entries: samples without their images: `id`, `texts`, `label`, `path` or `paths`, `meta`;
            None where only the samples themselves tell.
        classes: names of its scene classes, in the order of labels.
        semantic_classes: names of the classes of semantic maps, in the order of their ids.
        change_classes: of a single map of what changed, likewise.
        problems: sentences on what was found wrong while its lists were read.
        published_counts: split -> number of samples that its paper states.
        notes: sentences on how it is read.
    """

    name: str = ""
    split: str = ""
    licence: str = ""
    paper: str = ""
    homepage: str = ""
    sample_layout: str | None = None
    entries: Sequence[Any] | None = None
    classes: Sequence[str] | None = None
    semantic_classes: Sequence[str] = ()
    change_classes: Sequence[str] = ()
    problems: Sequence[str] = ()
    published_counts: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


def attributes_of(dataset: Any) -> DatasetAttributes:
    """What a data set says of itself."""
    names = [each.name for each in fields(DatasetAttributes) if hasattr(dataset, each.name)]
    return DatasetAttributes(**{name: getattr(dataset, name) for name in names})
