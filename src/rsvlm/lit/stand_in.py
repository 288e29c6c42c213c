"""Batches for ranks that have none, so that a model in shards runs on all ranks or on none.

Each pass through such a model is a pass of all ranks. A batch of an evaluation may hold nothing on
one of them: its samples could not be read, or ask nothing of the kind that is measured. That rank
then runs another's batch and keeps nothing.
"""

from __future__ import annotations

from typing import Any

import torch


def stand_in(task: Any, batch: Any) -> Any:
    """What this rank is to run in place of a batch that holds nothing; None where that is no need.

    All ranks call it at the same time, with a model in shards.

    Args:
        task: a `LitBase` in a trainer.
        batch: this rank's.

    Returns:
        Another rank's batch on this rank's device. None where this rank's holds something, where
        nobody's does, and where ranks run their models alone.
    """
    if not task.sharded:
        return None
    own = torch.tensor(len(batch) > 0, device=task.device)
    filled = task.all_gather(own).flatten().tolist()
    if all(filled) or not any(filled):
        return None
    strategy, giver = task.trainer.strategy, filled.index(True)
    sent = None
    if task.global_rank == giver:  # its own device is none of another rank's
        sent = strategy.batch_to_device(batch, torch.device("cpu"), dataloader_idx=0)
    given = strategy.broadcast(sent, src=giver)
    if len(batch):
        return None
    return strategy.batch_to_device(given, task.device, dataloader_idx=0)
