"""Data sets that stand before another one: baselines that do not see, and a sample of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rsvlm.data.sample import Sample, SampleError
from rsvlm.data.transforms import sides
from rsvlm.errors import UserError


class WrappedDataset:
    """All that a subclass does not say itself is the other data set's.

    Args:
        dataset: the other one.
        suffix: end of its name, so that no metric of this one is taken for one of the other.
    """

    def __init__(self, dataset: Any, suffix: str) -> None:
        self.dataset = dataset
        self.name = f"{dataset.name}{suffix}"

    def __getattr__(self, word: str) -> Any:
        if word == "dataset":  # of an object that is being unpickled
            raise AttributeError(word)
        return getattr(self.dataset, word)

    def __len__(self) -> int:
        return len(self.dataset)


class ShuffledImages(WrappedDataset):
    """A baseline: the captions, questions and boxes of each sample beside the image of another one.

    The image is that of the sample half of the data set and one further on, so that the images as
    a whole are the same and none meets its own texts. Other attributes are the data set's own; its
    name ends in `_other_image`, so that no metric of it is taken for one of the data.

    Args:
        dataset: partial of a data set of single images, finished with `split=`.
        split: of the data set.

    Raises:
        UserError: fewer than three samples.
    """

    def __init__(self, dataset: Callable[..., Any], split: str = "test") -> None:
        super().__init__(dataset(split=split), "_other_image")
        if len(self.dataset) < 3:
            raise UserError(
                f"{self.dataset.name}, split {split}: another image needs three samples."
            )

    def __getitem__(self, index: int) -> Sample:
        """The sample with the other image.

        Raises:
            SampleError: one of both has not one image, or the two differ in size.
        """
        sample = self.dataset[index]
        other = self.dataset[(index + len(self) // 2 + 1) % len(self)]
        sizes = [[sides(image) for image in one.images] for one in (sample, other)]
        if len(sizes[0]) != 1 or sizes[0] != sizes[1]:
            raise SampleError(
                f"sample {sample.meta.get('id', index)!r}: its images and those of "
                f"{other.meta.get('id', '?')!r} cannot change places: one "
                "each, of one size, wanted."
            )
        return replace(sample, images=other.images)


class UnchangedPair(WrappedDataset):
    """A baseline: the questions, answers and first dates of a data set, and no change to be seen.

    All other attributes are the data set's own; its name ends in `_same_date`, so that no metric of
    it is taken for one of the data.

    Args:
        dataset: partial of a data set of pairs, finished with `split=`.
        split: of the data set.
    """

    def __init__(self, dataset: Callable[..., Any], split: str = "test") -> None:
        super().__init__(dataset(split=split), "_same_date")

    def __getitem__(self, index: int) -> Sample:
        """The pair with the first picture, and the first map, in both places.

        Raises:
            SampleError: the sample is no pair.
        """
        sample = self.dataset[index]
        if len(sample.images) != 2:
            raise SampleError(
                f"sample {sample.meta.get('id', index)!r} has {len(sample.images)} image(s): two "
                "dates wanted."
            )
        return replace(
            sample,
            images=sample.images[:1] * 2,
            semantic=sample.semantic[:1] * len(sample.semantic),
        )


class ChosenSamples(WrappedDataset):
    """A data set's samples at some positions, under its own name.

    Args:
        dataset: the whole.
        positions: of the samples, in the order in which they are given.
    """

    #: Methods that take a sample's position.
    _BY_POSITION = ("image", "captions", "stored")
    #: What speaks of all samples in their order.
    _OF_THE_WHOLE = ("shard_sizes", "source_sizes", "at", "counts")

    def __init__(self, dataset: Any, positions: Sequence[int]) -> None:
        super().__init__(dataset, "")
        self.positions = list(positions)

    def __getattr__(self, word: str) -> Any:
        if word in self._OF_THE_WHOLE or word == "positions":
            raise AttributeError(word)
        found = super().__getattr__(word)
        if word == "entries" and found is not None:
            return [found[place] for place in self.positions]
        if word in self._BY_POSITION and callable(found):
            return lambda index: found(self.positions[index])
        return found

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Sample:
        """The sample at a place of the chosen ones."""
        sample: Sample = self.dataset[self.positions[index]]
        return sample


class RandomSample(ChosenSamples):
    """A seeded sample of a data set's test splits; other splits are whole.

    It bears the data set's name, whose words metrics and templates go by; `drawn` says what it is,
    and results repeat it (`evaluation.base.facts_of`).

    Args:
        dataset: partial of a data set, finished with `split=`.
        n: samples to draw, without replacement, in the data set's order; a smaller data set is
            whole.
        seed: of the draw.
        splits: those that are drawn from.
        split: of the data set.

    Attributes:
        drawn: `of`, the size of the whole, and `seed`; empty where it is whole.

    Raises:
        UserError: fewer than one sample.
    """

    def __init__(
        self,
        dataset: Callable[..., Any],
        n: int,
        *,
        seed: int = 0,
        splits: Sequence[str] = ("test",),
        split: str = "test",
    ) -> None:
        if n < 1:
            raise UserError(f"limit={n}: draw at least one sample, or give limit=null for all.")
        whole = dataset(split=split)
        size = len(whole)
        super().__init__(whole, range(size))
        self.drawn: dict[str, int] = {}
        if split in splits and n < size:
            chosen = np.random.default_rng(seed).choice(size, n, replace=False)
            self.positions = sorted(map(int, chosen))
            self.drawn = {"of": size, "seed": seed}
