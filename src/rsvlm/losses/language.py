"""Cross entropy over the words of captions and answers.

With several processes the mean is taken over the words of all of them: each process gives its own
words' sum over the mean count, so that the mean over processes, which `DistributedDataParallel`
takes, is the loss of the global batch, however unevenly its words are spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError


def word_cross_entropy(logits: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy in float32 over the words of all processes.

    Args:
        logits: [N, V], the supervised positions only.
        targets: [N] long.
        smoothing: label smoothing.

    Returns:
        A scalar; 0 with a defined gradient where there is no word at all.
    """
    total = F.cross_entropy(logits.float(), targets, reduction="sum", label_smoothing=smoothing)
    return _mean(total, len(targets))


def cross_entropy_of(
    outputs: Mapping[str, Tensor], prefix: str = "", *, smoothing: float = 0.0
) -> Tensor:
    """The same of what a language model gives: logits, or the cross entropies made in chunks.

    Args:
        outputs: `logits` [N, V] and `targets` [N], or `token_losses` [N, 2] (see
            `nn.chunked_head`).
        prefix: of these names.
        smoothing: label smoothing.
    """
    made = outputs.get(f"{prefix}token_losses")
    if made is None:
        logits, targets = outputs[f"{prefix}logits"], outputs[f"{prefix}targets"]
        return word_cross_entropy(logits, targets, smoothing=smoothing)
    negative_logs, every = made.unbind(-1)
    return _mean(((1 - smoothing) * negative_logs + smoothing * every).sum(), len(made))


def _mean(total: Tensor, words: int) -> Tensor:
    """A sum over this process' words as its part of the mean over those of all processes."""
    count = torch.tensor(float(words), device=total.device)
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(count)
        count = count / dist.get_world_size()
    return total / count.clamp_min(1e-6)  # without a word anywhere the sum is 0


class CaptionLoss(nn.Module):
    """Cross entropy of the next word over the real steps of each caption.

    A caption of n ids, start and end included, has n - 1 steps; padding never counts. This is the
    published loss over packed sequences with padding ignored.

    Args:
        pad: id of the padding.
        smoothing: label smoothing.
    """

    def __init__(self, pad: int = 0, *, smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise UserError(f"loss.smoothing={smoothing}: it must lie in [0, 1).")
        self.pad, self.smoothing = pad, smoothing

    def forward(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            outputs: `logits` [B, T, V]; row t predicts word t + 1.
            batch: `input_ids` [B, L], `caption_lengths` [B] with start and end.

        Returns:
            `caption`, a scalar.
        """
        logits = outputs["logits"]
        targets = batch.input_ids[:, 1 : logits.shape[1] + 1]
        logits = logits[:, : targets.shape[1]]
        steps = torch.arange(targets.shape[1], device=targets.device)
        keep = steps < batch.caption_lengths.view(-1, 1) - 1
        keep &= targets != self.pad
        loss = word_cross_entropy(logits[keep], targets[keep], smoothing=self.smoothing)
        return {"caption": loss}


class AnswerLoss(nn.Module):
    """Cross entropy of the answers' tokens, as a `VisionLanguageModel` gives their logits.

    Args:
        smoothing: label smoothing.
        balance: weight of the load-balancing term that a mixture of experts gives (see
            `nn.moe_lora`); 0.01 as in Switch Transformers.
    """

    def __init__(self, *, smoothing: float = 0.0, balance: float = 0.01) -> None:
        super().__init__()
        if not 0 <= smoothing < 1:
            raise UserError(f"loss.smoothing={smoothing}: it must lie in [0, 1).")
        if balance < 0:
            raise UserError(f"loss.balance={balance}: it must be 0 or more.")
        self.smoothing, self.balance = smoothing, balance

    def forward(self, outputs: Mapping[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """The loss of one batch.

        Args:
            outputs: see `cross_entropy_of`, of the supervised positions; `balance`, a scalar, of a
                model with experts.
            batch: not read.

        Returns:
            `answer`, a scalar, and `balance`, weighted, of a model with experts.
        """
        del batch
        loss = cross_entropy_of(outputs, smoothing=self.smoothing)
        if "balance" not in outputs:
            return {"answer": loss}
        return {"answer": loss, "balance": self.balance * outputs["balance"]}
