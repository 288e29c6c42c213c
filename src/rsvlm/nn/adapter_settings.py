"""Presets of parameter-efficient tuning and their numbers, which are AdapterHub's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from rsvlm.errors import UserError, near


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates of the attention's projections (Hu et al., 2021, arXiv 2106.09685).

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r. Without effect under a gate, which takes the
            scale's place, in AdapterHub as in UniPELT's own code.
        dropout: on the input of the update.
        targets: of `q`, `k`, `v`.
    """

    r: int = 8
    alpha: float = 8
    dropout: float = 0.0
    targets: tuple[str, ...] = ("q", "v")

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(self.targets))
        if self.r < 1 or not 0 <= self.dropout < 1:
            raise UserError(
                f"lora: r={self.r} must be 1 or more, dropout={self.dropout} in [0, 1)."
            )
        if not self.targets or not set(self.targets) <= set("qkv"):
            raise UserError(f"lora.targets={list(self.targets)}: give some of q, k and v.")


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """A small MLP behind each block (Pfeiffer et al., 2021, arXiv 2005.00247).

    Attributes:
        reduction: the block's width over the MLP's.
    """

    reduction: int = 16

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise UserError(f"bottleneck.reduction={self.reduction}: it must be 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """Trained keys and values in front of each block's own (Li & Liang, 2021, arXiv 2101.00190).

    Attributes:
        length: number of keys and values.
        hidden: width of the MLP that makes them.
        flat: train them directly, without the MLP.
    """

    length: int = 30
    hidden: int = 512
    flat: bool = False

    def __post_init__(self) -> None:
        if self.length < 1 or self.hidden < 1:
            raise UserError(f"prefix: length={self.length}, hidden={self.hidden}: give 1 or more.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is added to a model.

    Attributes:
        lora: None for none, as the next two.
        bottleneck: the MLP.
        prefix: keys and values.
        gated: each part is scaled by a gate, one number per row, computed from the part's input
            (UniPELT, Mao et al., 2022, arXiv 2110.07577).
        train_logit_scale: also train the temperature (and the bias); AdapterHub freezes it.
    """

    lora: Lora | None = None
    bottleneck: Bottleneck | None = None
    prefix: Prefix | None = None
    gated: bool = False
    train_logit_scale: bool = False


#: AdapterHub's defaults: LoRAConfig, SeqBnConfig, PrefixTuningConfig, UniPELTConfig.
PRESETS = {
    "none": Settings(),
    "lora": Settings(lora=Lora()),
    "pfeiffer": Settings(bottleneck=Bottleneck()),
    "prefix": Settings(prefix=Prefix()),
    "unipelt": Settings(
        lora=Lora(alpha=2), bottleneck=Bottleneck(), prefix=Prefix(length=10), gated=True
    ),
}


def settings(kind: str, options: Mapping[str, Any] | None = None) -> Settings:
    """A preset with some of its numbers changed.

    Args:
        kind: one of `PRESETS`.
        options: by part, as `{"lora": {"r": 16}, "train_logit_scale": True}`.

    Raises:
        UserError: an unknown preset or option, or one that the preset does not have.
    """
    if kind not in PRESETS:
        raise UserError(f"model.peft={kind!r}. {near(kind, PRESETS)}")
    preset = PRESETS[kind]
    values = {field.name: getattr(preset, field.name) for field in fields(preset)}
    has = [name for name, value in values.items() if value is not None] if kind != "none" else []
    changed: dict[str, Any] = {}
    for name, value in (options or {}).items():
        if name not in has:
            raise UserError(f"model.peft={kind} has no option {name!r}. {near(name, has)}".rstrip())
        if isinstance(value, Mapping) != (name in ("lora", "bottleneck", "prefix")):
            raise UserError(f"model.peft_options.{name}={value!r}: see rsvlm.nn.adapters.Settings.")
        if isinstance(value, Mapping):
            known = [field.name for field in fields(values[name])]
            for key in value:
                if key not in known:
                    raise UserError(f"model.peft_options.{name} has no {key!r}. {near(key, known)}")
            value = replace(values[name], **value)
        changed[name] = value
    return replace(preset, **changed)


def changes(kind: str, options: Settings) -> dict[str, Any]:
    """What differs from the preset, plain, as the second argument of `settings`."""
    preset, own = asdict(PRESETS[kind]), asdict(options)
    out: dict[str, Any] = {}
    for name, value in own.items():
        if isinstance(value, dict):
            other = {key: inner for key, inner in value.items() if inner != preset[name][key]}
            if other:
                out[name] = {k: list(v) if isinstance(v, tuple) else v for k, v in other.items()}
        elif value != preset[name]:
            out[name] = value
    return out
