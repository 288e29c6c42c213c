"""A contrastive batch larger than memory: exact gradients, one micro-batch's activations at a time.

After Gao, Zhang, Han and Callan, 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup" (arXiv 2101.06983). A contrastive loss looks at all features of the batch, so plain
accumulation over micro-batches computes another loss. The way out: features of all micro-batches
without activations, the loss and its gradient with respect to the features, and then each
micro-batch once more with activations, from its features' gradient back to the weights.

Here autograd does the bookkeeping: each micro-batch is a checkpoint whose output are its features.
So it is one graph and one backward pass: precision, gradient clipping, `accumulate_grad_batches`
and the reduction over processes (once, behind the last micro-batch) work as without it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from rsvlm.errors import UserError


def check_micro_batch(model: nn.Module, size: int) -> None:
    """Refuse what would not be exact.

    Raises:
        UserError: a size below one, or a model whose features depend on the whole batch.
    """
    if size < 1:
        raise UserError(f"task.micro_batch={size}: it must be a positive number of pairs, or null.")
    norm = next((n for n, module in model.named_modules() if isinstance(module, _BatchNorm)), None)
    if norm is not None:
        raise UserError(
            f"task.micro_batch={size}: {norm} takes its statistics over the batch, and parts of a "
            "batch have others; it would also count each image twice. Use a ViT, or "
            "task.micro_batch=null."
        )


def forward_in_parts(model: nn.Module, batch: Any, size: int) -> dict[str, Tensor]:
    """What `model(batch)` gives, keeping no activations but those of `size` rows at a time.

    Costs one more forward pass. Dropout is drawn by micro-batch, and the same in both passes.

    Args:
        model: `model(batch) -> dict`; what it gives for a row must not depend on other rows (see
            `check_micro_batch`).
        batch: has `images` [B, ...] and `input_ids` [B, L], all that the model reads.
        size: rows of a micro-batch; the last one may be smaller.

    Returns:
        The model's outputs: joined along the rows, or the first micro-batch's where they have
        none (the temperature).

    Raises:
        ValueError: not one caption per image.
    """
    images, input_ids = batch.images, batch.input_ids
    if len(images) != len(input_ids):
        raise ValueError(
            f"a micro-batch needs its captions: {len(images)} images and {len(input_ids)} captions "
            "do not pair. The training collate must give one caption per image."
        )

    # Tensors as arguments, not the batch: a checkpoint saves the random states of the devices that
    # it finds among its arguments.
    def run(images: Tensor, input_ids: Tensor) -> dict[str, Tensor]:
        return model(SimpleNamespace(images=images, input_ids=input_ids))

    parts = [
        checkpoint(run, *rows, use_reentrant=False)
        for rows in zip(images.split(size), input_ids.split(size), strict=True)
    ]
    return {
        name: torch.cat([part[name] for part in parts]) if value.ndim else value
        for name, value in parts[0].items()
    }
