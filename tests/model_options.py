"""Model options of conf/ as tests build them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        values: of the model's node; those of a part (`lm={"size": ...}`) take the place of its own.
    """
    from rsvlm.config.instantiate import instantiate

    node = _composed((f"model={option}", *words)).copy()
    node._set_flag(["struct", "allow_objects"], [False, True])
    if node.get("words") and "vocab_size" in values:
        node.words = None
    for key, value in values.items():
        if isinstance(value, Mapping) and OmegaConf.is_dict(node.get(key)):
            for word, part in value.items():
                node[key][word] = part
        else:
            node[key] = value
    with torch.device(device or torch.get_default_device()):
        return instantiate(node)


def hf_vlm(*, lm: Mapping[str, Any], **options: Any):
    """A model of transformers by what differs in its `lm`, tuned by LoRA where that says nothing.

    Args:
        lm: options of `ImageTextModel`.
        options: of the model's node.
    """
    return build("hf_vlm", lm={"tuning": "lora", **lm}, **{"tuning": None, **options})
