"""What change captioners do when validation stops getting better: decay one part, then stop."""

from __future__ import annotations

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from rsvlm.errors import UserError, near


class PlateauDecayAndStop(Callback):
    """Counts validations since the best one; decays learning rates and ends the run by it.

    RSICCformer and MModalCC multiply the decoder's learning rate by 0.7 whenever the count is a
    positive multiple of 3, and stop at 10.

    Args:
        monitor: a metric's name; more is better.
        decay: what learning rates are multiplied by.
        every: at which multiples of the count.
        parts: names of the parameter groups that decay; none decays nothing.
        stop: count at which the run ends; None never does.
    """

    def __init__(
        self,
        monitor: str,
        *,
        decay: float = 0.7,
        every: int = 3,
        parts: tuple[str, ...] | list[str] = (),
        stop: int | None = 10,
    ) -> None:
        self.monitor, self.decay, self.every = monitor, decay, every
        self.parts, self.stop = tuple(parts), stop
        self.best: float | None = None
        self.count = 0
        self._validated_at = -1

    def state_dict(self) -> dict[str, Any]:
        """The best value and the validations since."""
        return {"best": self.best, "count": self.count, "validated_at": self._validated_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting."""
        self.best, self.count = state_dict["best"], state_dict["count"]
        self._validated_at = state_dict["validated_at"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts, decays, stops."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        if trainer.global_step == self._validated_at:
            return
        self._validated_at = trainer.global_step
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            known = [name for name in trainer.callback_metrics if name.startswith("val/")]
            raise UserError(
                f"callbacks.patience.monitor={self.monitor} is not measured. "
                f"{near(self.monitor, known)}"
            )
        if self.best is None or float(value) > self.best:
            self.best, self.count = float(value), 0
            return
        self.count += 1
        if self.parts and self.count % self.every == 0:
            self._decay(trainer)
        if self.stop is not None and self.count >= self.stop:
            trainer.should_stop = True

    def _decay(self, trainer: L.Trainer) -> None:
        optimizer = trainer.optimizers[0]
        names = [group.get("name") for group in optimizer.param_groups]
        for part in self.parts:
            if part not in names:
                raise UserError(
                    f"callbacks.patience.parts: the optimizer has no group {part!r}. "
                    f"{near(part, [str(name) for name in names])} optimizer=adam_by_part names one "
                    "for each part of the model."
                )
        for number, group in enumerate(optimizer.param_groups):
            if group.get("name") not in self.parts:
                continue
            for key in ("lr", "initial_lr"):
                if key in group:
                    group[key] *= self.decay
            # A schedule computes from its own copy of the first rates.
            for config in trainer.lr_scheduler_configs:
                rates = getattr(config.scheduler, "base_lrs", None)
                if rates:
                    rates[number] *= self.decay
