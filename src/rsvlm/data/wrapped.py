"""A data set that stands before another one and changes its samples."""

from __future__ import annotations

from typing import Any


class Wrapped:
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
