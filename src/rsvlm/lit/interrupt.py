"""A run that is asked to stop: it saves, and says how to go on."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from rsvlm.checkpoints.verify import LAST

#: Ctrl+C, what schedulers and `kill` send, and what SLURM sends before its time limit
#: (`sbatch --signal=USR1@120`).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(Exception):
    """A signal ended a run.

    Attributes:
        signum: the signal.
        step: optimiser steps of the last checkpoint's run; None where nothing is trained.
    """

    def __init__(self, signum: int, step: int | None = None) -> None:
        super().__init__(signum, step)
        self.signum, self.step = signum, step


class Interrupt(Callback):
    """Ends a run after the step in which a signal came, with a checkpoint of it.

    With several processes the signal of any of them ends all, at the next step that is logged. A
    second signal ends the process at once. During validation nothing is saved anew: the last
    checkpoint stands.
    """

    def __init__(self) -> None:
        self._received: int | None = None
        self._former: dict[int, Any] = {}

    def _listen(self) -> None:
        if self._former or threading.current_thread() is not threading.main_thread():
            return
        for one in SIGNALS:
            self._former[one] = signal.signal(one, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        del frame
        if self._received is not None:
            raise KeyboardInterrupt
        self._received = signum
        rank_zero_only(print)(
            f"\n{signal.Signals(signum).name}: ending after this step; once more ends at once.",
            flush=True,
        )

    def _silence(self) -> None:
        for one, former in self._former.items():
            signal.signal(one, former)
        self._former = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Takes the signals over from Lightning, which ends with 0 and prints nothing."""
        self._listen()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Likewise."""
        self._listen()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Gives the signals back."""
        self._silence()

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        """Saves and ends, if a signal has come."""
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        if trainer.world_size > 1 and trainer.global_step % trainer.log_every_n_steps:
            return
        signum = self._agreed(trainer)
        if signum is not None:
            module: Any = trainer.lightning_module
            module.finite.check(trainer, module.model)
            path = Path(trainer.default_root_dir) / LAST
            trainer.save_checkpoint(path, weights_only=False)
            raise Interrupted(signum, trainer.global_step)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Ends, if a signal has come."""
        self._end(trainer)

    def on_test_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Ends, if a signal has come."""
        self._end(trainer)

    def _end(self, trainer: L.Trainer) -> None:
        # Ranks may hold other numbers of batches here, so that they cannot be asked; the launcher
        # ends the others.
        if self._received is not None:
            raise Interrupted(self._received)

    def _agreed(self, trainer: L.Trainer) -> int | None:
        if trainer.world_size == 1:
            return self._received
        mine = torch.tensor(float(self._received or 0), device=trainer.strategy.root_device)
        most = int(trainer.strategy.reduce(mine, reduce_op="max"))
        return most or None
