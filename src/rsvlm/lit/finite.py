"""A training whose loss or weights are no numbers any more ends, and its checkpoints stay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.errors import UserError


class FiniteLosses:
    """Remembers the first step whose loss is infinite or no number."""

    def __init__(self) -> None:
        #: int64 [3] on the loss's device: step, batch and epoch; -1 while there is none.
        self._first: Tensor | None = None

    def note(self, loss: Tensor, step: int, batch: int, epoch: int) -> None:
        """Looks at a step's loss without waiting for the device.

        Args:
            loss: a number.
            step: optimiser steps before it.
            batch: of its epoch.
            epoch: from 0.
        """
        now = torch.tensor([step, batch, epoch], device=loss.device)
        if self._first is None:
            self._first = torch.full_like(now, -1)
        new = ~torch.isfinite(loss) & (self._first[0] < 0)
        self._first = torch.where(new, now, self._first)

    def check(self, trainer: Any, model: nn.Module | None = None) -> None:
        """Ends a training that has gone astray, on all ranks alike.

        Args:
            trainer: Lightning's.
            model: whose trained weights are looked at too, as before a checkpoint is written.

        Raises:
            UserError: a loss or a weight is infinite or no number; says since when.
        """
        # Under float16, steps that overflow are skipped by the loss scaling.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        step, batch, epoch = -1, -1, -1
        if self._first is not None and not scaled:
            step, batch, epoch = self._first.tolist()
        bad = step >= 0 or (model is not None and not _finite(model))
        if trainer.world_size > 1:
            flag = torch.tensor(float(bad), device=trainer.strategy.root_device)
            bad = bool(trainer.strategy.reduce(flag, reduce_op="sum") > 0)
        if not bad:
            return
        if step >= 0:
            what = f"the loss of step {step} (epoch {epoch}, batch {batch}) is not finite"
        else:
            what = f"weights or losses are not finite any more at step {trainer.global_step}"
        lr = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        else_try = [] if trainer.gradient_clip_val else ["trainer.gradient_clip_val=1.0"]
        if "32" not in str(trainer.precision):
            else_try.append("trainer.precision=32-true")
        others = f", or with {' or '.join(else_try)}" if else_try else ""
        raise UserError(
            f"{what}, so training stopped; the learning rate is {lr:.3g}. The checkpoints in "
            f"{trainer.default_root_dir} are from before and were not overwritten. Start again "
            f"with a smaller rate, as optimizer.lr={lr / 10:.1g}{others}."
        )


def _finite(model: nn.Module) -> bool:
    values = [p.detach() for p in model.parameters() if p.requires_grad]
    # Of a sharded parameter each rank sees its own part.
    local = [p.to_local() if hasattr(p, "to_local") else p for p in values]
    return all(bool(torch.isfinite(p).all()) for p in local)
