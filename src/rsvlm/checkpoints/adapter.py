"""peft's adapter_config.json beside the weights of LoRA: what their names do not say."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from rsvlm.errors import UserError

#: The file's name, and words of it that give LoRA another form than ours.
CONFIG = "adapter_config.json"
_FORMS = ("use_dora", "use_qalora", "fan_in_fan_out", "lora_bias")


def check_adapter(
    model: nn.Module, names: Collection[str], config: Mapping[str, Any], where: str
) -> None:
    """Holds the scale of LoRA's updates against what they were trained with.

    Args:
        model: takes them; its tuned layers are peft's.
        names: the model's tensors that the file fills.
        config: of adapter_config.json.
        where: the file, for errors.

    Raises:
        UserError: the update is scaled otherwise (`lora_alpha`, `use_rslora`), or is of another
            form.
    """
    if not config or not any(".lora_" in name for name in names):
        return
    for word in _FORMS:
        if config.get(word):
            raise UserError(f"{where}: {CONFIG} says {word}, a form of LoRA that rsvlm has not.")
    for name, layer in model.named_modules():
        scaling = getattr(layer, "scaling", None)
        if not isinstance(scaling, dict) or not hasattr(layer, "lora_A"):
            continue
        for word, ours in scaling.items():
            rank = _number(config, "r", "rank_pattern", name, where)
            alpha = _number(config, "lora_alpha", "alpha_pattern", name, where)
            theirs = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
            if math.isclose(theirs, ours, rel_tol=1e-6):
                continue
            said = f"lora_alpha {alpha:g}, r {rank:g}" + (
                ", use_rslora" if config.get("use_rslora") else ""
            )
            wanted = theirs * layer.r[word]
            raise UserError(
                f"{where} was trained with LoRA's updates times {theirs:g} ({CONFIG}: {said}), and "
                f"the model has {ours:g} (in {name}): its outputs would be others. Give "
                f"model.lm.lora.alpha={wanted:.10g}."
            )


def _number(config: Mapping[str, Any], word: str, pattern: str, name: str, where: str) -> float:
    value: Any = config.get(word)
    patterns = config.get(pattern)
    if isinstance(patterns, Mapping):
        for key, other in patterns.items():
            if re.search(rf"(^|\.){re.escape(str(key))}$", name):
                value = other
    if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
        raise UserError(f"{where}: {CONFIG} says {word} is {value!r:.60}, not a number above 0.")
    return float(value)
