"""The model that a run's checkpoint was saved of, without a recipe at hand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from rsvlm.checkpoints.load import dialects_of, load_contents
from rsvlm.checkpoints.read import read
from rsvlm.checkpoints.resolve import resolve
from rsvlm.errors import UserError
from rsvlm.models import builder


def restore(source: str, option: str | None = None, *, tokenizer: str | None = None) -> nn.Module:
    """A model that writes, with a checkpoint's weights, in eval mode on the CPU.

    Args:
        source: a checkpoint of a run, which says its model itself; or a published one, with
            `option`.
        option: model option of a published one; it is built without LoRA.
        tokenizer: folder of its language model's tokenizer.

    Raises:
        UserError: nothing says the model, or the checkpoint does not fit.
    """
    found = resolve(source)
    contents = read(found.local())
    if contents.packed is not None:
        config = contents.packed["config"].get("model")
        if not isinstance(config, Mapping):
            raise UserError(
                f"{found.name} does not say its model's configuration: it was packed without one."
            )
        model = build(config)
    elif option is not None:
        model = builder(option)(lm={"tuning": "frozen", "tokenizer": tokenizer})
    else:
        raise UserError(f"{found.name} is no run's checkpoint: name its model, --model llava.")
    towers = [name for name, part in model.named_children() if getattr(part, "weights", None)]
    load_contents(model, contents, found, towers=towers, dialects=dialects_of(model))
    return model.eval()


def build(config: Any) -> Any:
    """What a plain configuration describes: mappings with `_target_`, whose parts come first.

    Args:
        config: as a checkpoint holds it.

    Raises:
        UserError: a target outside of rsvlm; a file from elsewhere must not choose what is called.
    """
    if isinstance(config, list):
        return [build(part) for part in config]
    if not isinstance(config, Mapping):
        return config
    parts = {name: build(part) for name, part in config.items()}
    target = parts.pop("_target_", None)
    if target is None:
        return parts
    from rsvlm.check import locate

    if not str(target).startswith("rsvlm."):
        raise UserError(f"a checkpoint's configuration asks for {target}, which is not rsvlm's.")
    made = locate(str(target))
    return partial(made, **parts) if parts.pop("_partial_", False) else made(**parts)
