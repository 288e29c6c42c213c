"""A data set of pairs whose second date is the first one again: what is said without seeing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rsvlm.data.sample import Sample, SampleError
from rsvlm.data.wrapped import Wrapped


class SameDate(Wrapped):
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
