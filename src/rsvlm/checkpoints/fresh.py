"""What a checkpoint that a training starts from may lack, because it starts without an effect."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from rsvlm.checkpoints.read import Contents

Held = TypeVar("Held")

#: How a language model is tuned -> the parts that this adds. Their last factor starts at zero.
ADDED = {"lora": ("lora_A", "lora_B"), "moe_lora": ("moe",)}


def added(model: nn.Module) -> tuple[str, ...]:
    """The parts with which a model is tuned, as `checkpoints.load(new=)` takes them.

    With them as they start the model computes what it computes without them, so that a checkpoint
    of a model without them is as good a start as one with them.

    Args:
        model: a CLIP with `peft`, or a model with a `LanguageModel` as `lm`, whose `vision` may be
            tuned by LoRA (`EvaViT.tuned`).
    """
    if getattr(model, "peft", "none") != "none":
        return ("peft",)
    if getattr(getattr(model, "vision", None), "tuned", ()):
        return ADDED["lora"]
    return ADDED.get(getattr(getattr(model, "lm", None), "tuning", ""), ())


def beneath(contents: Contents, own: Collection[str]) -> Contents:
    """A checkpoint of ours in the names of a model that adds something to its layers.

    What it calls `q_proj.weight` is `q_proj.base_layer.weight` where LoRA or experts lie beside it.

    Args:
        contents: of a file of ours.
        own: the model's names.
    """
    assert contents.packed is not None
    names = {n.replace(".base_layer.", "."): n for n in own if ".base_layer." in n}
    names = {plain: name for plain, name in names.items() if plain not in own}

    def renamed(held: dict[str, Held]) -> dict[str, Held]:
        return {names.get(name, name): value for name, value in held.items()}

    towers: dict[str, Any] = {
        part: kept | {word: renamed(kept[word]) for word in ("shapes", "sums")}
        for part, kept in contents.packed["towers"].items()
    }
    packed = contents.packed | {"towers": towers}
    return replace(contents, tensors=renamed(contents.tensors), packed=packed)
