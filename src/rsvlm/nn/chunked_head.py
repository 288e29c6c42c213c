"""A head and its cross entropy word by word, so that logits of all words never stand in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def token_losses(
    head: Callable[[Tensor], Tensor], hidden: Tensor, targets: Tensor, chunk: int
) -> Tensor:
    """Cross entropies of words, `chunk` words at a time.

    Gradients are those of the whole; logits are computed once more on the way back, a chunk's at a
    time, which is a third more work in the head.

    Args:
        head: hidden states [n, dim] to logits [n, V].
        hidden: [N, dim].
        targets: [N] long.
        chunk: words at a time.

    Returns:
        [N, 2] in float32: minus the target's log-probability, and minus the mean one over the
        vocabulary, which label smoothing takes.
    """

    def some(states: Tensor, words: Tensor) -> Tensor:
        logs = F.log_softmax(head(states).float(), dim=-1)
        # A word that cannot be written has no probability, and no part in the mean.
        every = logs.masked_fill(logs.isneginf(), 0.0).mean(-1)
        return torch.stack([-logs.gather(-1, words[:, None])[:, 0], -every], dim=-1)

    parts = zip(hidden.split(chunk), targets.split(chunk), strict=True)
    if len(hidden) <= chunk:
        return some(hidden, targets)
    return torch.cat([checkpoint(some, *part, use_reentrant=False) for part in parts])
