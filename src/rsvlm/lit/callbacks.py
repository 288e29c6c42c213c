"""Checkpoints, progress and throughput."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, TQDMProgressBar

from rsvlm.checkpoints.verify import LAST
from rsvlm.errors import UserError, near


class Checkpoints(Checkpoint):
    """`last.ckpt` every `trainer.save_every` steps and at an epoch's end, `best.ckpt` by `monitor`.

    Args:
        monitor: a metric's name; None keeps no best.
        mode: `max` or `min`.
    """

    def __init__(self, monitor: str | None = None, mode: str = "max") -> None:
        if mode not in ("max", "min"):
            raise UserError(f"callbacks.checkpoints.mode={mode!r}: give max or min.")
        self.monitor, self.mode = monitor, mode
        self.best: float | None = None
        self._validated_at = -1

    @staticmethod
    def _folder(trainer: L.Trainer) -> Path:
        return Path(trainer.default_root_dir)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the best value so far."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves the weights that a new run starts from: there is a checkpoint whatever happens.

        Not of a model in shards: to collect an optimizer's state that is not there yet, torch takes
        a step of size zero, which Adam counts.
        """
        module: Any = pl_module
        if trainer.global_step == 0 and not module.sharded:
            self._save(trainer, LAST)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        """Saves every `save_every` optimiser steps."""
        every = getattr(trainer, "save_every", 0)
        stepped = not trainer.fit_loop.epoch_loop._should_accumulate()
        if every and stepped and trainer.global_step % every == 0:
            self._save(trainer, LAST)
        elif trainer.global_step % trainer.log_every_n_steps == 0:
            module: Any = trainer.lightning_module
            module.finite.check(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves at the end of each epoch."""
        self._save(trainer, LAST)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends a training whose weights are no numbers any more, before they are measured."""
        module: Any = pl_module
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            module.finite.check(trainer, module.model)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the best."""
        if self.monitor is None or trainer.sanity_checking or not trainer.fit_loop.epoch_loop:
            return
        if trainer.state.fn != "fit" or trainer.global_step == self._validated_at:
            return
        self._validated_at = trainer.global_step
        value = trainer.callback_metrics.get(self.monitor)
        if value is None:
            self._save(trainer, LAST)  # what was trained is not lost with it
            known = [name for name in trainer.callback_metrics if name.startswith("val/")]
            raise UserError(
                f"callbacks.checkpoints.monitor={self.monitor} is not measured. "
                f"{near(self.monitor, known)}"
            )
        sign = 1 if self.mode == "max" else -1
        if self.best is None or sign * float(value) > sign * self.best:
            self.best = float(value)
            self._save(trainer, "best.ckpt")

    def _save(self, trainer: L.Trainer, name: str) -> None:
        # What is not finite would take the place of the last state that was.
        module: Any = trainer.lightning_module
        module.finite.check(trainer, module.model)
        trainer.save_checkpoint(self._folder(trainer) / name, weights_only=False)


class Throughput(Callback):
    """Logs `train/samples_per_second` (all ranks) and, on a GPU, `train/peak_memory_gib`."""

    _since: float | None = None
    _seen: int = 0

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Starts the clock at the first step after a log."""
        if self._since is None:
            self._since, self._seen = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *args: Any
    ) -> None:
        """Logs at the trainer's interval; the clock runs over loading, step and log alike."""
        self._seen += len(batch) * trainer.world_size
        if (trainer.global_step + 1) % getattr(trainer, "log_every_n_steps", 1):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() / 2**30
            pl_module.log("train/peak_memory_gib", peak, batch_size=1)
        now = time.perf_counter()
        rate = self._seen / max(1e-9, now - (self._since or 0.0))
        pl_module.log("train/samples_per_second", rate, batch_size=1, prog_bar=True)
        self._since, self._seen = now, 0

    def on_validation_start(self, *args: Any) -> None:
        """Validation does not count: the clock starts anew after it."""
        self._since = None


class LearningRates(Callback):
    """Logs `train/lr` of the first parameter group, and `train/lr_<group>` of each that has a name.

    A group's dots (`bridge.decay`) stand as underscores.
    """

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        """Logs at the trainer's interval, the rates of the step that begins."""
        if (trainer.global_step + 1) % getattr(trainer, "log_every_n_steps", 1):
            return
        groups = trainer.optimizers[0].param_groups
        rates = {"train/lr": groups[0]["lr"]}
        for group in groups:
            name = re.sub(r"\W+", "_", str(group.get("name", "")))
            if name and len(groups) > 1:
                rates[f"train/lr_{name}"] = group["lr"]
        pl_module.log_dict({name: float(rate) for name, rate in rates.items()}, batch_size=1)


class Progress(TQDMProgressBar):
    """Lightning's bar, drawn every ten batches, so that a log file stays readable.

    Where batches are slow it is drawn every two seconds.

    Args:
        every: batches between two drawings.
        seconds: after which it is drawn in any case.
    """

    def __init__(self, every: int = 10, seconds: float = 2.0) -> None:
        super().__init__(refresh_rate=every)
        self.seconds, self._drawn = seconds, 0.0

    def _should_update(self, current: int, total: float) -> bool:
        now = time.monotonic()
        due = self.is_enabled and now - self._drawn >= self.seconds
        if due or super()._should_update(current, total):  # type: ignore[arg-type]
            self._drawn = now
            return True
        return False

    def on_exception(self, *args: Any) -> None:
        """Leaves the bar where it is, and what comes next to a line of its own."""
        for bar in (self._train_progress_bar, self._val_progress_bar, self._test_progress_bar):
            if bar is not None:
                bar.close()
