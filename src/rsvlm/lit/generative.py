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
        if own is not None:
            return own
        collate = self.model.collate(training=False)
        kinds = self.evaluation.kinds if self.evaluation is not None else None
        if kinds is not None and hasattr(collate, "kinds"):
            collate.kinds = frozenset(kinds)
        return collate

    def preprocess(self) -> Callable[..., Any]:
        """The model's evaluation transform."""
        own = self.evaluation.transform() if self.evaluation is not None else None
        return own or self.model.preprocess()

    @property
    def towers(self) -> dict[str, str]:
        """Frozen parts that their own files, or `init`, can give back; they are not saved."""
        found = super().towers
        nodes = self.config.get("model", {})
        for name, part in self.model.named_children():
            node = nodes.get(name)
            source = node.get("weights") if isinstance(node, dict) else None
            if source and any(not p.requires_grad for p in part.parameters()):
                found[name] = str(source)
        return found
