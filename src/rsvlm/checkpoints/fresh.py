"""What a checkpoint that a training starts from may lack, because it starts without an effect."""

from __future__ import annotations

from torch import nn

#: How a language model is tuned -> the parts that this adds. Their last factor starts at zero.
ADDED = {"lora": ("lora_A", "lora_B"), "moe_lora": ("moe",)}


def added(model: nn.Module) -> tuple[str, ...]:
    """The parts with which a model is tuned, as `checkpoints.load(new=)` takes them.

    With them as they start the model computes what it computes without them, so that a checkpoint
    of a model without them is as good a start as one with them.

    Args:
        model: a CLIP with `peft`, or a model with a `LanguageModel` as `lm`.
    """
    if getattr(model, "peft", "none") != "none":
        return ("peft",)
    return ADDED.get(getattr(getattr(model, "lm", None), "tuning", ""), ())
