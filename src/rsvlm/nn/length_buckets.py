"""A batch of dialogues in buckets of about one length, for generation.

Where parameters lie in shards, each pass through a block is a pass of all processes: they take as
many buckets, and write until the last of them has ended.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from rsvlm.errors import UserError


def in_shards(module: nn.Module) -> bool:
    """Whether a part of a module's parameters lies in other processes."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def most_of_all(count: int, device: torch.device) -> int:
    """The largest of all processes' numbers."""
    most = torch.tensor(count, device=device)
    dist.all_reduce(most, op=dist.ReduceOp.MAX)
    return int(most)


def length_buckets(batch: Any, most: int, *, shards: bool = False) -> list[list[int]]:
    """Row numbers, those with most images and text first; as they are where one bucket takes all.

    Args:
        batch: a `ChatBatch`.
        most: rows in a bucket.
        shards: see `in_shards`; the last bucket is then repeated where others have more.

    Raises:
        UserError: less than one row.
    """
    if most < 1:
        raise UserError(f"generate: rows={most}: it must be 1 or more.")
    words = batch.attention_mask.sum(1).tolist()
    order = list(range(len(words)))
    if len(order) > most:
        # Images of a prefix are not in the mask.
        order.sort(key=lambda row: (-len(batch.image_rows[row]), -words[row]))
    found = [order[start : start + most] for start in range(0, len(order), most)]
    if shards:
        found += found[-1:] * (most_of_all(len(found), batch.input_ids.device) - len(found))
    return found


def select_rows(batch: Any, tokens: Tensor, rows: list[int]) -> tuple[Any, Tensor]:
    """Some dialogues of a batch with the tower's tokens of the images that they show.

    Args:
        batch: a `ChatBatch`, padded on the left.
        tokens: [N, T, D] of all of its images.
        rows: which dialogues.

    Returns:
        What a `VisionLanguageModel` reads of a batch, without the padding that all of them have;
        and the tokens [n, T, D], each image once.
    """
    if rows == list(range(len(batch.input_ids))):
        return batch, tokens
    shown = [batch.image_rows[row] for row in rows]
    used = sorted({image for row in shown for image in row})
    place = {image: i for i, image in enumerate(used)}
    first = int(batch.attention_mask[rows].any(0).int().argmax())
    asked, read = (getattr(batch, f"instruction_{what}", None) for what in ("ids", "mask"))
    part = SimpleNamespace(
        image_rows=[tuple(place[image] for image in row) for row in shown],
        input_ids=batch.input_ids[rows, first:],
        attention_mask=batch.attention_mask[rows, first:],
        labels=batch.labels[rows, first:],
        instruction_ids=None if asked is None else asked[rows],
        instruction_mask=None if read is None else read[rows],
    )
    # The bridge of a bucket without images runs for nothing, as it does in a batch of texts.
    return part, tokens[used or [0]]
