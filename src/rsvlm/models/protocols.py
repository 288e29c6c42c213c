"""What the task, the evaluations and inference may ask of a model."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from rsvlm.data.sample import Answer


@runtime_checkable
class Generator(Protocol):
    """A model that answers in words."""

    def collate(self, training: bool) -> Any:
        """From samples to its batches."""
        ...

    @property
    def preprocess(self) -> Any:
        """Its evaluation transform."""
        ...

    def generate(self, batch: Any, **options: Any) -> list[Answer]:
        """An answer to each sample of a batch."""
        ...
