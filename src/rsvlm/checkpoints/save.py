"""Our own checkpoints: what was trained, and how to recognise what was not.

A frozen tower with a source is not saved; its source and a fingerprint are, and loading compares
them. Everything in the file is a tensor or plain, so that `weights_only=True` loads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from rsvlm.checkpoints.frozen import check_towers, fingerprint, frozen_names, left_out
from rsvlm.checkpoints.hooks import facts
from rsvlm.checkpoints.match import check, within
from rsvlm.errors import UserError

FORMAT = 1


def pack(
    model: nn.Module,
    config: Mapping[str, Any] | None = None,
    towers: Mapping[str, str | None] | None = None,
) -> dict[str, Any]:
    """What a checkpoint of `model` holds.

    Args:
        model: the model.
        config: the composed configuration as plain dicts, lists, numbers and strings.
        towers: frozen parts (as `visual`, `lm`) and where their weights come from; a part whose
            source is None is saved whole.

    Returns:
        `state_dict`: trainable tensors, all buffers, and frozen tensors without a source;
        `rsvlm`: the format, the configuration, facts of the model, and for each tower with a
        source that source and a fingerprint.

    Raises:
        UserError: the configuration holds something that is not plain, or a tower is unknown.
    """
    _check_plain(config or {}, "config")
    sources = {part: source for part, source in (towers or {}).items() if source is not None}
    state = model.state_dict()
    for part in sources:
        if not any(within(name, [part]) for name in state):
            raise UserError(f"towers: the model has no part {part!r}.")
    left = {part: frozen_names(model, part) for part in sources}
    out = {name for names in left.values() for name in names}
    return {
        "state_dict": {name: value for name, value in state.items() if name not in out},
        "rsvlm": {
            "format": FORMAT,
            "config": dict(config or {}),
            "model": facts(model),
            "towers": {
                part: {"source": source, **fingerprint(model, left[part])}
                for part, source in sources.items()
            },
        },
    }


def check_packed(
    model: nn.Module, packed: Mapping[str, Any], where: str = "the checkpoint"
) -> None:
    """Hold what `pack` gave against the model that is to take it; nothing is loaded.

    Args:
        model: the model, its towers' own weights loaded.
        packed: `state_dict` and `rsvlm` of a checkpoint.
        where: the file, for errors.

    Raises:
        UserError: another model's, tensors missing or unknown, or a tower that differs from the
            one it was trained with.
    """
    meta = packed["rsvlm"]
    then, now = meta["model"], facts(model)
    for word in ("class", "arch", "image_size", "activation", "peft", "variant"):
        if then.get(word) is not None and now.get(word) not in (None, then[word]):
            raise UserError(
                f"{where} is of another model: its {word} is {then[word]}, here it is {now[word]}."
            )
    if "words" in then and now.get("words", then["words"]) != then["words"]:
        raise UserError(
            f"{where} writes with {len(then['words'])} words of its own, and the model has another "
            f"vocabulary of {len(now['words'])}: leave model.words.path as the run had it."
        )
    check(model.state_dict(), packed["state_dict"], where=where, elsewhere=left_out(meta))
    check_towers(model, meta, where)


def _check_plain(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int):
                raise UserError(f"{where} has a key {key!r}; keys are strings or integers.")
            _check_plain(inner, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_plain(inner, f"{where}[{index}]")
    elif value is not None and type(value) not in (bool, int, float, str):
        raise UserError(
            f"{where} is a {type(value).__name__}; a checkpoint's configuration is plain: pass "
            "OmegaConf.to_container(cfg, resolve=True)."
        )


def tensors(path: Path, state: dict[str, Tensor]) -> Path:
    """Writes named tensors as safetensors."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(plain, path, metadata={"format": "pt"})
    return path
