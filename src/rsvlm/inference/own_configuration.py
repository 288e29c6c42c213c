"""A checkpoint's own configuration: what `ckpt=` and `init=` of a run bring with them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rsvlm.checkpoints.read import read
from rsvlm.checkpoints.resolve import checkpoint_of, resolve
from rsvlm.config.compose import compose
from rsvlm.config.from_file import read_config, trusted
from rsvlm.errors import UserError
from rsvlm.models.zoo import rows

#: Groups that a checkpoint brings with `ckpt=`, unless the user or a recipe chooses others.
BROUGHT = ("model", "task", "data", "evaluation")


@dataclass(frozen=True)
class Said:
    """What the user typed.

    Attributes:
        words: overrides behind the verb.
        groups: group -> option of what the words, or a recipe that they name, choose.
        own: the user's own folder of configurations.
    """

    words: Sequence[str] = ()
    groups: Mapping[str, str] | None = None
    own: Path | None = None

    def typed(self, group: str) -> str | None:
        """The option of a group that stands on the command line itself."""
        for word in reversed(self.words):
            key, equals, value = word.lstrip("+").partition("=")
            if equals and key == group:
                return value.strip("'\"")
        return None

    def below(self, group: str) -> list[str]:
        """The words that set values within a group."""
        keys = (f"{group}.", f"{group}/", f"{group}@")
        return [word for word in self.words if word.lstrip("+~").startswith(keys)]


def bring(cfg: DictConfig, said: Said) -> DictConfig:
    """The configuration with what its checkpoint says of itself.

    `ckpt=` brings model and task, and data and evaluation too where neither the user nor a recipe
    names any; `init=` brings the model where nobody names one. Values that the user sets within a
    group are set on top. A published file that is in the zoo brings its row's model option.

    Args:
        cfg: composed; not changed.
        said: what the user typed.

    Raises:
        UserError: a model option beside it that is not the checkpoint's, or a configuration that
            may not be built.
    """
    source = cfg.ckpt or cfg.init
    if not source:
        return cfg
    cfg = cfg.copy()
    folder = Path(str(source)).expanduser()
    file = checkpoint_of(str(source))
    cfg["ckpt" if cfg.ckpt else "init"] = file
    held = _stored(folder, file, said.own)
    chosen = said.groups or {}
    if held is None:
        _of_the_zoo(cfg, file, said, chosen)
        return cfg
    model = held.get("model")
    if not isinstance(model, Mapping):
        return cfg
    free = {g for g in BROUGHT if g not in chosen}
    if cfg.init and "model" not in free:
        return cfg
    option = said.typed("model")
    if option is not None:
        _agree(cfg.model, model, option, str(source), _trained_as(Path(file).parent))
    groups = [g for g in BROUGHT if g in free or g in ("model", "task")] if cfg.ckpt else ["model"]
    OmegaConf.set_struct(cfg, False)
    for group in groups:
        if held.get(group) is None:
            continue
        before = OmegaConf.to_container(cfg[group], resolve=True) if cfg[group] else {}
        node = OmegaConf.create(held[group])
        if group == "model":
            _words_from_file(node)
        cfg[group] = node
        for word in said.below(group):
            key = word.lstrip("+~").partition("=")[0]
            if "/" in key or "@" in key:
                raise UserError(
                    f"{source} has its own {group}; {word} would make it another one. Leave "
                    f"{word} out, or start a training from its weights: rsvlm train init={source}."
                )
            value = OmegaConf.select(OmegaConf.create({group: before}), key)
            if key == "model.tuning" and cfg.ckpt:
                _same_tuning(str(source), model.get("tuning"), value)
            OmegaConf.update(cfg, key, value, force_add=True)
    OmegaConf.set_struct(cfg, True)
    return cfg


def _stored(folder: Path, file: str, own: Path | None) -> dict[str, Any] | None:
    """The configuration that a run's folder, or one of our checkpoints, holds; None for others."""
    for place in (folder, folder.parent):
        if (place / "config.yaml").is_file() and (folder.is_dir() or folder.suffix == ".ckpt"):
            return read_config(place / "config.yaml", own)
    path = Path(file)
    if path.suffix != ".ckpt" or not path.is_file():
        return None
    packed = read(path).packed
    if not packed:
        return None
    config = packed.get("config")
    if isinstance(config, Mapping) and config.get("model"):
        return trusted(config, file, own)
    facts = packed.get("model", {})
    if facts.get("class") != "CLIP":
        return None
    # A CLIP that no recipe made (an average of two) says itself what it is.
    words = ("arch", "activation", "image_size", "mean", "std", "stem", "peft", "peft_options")
    node = {word: facts[word] for word in words if facts.get(word) is not None}
    if "logit_bias" in read(path).tensors:
        node["logit_bias"] = 0.0
    return trusted({"model": {"_target_": "rsvlm.encoders.clip.model.clip", **node}}, file, own)


def _of_the_zoo(cfg: DictConfig, file: str, said: Said, chosen: Mapping[str, str]) -> None:
    """The row's model option, for a published file that the user named without one."""
    row = resolve(file, rows()).row
    if "model" in chosen or said.below("model"):
        return
    if row is None:
        raise UserError(
            f"{file} does not say which model it is: name it, model=<option>, as "
            "model=clip_vitb32 (rsvlm list models names them all)."
        )
    cfg.model = compose("predict", [f"model={row.model}"], said.own).model


def _trained_as(run: Path) -> str | None:
    """The model option that a run was trained with; None where its folder does not say."""
    try:
        held = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    word = held.get("model") if isinstance(held, dict) else None
    return word if isinstance(word, str) else None


def _agree(
    typed: DictConfig, held: Mapping[str, Any], option: str, source: str, trained: str | None
) -> None:
    """Holds a model option beside a run against the run's own model.

    They agree where the run was trained with this option, whatever was set within it; else where
    class, architecture and sizes are the same.

    Raises:
        UserError: it is another one; says by which value.
    """
    if trained == option:
        return
    ours = OmegaConf.to_container(typed, resolve=True)
    assert isinstance(ours, dict)
    theirs = dict(_values(held))
    for key, value in _values(ours):
        other = theirs.get(key)
        if None in (value, other) or value == other or _free(key):
            continue
        raise UserError(
            f"model={option} is not the model of {source}: its {key.strip('_')} is {value}, the "
            f"checkpoint's is {other}. Leave model= out: the checkpoint brings its own."
        )


def _values(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys of a node and their plain values."""
    if isinstance(node, Mapping):
        for key, inner in node.items():
            yield from _values(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def _free(key: str) -> bool:
    """Whether models of one architecture may differ in a value."""
    words = {
        "_target_",
        "arch",
        "variant",
        "system",
        "size",
        "image_size",
        "dim",
        "depth",
        "layers",
    }
    words |= {"heads", "queries", "width", "tokens", "select_layer"}
    return key.rpartition(".")[2] not in words


def _same_tuning(source: str, held: Any, typed: Any) -> None:
    """What tunes a run's model hangs on this word in several places, which hold values by now.

    Raises:
        UserError: another tuning than the run's.
    """
    if typed != held:
        raise UserError(
            f"{source} was trained with model.tuning={held}, and model.tuning={typed} would be "
            f"another model: say model.tuning={held}, or leave it out. To start a training from "
            f"its weights: rsvlm train init={source}."
        )


def _words_from_file(model: DictConfig) -> None:
    """A word map of the run's folder may have been left behind; its checkpoint holds the words."""
    node = model.get("words")
    path = node.get("path") if isinstance(node, DictConfig) else None
    if path is not None and not Path(str(path)).is_file():
        node.path = "data"
