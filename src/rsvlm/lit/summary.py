"""What a training is, in a few lines before its first step, and a line for each of its epochs."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

#: The file beside the terminal, where the run has one (`app.run_log`).
log = logging.getLogger("rsvlm.run_log")


class Summary(Callback):
    """Prints device, precision, parameters, data, steps and folder; keeps epochs in the log."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Says what is about to be trained."""
        for line in opening(trainer, pl_module):
            rank_zero_only(print)(line, flush=True)
            rank_zero_only(log.info)(line)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """A line of the epoch's values, for the log alone: the bar shows them on the terminal."""
        values = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if isinstance(value, torch.Tensor) and value.numel() == 1
        }
        shown = ", ".join(f"{name} {value:.5g}" for name, value in sorted(values.items()))
        rank_zero_only(log.info)(
            f"epoch {trainer.current_epoch}, step {trainer.global_step}: {shown or 'no values'}"
        )


def opening(trainer: L.Trainer, module: Any) -> list[str]:
    """The lines."""
    parameters = list(module.model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    ranks = f" x {trainer.world_size}" if trainer.world_size > 1 else ""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    ends = [n for n in (trainer.max_steps,) if n and n > 0]
    if trainer.max_epochs and trainer.max_epochs > 0:
        ends.append(per_epoch * trainer.max_epochs)
    sizes = [
        f"{stage} {len(data.datasets[stage]):,}"
        for stage in ("train", "val", "test")
        if stage in data.datasets
    ]
    begun = f", from step {trainer.global_step:,} on" if trainer.global_step else ""
    steps = f"{min(ends):,} steps in all" if ends else "no end"
    kind, total = type(module.model).__name__, trained + frozen
    source = f"data {data.dataset('train').name}: {', '.join(sizes)}; batch {data.batch_size}"
    return [
        f"device {name}{ranks}, precision {trainer.precision}",
        f"model {kind}: {total:,} parameters, {trained:,} trained, {frozen:,} frozen",
        f"{source}, {per_epoch:,} steps an epoch, {steps}{begun}",
        f"run {trainer.default_root_dir}",
    ]
