"""Model options of conf/ as benchmarks build them, with other sizes where a machine is small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rsvlm.config.compose import compose
from rsvlm.config.instantiate import instantiate


def build(option: str, words: Sequence[str] = (), device: str = "cpu") -> Any:
    """A model with random weights.

    Args:
        option: as behind `model=`.
        words: overrides within the model's node, as `lm.dtype=bfloat16` or `+vocab_size=100`.
        device: where it is built.
    """
    within = ["+" * word.startswith("+") + f"model.{word.removeprefix('+')}" for word in words]
    cfg = compose("predict", [f"model={option}", *within])
    with torch.device(device):
        return instantiate(cfg.model)
