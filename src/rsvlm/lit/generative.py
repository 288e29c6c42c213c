"""What the families that write have in common: the model brings its collate and its transform."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rsvlm.data.text.instructions import InstructionTemplates
from rsvlm.errors import UserError
from rsvlm.evaluation.clip import RetrievalEvaluation
from rsvlm.lit.base import LitBase


class Generative(LitBase):
    """Wires a model that answers in words.

    The model has `collate(training=)`, `preprocess()` and `generate(batch, **options)`; the one
    tokenizer and the one prompt format of training, evaluation and predict.py are its own.
    """

    def on_fit_start(self) -> None:
        """Refuses kept features of pictures that are drawn anew in each epoch.

        Raises:
            UserError: `model.cache_gib` beside an augmentation.
        """
        kept = getattr(self.model, "cache", None) is not None
        if kept and self.trainer.datamodule.make_augment is not None:
            raise UserError(
                "model.cache_gib keeps the features of pictures as they are, and data.augment "
                "makes another picture in each epoch, so none would be found again: set "
                "data.augment=null or model.cache_gib=0."
            )

    def train_collate(self) -> Callable[..., Any]:
        """The model's batches, answers included."""
        return self.model.collate(training=True)

    def eval_collate(self) -> Callable[..., Any]:
        """The model's batches, answers kept as references."""
        own = self.evaluation.collate() if self.evaluation is not None else None
        if own is not None:
            return own
        if isinstance(self.evaluation, RetrievalEvaluation):
            return self._pairs(self.evaluation)
        collate = self.model.collate(training=False)
        kinds = self.evaluation.kinds if self.evaluation is not None else None
        if kinds is not None and hasattr(collate, "kinds"):
            collate.kinds = frozenset(kinds) if isinstance(kinds, Sequence) else kinds
        makes = self.evaluation.makes if self.evaluation is not None else ()
        instructions = getattr(collate, "instructions", None)
        # What a recipe says itself stands.
        if makes and isinstance(instructions, InstructionTemplates) and instructions.tasks is None:
            collate.instructions = instructions.making(makes)
        return collate

    def _pairs(self, evaluation: RetrievalEvaluation) -> Callable[..., Any]:
        """Images with all of their captions, for a model that finds images."""
        if not hasattr(self.model, "pairs"):
            raise UserError(
                f"a {type(self.model).__name__} writes and finds no images: choose "
                "evaluation=captions, or a model with a space of features (a CLIP, rscapret)."
            )
        return self.model.pairs(all_texts=True, prompt=evaluation.prompt)

    def after_step(self) -> None:
        """What the model does to its parameters, where it does anything."""
        own = getattr(self.model, "after_step", None)
        if own is not None:
            own()

    def preprocess(self) -> Callable[..., Any]:
        """The model's evaluation transform."""
        own = self.evaluation.transform() if self.evaluation is not None else None
        return own or self.model.preprocess

    @property
    def towers(self) -> dict[str, str]:
        """Frozen parts that their own files, or `init`, can give back; they are not saved."""
        found = super().towers
        nodes = self.config.get("model", {})
        for name, part in self.model.named_children():
            node = nodes.get(name)
            source = node.get("weights") if isinstance(node, dict) else None
            source = source or nodes.get("weights")  # of a model that has them all from one place
            if source and any(not p.requires_grad for p in part.parameters()):
                found[name] = str(source)
        return found
