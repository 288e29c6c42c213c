"""LoRA within a model of another library, by peft, and the names of the layers that it tunes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from rsvlm.errors import UserError, extra, near

#: What an adapter is made of; `targets` are ends of the layers' names.
WORDS = ("r", "alpha", "dropout", "targets")


def add_lora(
    model: nn.Module, settings: Mapping[str, Any], defaults: Mapping[str, Any], *, where: str
) -> None:
    """Puts low-rank updates beside linear layers, in place (Hu et al., 2021, arXiv 2106.09685).

    What the model has stays as frozen or trained as it was.

    Args:
        model: of transformers, timm, or plain.
        settings: some of `WORDS`.
        defaults: all of them.
        where: what is tuned, as `model.lm`, for errors.

    Raises:
        UserError: an unknown word, no peft, or targets that the model has none of.
    """
    for word in settings:
        if word not in WORDS:
            raise UserError(f"lora: {word!r} is not known. {near(word, WORDS)}")
    chosen = {**defaults, **settings}
    with extra("peft"):
        from peft import LoraConfig, inject_adapter_in_model
    targets = list(chosen["targets"])
    config = LoraConfig(
        r=chosen["r"],
        lora_alpha=chosen["alpha"],
        lora_dropout=chosen["dropout"],
        target_modules=targets,
    )
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise UserError(f"lora: targets={targets} of {where}: {error}") from error
    for name, parameter in model.named_parameters():
        if ".lora_" in name:  # a step of 1e-5 is lost in bfloat16
            parameter.data = parameter.data.float()
        elif name.replace(".base_layer.", ".") in trained:  # peft freezes all that it did not add
            parameter.requires_grad_(True)


def tuned_layers(model: nn.Module) -> list[str]:
    """Names of the layers that LoRA or experts tune; numbers stand as {}."""
    names = [name for name, layer in model.named_modules() if hasattr(layer, "base_layer")]
    return list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "{}", name) for name in names))


def kinds(names: Sequence[str]) -> list[str]:
    """Last parts of layers' names, each once, sorted."""
    return sorted({name.rpartition(".")[2] for name in names})
