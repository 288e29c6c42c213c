"""Model options of conf/ as tests build them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from omegaconf import OmegaConf


@cache
def _composed(words: tuple[str, ...]) -> Any:
    from rsvlm.config.compose import compose

    return compose("predict", words).model


def build(option: str, words: Sequence[str] = (), *, device: str | None = None, **values: Any):
    """The model of an option.

    Args:
        option: as behind `model=`.
        words: overrides.
        device: where it is built.
        values: of the model's node, merged into what is there.
    """
    from rsvlm.config.instantiate import instantiate

    node = _composed((f"model={option}", *words)).copy()
    OmegaConf.set_struct(node, False)
    if node.get("words") and "vocab_size" in values:
        node.words = None
    for key, value in values.items():
        OmegaConf.update(node, key, value, merge=True, force_add=True)
    with torch.device(device or torch.get_default_device()):
        return instantiate(node)
