"""The family of language models as experts: RS-MoE, in two stages or in one."""

from __future__ import annotations

from typing import Any

from rsvlm.errors import UserError
from rsvlm.lit.generative import Generative
from rsvlm.models.rsmoe.model import RSMoE
from rsvlm.nn.length_buckets import in_shards


class MoELLM(Generative):
    """Wires a model of an LLM block and experts to its loss.

    Args:
        **shared: see `LitBase`.

    Raises:
        UserError: a model without experts.
    """

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        if not isinstance(self.model, RSMoE):
            raise UserError(
                f"a {type(self.model).__name__} has no experts: set task=captioner, or take "
                "model=rsmoe_tiny."
            )

    def on_fit_start(self) -> None:
        """Refuses a second stage of nothing, what hangs in shards, and drafts that change.

        Raises:
            UserError: see above.
        """
        super().on_fit_start()
        second = self.model.stage == "second"
        if second and not self.config.get("init"):
            raise UserError(
                "model.stage=second trains experts of a first stage: give it, as "
                "init=<run of the first stage>."
            )
        if second and self.model.draft and self.trainer.datamodule.make_augment is not None:
            raise UserError(
                "model.draft=true keeps the LLM block's answer to each picture, and data.augment "
                "makes another picture in each epoch: set data.augment=null or model.draft=false."
            )

        uneven = self.model.draft or self.model.combine == "summarised" or len(self._lms()) > 1
        if uneven and in_shards(self.model):
            raise UserError(
                "in shards all processes take the same passes, and drafts, summaries and experts "
                "of several language models (model.draft, model.combine=summarised, "
                "model.expert_lms) are of some questions alone: set trainer=ddp."
            )

    def _lms(self) -> list[Any]:
        return [] if self.model.experts is None else self.model.lms

    def train_metrics(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """The share of the expert that a learned router uses most; 1 is a collapse."""
        most = outputs.get("most_used")
        return {} if most is None else {"train/most_used_expert": most.detach()}

    @property
    def towers(self) -> dict[str, str]:
        """What the first stage gives back, and experts' own language models from their files."""
        found = super().towers
        if self.model.stage == "second" and self.config.get("init"):
            # Trained in the first stage, whatever they started from there.
            found |= dict.fromkeys(self.model.frozen_parts, str(self.config["init"]))
        own = {name: part.weights for name, part in self.model.named_experts()}
        found = {name: source for name, source in found.items() if name not in own}
        return found | {name: str(source) for name, source in own.items() if source}
