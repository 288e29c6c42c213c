"""What the families that write have in common: the model brings its collate and its transform."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rsvlm.data.collate.every_question import EveryQuestion
from rsvlm.errors import UserError
from rsvlm.evaluation.base import needs_answers
from rsvlm.evaluation.retrieval import RetrievalEvaluation
from rsvlm.lit.base import LitBase
from rsvlm.models.protocols import is_retriever


class Generative(LitBase):
    """Wires a model that answers in words.

    The model is a `models.protocols.Generator`; the one tokenizer and the one prompt format of
    training, evaluation and predict.py are its own.

    Raises:
        UserError: another model.
    """

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        needs_answers(self.model)

    def on_fit_start(self) -> None:
        """Refuses kept features of pictures that are drawn anew in each epoch.

        Raises:
            UserError: `model.cache_gib` beside an augmentation.
        """
        if self.model.cache is not None and self.trainer.datamodule.make_augment is not None:
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
        if self.evaluation is None:
            return self.model.collate(training=False)
        kinds, asks = self.evaluation.kinds, self.evaluation.asks
        collate = self.model.collate(
            training=False, kinds=kinds, instructions=self.evaluation.instructions
        )
        if asks == "last":
            return collate
        return EveryQuestion(collate, history=asks == "each", kinds=kinds)

    def _pairs(self, evaluation: RetrievalEvaluation) -> Callable[..., Any]:
        """Images with all of their captions, for a model that finds images."""
        if not is_retriever(self.model):
            raise UserError(
                f"a {type(self.model).__name__} writes and finds no images: choose "
                "evaluation=captions, or a model with a space of features (a CLIP, rscapret)."
            )
        return self.model.pairs(all_texts=True, prompt=evaluation.prompt)

    def after_step(self) -> None:
        """What the model does to its parameters, where it does anything."""
        self.model.after_step()

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
