"""What the families that write have in common: the model brings its collate and its transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsvlm.lit.base import LitBase


class Generative(LitBase):
    """Wires a model that answers in words.

    The model has `collate(training=)`, `preprocess()` and `generate(batch, **options)`; the one
    tokenizer and the one prompt format of training, evaluation and predict.py are its own.
    """

    def train_collate(self) -> Callable[..., Any]:
        """The model's batches, answers included."""
        return self.model.collate(training=True)

    def eval_collate(self) -> Callable[..., Any]:
        """The model's batches, answers kept as references."""
        own = self.evaluation.collate() if self.evaluation is not None else None
        return own or self.model.collate(training=False)

    def preprocess(self) -> Callable[..., Any]:
        """The model's evaluation transform."""
        own = self.evaluation.transform() if self.evaluation is not None else None
        return own or self.model.preprocess()
