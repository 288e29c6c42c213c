"""What a checkpoint that a training starts from may lack, because it starts without an effect."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any, TypeVar

from torch import nn

from rsvlm.checkpoints.hooks import TuningOf, facts_of
from rsvlm.checkpoints.match import within
from rsvlm.checkpoints.read import Contents
from rsvlm.errors import UserError

Held = TypeVar("Held")

#: How a language model is tuned -> the parts that this adds. Their last factor starts at zero.
ADDED = {"lora": ("lora_A", "lora_B"), "moe_lora": ("moe",)}


def adapter_parts(model: nn.Module) -> tuple[str, ...]:
    """The parts with which a model is tuned, as `checkpoints.load(new=)` takes them.

    With them as they start the model computes what it computes without them, so that a checkpoint
    of a model without them is as good a start as one with them.

    Args:
        model: says it itself, see `hooks.LoadingFacts`.
    """
    return tuple(facts_of(model).adapter_parts)


def to_base_layer_names(contents: Contents, own: Collection[str]) -> Contents:
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


def same_tuning(model: nn.Module, contents: Contents, given: Collection[str], where: str) -> None:
    """Refuses a checkpoint of ours whose model was tuned in another way.

    Args:
        model: takes it; see `hooks.TuningOf`.
        contents: of a file of ours.
        given: parts that may start fresh or come from elsewhere.
        where: the file, for errors.

    Raises:
        UserError: the tuning differs, and what the model adds may not start fresh.
    """
    tuning_of = model.tuning_of if isinstance(model, TuningOf) else _tuning_of
    theirs, mine = tuning_of(contents.tensors), tuning_of(model.state_dict())
    if theirs == mine:
        return
    ours = facts_of(model).tuning or "none"
    if theirs is not None:
        raise UserError(
            f"{where} was trained with model.tuning={theirs}, the model has model.tuning={ours}: "
            f"say model.tuning={theirs}."
        )
    added = adapter_parts(model)
    mine_alone = [name for name in model.state_dict() if within(name, added)]
    if not all(within(name, given) for name in mine_alone):
        raise UserError(
            f"{where} was trained without what model.tuning={ours} adds: say model.tuning=full (or "
            "frozen) to use it, or init= to start a training from it."
        )


def same_width(model: nn.Module, contents: Contents, where: str) -> None:
    """Refuses a checkpoint of ours whose language model has another width.

    Args:
        model: takes it.
        contents: of a file of ours.
        where: the file, for errors.

    Raises:
        UserError: the width differs.
    """
    assert contents.packed is not None
    width = facts_of(model).lm_dim
    shapes = {name: list(tensor.shape) for name, tensor in contents.tensors.items()}
    for kept in contents.packed["towers"].values():
        shapes |= kept["shapes"]
    ends = ("embed_tokens.weight", "embed_tokens.base_layer.weight")
    tables = [name for name in shapes if name.startswith("lm.") and name.endswith(ends)]
    if width is not None and tables and shapes[tables[0]][-1] != width:
        raise UserError(
            f"{where} was trained with a language model of width {shapes[tables[0]][-1]}, this one "
            f"has {width}: choose the model option, or the model/lm, that it was trained with."
        )


def _tuning_of(names: Collection[str]) -> str | None:
    held = [name for name in names if name.startswith("lm.")]
    return next((word for word, parts in ADDED.items() if _any(held, parts)), None)


def _any(names: Collection[str], parts: Collection[str]) -> bool:
    return any(f".{part}." in name for name in names for part in parts)
