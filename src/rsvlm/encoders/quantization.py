"""Frozen language models in few bits, and layers whose inner values are computed twice."""

from __future__ import annotations

import os
from collections import OrderedDict
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from rsvlm.errors import UserError, extra, near, needs_extra

#: Word to what bitsandbytes is told.
QUANTIZE: dict[str, dict[str, Any]] = {
    # QLoRA (Dettmers et al., 2023, arXiv 2305.14314): four bits a weight, scales in eight.
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    # LLM.int8 (Dettmers et al., 2022, arXiv 2208.07339).
    "int8": {"load_in_8bit": True},
}


def quantised(
    word: str | None, dtype: torch.dtype, weights: str | Path | None, tuning: str = "frozen"
) -> dict[str, Any]:
    """What `from_pretrained` is given to load weights in few bits.

    Args:
        word: one of `QUANTIZE`, or None for nothing.
        dtype: in which layers compute.
        weights: where they come from.
        tuning: how the model is tuned; weights of few bits are not trained themselves.

    Raises:
        UserError: an unknown word, tuning of all, random weights, no bitsandbytes, or no GPU.
    """
    if word is None:
        return {}
    if word not in QUANTIZE:
        raise UserError(f"model.lm.quantize={word!r} is not known. {near(word, QUANTIZE)}")
    if tuning == "full":
        raise UserError(
            f"model.lm.quantize={word}: weights of few bits are not trained; use tuning=lora."
        )
    if weights is None:
        raise UserError(
            f"model.lm.quantize={word} is for published weights: give model.lm.weights=<folder>."
        )
    if find_spec("bitsandbytes") is None:
        other = f"Or leave model.lm.quantize={word} out, with model.lm.dtype=bfloat16."
        raise needs_extra("quantize", "bitsandbytes", instead=other)
    if not torch.cuda.is_available():
        raise UserError(
            f"model.lm.quantize={word} needs a CUDA GPU, and this machine has none: leave it out, "
            "with model.lm.dtype=bfloat16."
        )
    with extra("language"):
        from transformers import BitsAndBytesConfig

    words = dict(QUANTIZE[word])
    if word == "nf4":
        words["bnb_4bit_compute_dtype"] = dtype
    # Each process has a GPU of its own; Lightning makes it the current one after this.
    device = int(os.environ.get("LOCAL_RANK", "0"))
    return {"quantization_config": BitsAndBytesConfig(**words), "device_map": {"": device}}


#: Ends of the names under which bitsandbytes keeps what its packed weights mean.
_STATE = (".absmax", ".quant_map", ".SCB", ".weight_format", ".nested_absmax", ".nested_quant_map")


def leave_state_out(module: nn.Module) -> None:
    """Keeps what belongs to packed weights out of a module's state dict.

    A frozen model in few bits comes from its source again, and packs itself; its checkpoint then
    holds what was trained, as that of any frozen model.
    """

    def drop(owner: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
        for name in [n for n in state if n.startswith(prefix)]:
            if name.endswith(_STATE) or ".quant_state." in name:
                del state[name]

    module.register_state_dict_post_hook(drop)


class _Twice:
    """A layer that keeps its inputs alone and runs again in the backward pass."""

    # Not __call__: hooks, such as those that gather a layer's shards, run once.
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run = super().forward  # type: ignore[misc]
        if not torch.is_grad_enabled():
            return run(*args, **kwargs)
        if torch.compiler.is_compiling():
            return checkpoint(run, *args, use_reentrant=False, **kwargs)
        inner = list(self.modules())[1:]  # type: ignore[attr-defined]
        hooks = [OrderedDict(module._forward_hooks) for module in inner]

        def again(*args: Any, **kwargs: Any) -> Any:
            # With the hooks of the first time: a step may run a layer with experts and without.
            now = [module._forward_hooks for module in inner]
            for module, then in zip(inner, hooks, strict=True):
                module._forward_hooks = then
            try:
                return run(*args, **kwargs)
            finally:
                for module, found in zip(inner, now, strict=True):
                    module._forward_hooks = found

        return checkpoint(again, *args, use_reentrant=False, **kwargs)


@cache
def _twice(kind: type) -> type:
    return type(kind.__name__, (_Twice, kind), {"__module__": kind.__module__})


def checkpoint_layers(model: nn.Module) -> int:
    """Let each transformer layer of a model of transformers compute its inner values twice.

    Gradients are the same to the bit. transformers' own switch acts in training mode alone, which
    frozen models are never in, as their dropout would wake up.

    Args:
        model: changed in place.

    Returns:
        The number of layers.

    Raises:
        UserError: the model has no layers that transformers marks for it.
    """
    with extra("language"):
        from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise UserError(
            f"model.lm.grad_checkpointing=true: a {type(model).__name__} has no layers for it."
        )
    for layer in layers:
        kind: Any = type(layer)
        layer.__class__ = _twice(kind)
    return len(layers)
