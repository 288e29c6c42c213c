"""Fully sharded data parallel (FSDP2): parameters, gradients and optimiser states in shards.

Checkpoints stay single files with whole tensors, the same as a single process writes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from rsvlm.models.protocols import is_generator, is_image_text_encoder


class _Sharded(ModelParallelStrategy):
    """Data parallel over all processes, no tensor parallelism."""

    def setup_environment(self) -> None:
        """Sets the one mesh dimension before Lightning reads it."""
        self._data_parallel_size = self.num_processes * self.num_nodes
        self._tensor_parallel_size = 1
        super().setup_environment()


def strategy() -> ModelParallelStrategy:
    """Strategy for `trainer.strategy`; `LitBase.configure_model` shards the model."""
    return _Sharded(save_distributed_checkpoint=False)


def shard(model: nn.Module, mesh: Any) -> None:
    """Shards a model in place: each transformer block, and all the rest together.

    The rest, embedding tables and heads among it, is whole while the model runs, since parts of a
    model use each other's (a language model embeds what stands beside images). Scalars
    (`logit_scale`) cannot be sharded: they stay whole on every rank, and their gradients are
    averaged as those of the others are.
    """
    scalars = {p for p in model.parameters() if p.ndim == 0}
    # Inner blocks first, as torch wants them; what no one calls as a module would stay in shards.
    for module in reversed(list(model.modules())):
        if isinstance(module, nn.ModuleList):
            for block in module:
                called = type(block).forward is not nn.Module.forward
                if called and any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh, ignored_params=scalars)
    names = ("encode_image", "encode_text") if is_image_text_encoder(model) else ()
    for name in (*names, "generate") if is_generator(model) else names:
        register_fsdp_forward_method(model, name)
    for parameter in filter(lambda p: p.requires_grad, scalars):
        parameter.register_post_accumulate_grad_hook(_average)


def _average(parameter: torch.Tensor) -> None:
    if parameter.grad is not None:
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()
