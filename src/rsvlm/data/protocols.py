"""What a data set may say of itself beside its samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from rsvlm.data.geometry import Geometry
from rsvlm.data.sample import Picture, Sample


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
        drawn: of a sample of a data set: `of`, the size of the whole, and the `seed` of the draw.
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
    drawn: Mapping[str, int] = field(default_factory=dict)


def attributes_of(dataset: Any) -> DatasetAttributes:
    """What a data set says of itself."""
    names = [each.name for each in fields(DatasetAttributes) if hasattr(dataset, each.name)]
    return DatasetAttributes(**{name: getattr(dataset, name) for name in names})


# What some data sets can do beside giving samples -----------------------------------------------


@runtime_checkable
class Mixed(Protocol):
    """A mixture, which shows other samples of its sources in each epoch."""

    def at(self, epoch: int, index: int) -> Sample:
        """The sample at a place of an epoch."""
        ...

    def counts(self, epoch: int, places: Sequence[int]) -> Mapping[str, int]:
        """Samples of each source at places of an epoch."""
        ...


@runtime_checkable
class Sharded(Protocol):
    """Samples in tar files, the usable ones of each."""

    shard_sizes: Sequence[int]


@runtime_checkable
class StoresFiles(Protocol):
    """Gives a picture's bytes and its ending as they are stored."""

    def stored(self, index: int) -> tuple[bytes, str]:
        """Bytes and ending of a sample's picture."""
        ...


@runtime_checkable
class ReadsImages(Protocol):
    """Reads a sample's picture without the rest."""

    def image(self, index: int) -> Image.Image:
        """The first picture of a sample."""
        ...


@runtime_checkable
class GivesCaptions(Protocol):
    """Gives a sample's captions without its picture."""

    def __len__(self) -> int:
        """Number of samples."""
        ...

    def captions(self, index: int) -> Sequence[str]:
        """The captions of a sample."""
        ...


@runtime_checkable
class SeesBeside(Protocol):
    """A transform that keeps something of an image as stored, for another model than its own."""

    def beside(self, image: Picture) -> Any:
        """What the other model takes of an image."""
        ...


@runtime_checkable
class MovesGeometry(Protocol):
    """A transform that says where the pixels of a sample's images go."""

    def apply_with_geometry(
        self, images: Sequence[Picture], *generator: Any
    ) -> tuple[Sequence[Any], Sequence[Geometry]]:
        """Transformed images, and the way of their pixels; training gives a generator too."""
        ...
