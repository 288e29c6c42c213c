"""The contrastive family: GeoRSCLIP, SkyCLIP, GAIA-CLIP, RemoteCLIP, and CLIPs of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rsvlm.data.collate.pairs import PairCollate
from rsvlm.errors import UserError
from rsvlm.lit.base import LitBase
from rsvlm.losses.grad_cache import check_micro_batch, forward_in_parts
from rsvlm.models.protocols import is_contrastive


class Contrastive(LitBase):
    """Wires a CLIP to its loss.

    Args:
        freeze: regular expressions; a parameter whose name one of them matches from the start is
            not trained (`visual.` locks the image tower, `text.` the text tower).
        micro_batch: pairs of a process that are held in memory at once; gradients stay those of
            the whole batch, for one more forward pass (`losses/grad_cache.py`). None holds all.
        **shared: see `LitBase`.

    Raises:
        UserError: a model that is no CLIP, or a `freeze` that matches nothing.
    """

    def __init__(
        self, *, freeze: Sequence[str] = (), micro_batch: int | None = None, **shared: Any
    ) -> None:
        super().__init__(**shared)
        given: object = self.model
        if not is_contrastive(given):
            raise UserError(
                f"task=contrastive is for CLIPs, and a {type(self.model).__name__} is none: set "
                "task=captioner, or task=bitemporal for a model of two dates."
            )
        self.micro_batch = micro_batch
        if micro_batch is not None:
            check_micro_batch(self.model, micro_batch)
        for pattern in freeze:
            hit = [p for n, p in self.model.named_parameters() if re.match(pattern, n)]
            if not hit:
                raise UserError(f"task.freeze: {pattern!r} matches no parameter of the model.")
            for parameter in hit:
                parameter.requires_grad_(False)

    def train_collate(self) -> PairCollate:
        """One caption an image, trimmed."""
        return PairCollate(self.model.tokenizer)

    def eval_collate(self) -> Any:
        """All captions of an image, prompted as the protocol says."""
        if self.evaluation is not None and (own := self.evaluation.collate()) is not None:
            return own
        prompt = self.evaluation.prompt if self.evaluation is not None else None
        return PairCollate(self.model.tokenizer, all_texts=True, prompt=prompt)

    def preprocess(self) -> Any:
        """The model's evaluation transform, or the evaluation's own."""
        own = self.evaluation.transform() if self.evaluation is not None else None
        return own or self.model.preprocess

    def forward_model(self, batch: Any) -> dict[str, Any]:
        """The model's outputs, in micro-batches where that is asked for."""
        if self.micro_batch is None:
            return self.model(batch)
        return forward_in_parts(self.model, batch, self.micro_batch)

    def train_metrics(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The temperature's inverse."""
        return {"train/logit_scale": outputs["logit_scale"].detach()}

    def after_step(self) -> None:
        """Keeps the temperature's inverse in [1, 100], as CLIP does."""
        self.model.clamp_logit_scale()
