"""Optimisers and schedules by numbers, with parameter groups by a named policy."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from rsvlm.errors import UserError, near
from rsvlm.models.protocols import is_generator


def _is_no_decay(name: str, parameter: nn.Parameter) -> bool:
    # open_clip's rule: gains, biases and logit_scale are 1-D or scalar.
    return parameter.ndim < 2 or "bn" in name or "ln" in name or "bias" in name


POLICIES = ("no_decay_norm_bias", "all")


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    policy: str,
    parts: Mapping[str, float] | None = None,
) -> list[dict]:
    """Splits what is trainable into named groups; every trainable parameter is in exactly one.

    Args:
        model: its parameters with `requires_grad` are taken.
        weight_decay: decay of the group `decay`.
        policy: `no_decay_norm_bias` spares gains, biases, norms and `logit_scale` (open_clip,
            ITRA, SkyScript); `all` decays everything.
        parts: first words of names that have groups and a learning rate of their own.

    Raises:
        UserError: unknown policy, nothing is trainable, or a part of which nothing is.
    """
    if policy not in POLICIES:
        raise UserError(f"optimizer.groups={policy!r} is unknown. {near(policy, POLICIES)}")
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise UserError("nothing is trainable: every parameter of the model is frozen.")
    groups = []
    for part, rate in {"": None, **(parts or {})}.items():
        mine = [(n, p) for n, p in named if _part(n, parts or {}) == part]
        if part and not mine:
            known = {n.partition(".")[0] for n, _ in named}
            raise UserError(
                f"optimizer.parts: nothing of {part!r} is trainable. {near(part, known)}"
            )
        spared = [p for n, p in mine if policy != "all" and _is_no_decay(n, p)]
        decayed = [p for n, p in mine if policy == "all" or not _is_no_decay(n, p)]
        front = f"{part}." if part else ""
        own = {} if rate is None else {"lr": rate}
        groups += [
            {"name": f"{front}decay", "params": decayed, "weight_decay": weight_decay, **own},
            {"name": f"{front}no_decay", "params": spared, "weight_decay": 0.0, **own},
        ]
    return [group for group in groups if group["params"]]


def _part(name: str, parts: Mapping[str, float]) -> str:
    first = name.partition(".")[0]
    return first if first in parts else ""


def _rate(lr: float | Mapping[str, float], model: nn.Module) -> float:
    """A learning rate, or that of the way in which the model or its language model is tuned."""
    if not isinstance(lr, Mapping):
        return lr
    tuning = model.tuning if is_generator(model) else None
    if not isinstance(tuning, str) or tuning not in lr:
        raise UserError(
            f"optimizer.lr has rates for model.tuning={', '.join(lr)}, the model's is {tuning}: "
            "give a number, optimizer.lr=1e-4."
        )
    return lr[tuning]


def adamw(
    model: nn.Module,
    *,
    lr: float | Mapping[str, float],
    weight_decay: float = 0.2,
    betas: tuple[float, float] = (0.9, 0.98),
    eps: float = 1e-6,
    groups: str = "no_decay_norm_bias",
    parts: Mapping[str, float] | None = None,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`; the defaults are open_clip's for ViT models.

    Args:
        model: what is trained.
        lr: the learning rate; or one for each way of tuning a language model,
            {full: 2e-5, lora: 2e-4}.
        weight_decay: see `parameter_groups`.
        betas: of the moments.
        eps: added to the root.
        groups: see `parameter_groups`.
        parts: part of the model -> its own learning rate, whatever the tuning.
        fused: torch's fused step.

    Raises:
        UserError: a way of tuning without a rate; see `parameter_groups`.
    """
    params = parameter_groups(model, weight_decay, groups, parts)
    rate = _rate(lr, model)
    return torch.optim.AdamW(params, lr=rate, betas=(betas[0], betas[1]), eps=eps, fused=fused)


def adam_by_part(
    model: nn.Module,
    *,
    lr: float,
    parts: dict[str, float] | None = None,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> torch.optim.Adam:
    """Adam with a named group for each part of the model, as change captioners are trained.

    Args:
        model: its trainable parameters are taken; a part is the first word of a name.
        lr: learning rate of parts that `parts` does not name.
        parts: part -> learning rate.
        betas: of the moments.
        eps: added to the root.

    Raises:
        UserError: a part that the model has not, or nothing is trainable.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(name.partition(".")[0], []).append(parameter)
    if not groups:
        raise UserError("nothing is trainable: every parameter of the model is frozen.")
    for part in parts or {}:
        if part not in groups:
            raise UserError(
                f"optimizer.parts: nothing of {part!r} is trainable. {near(part, groups)}"
            )
    rates = parts or {}
    return torch.optim.Adam(
        [{"name": n, "params": p, "lr": rates.get(n, lr)} for n, p in groups.items()],
        lr=lr,
        betas=(betas[0], betas[1]),
        eps=eps,
    )


def warmup_cosine(
    optimizer: torch.optim.Optimizer,
    *,
    total_steps: int,
    warmup_steps: float = 0,
    min_lr_ratio: float = 0.0,
    start_lr_ratio: float = 0.0,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then half a cosine down to `min_lr_ratio`, by optimiser step.

    Args:
        optimizer: what is scheduled.
        total_steps: optimiser steps of the whole run; taken from the trainer.
        warmup_steps: steps of the warm-up; a number below 1 is a share of `total_steps`.
        min_lr_ratio: last learning rate over the highest.
        start_lr_ratio: learning rate before the first step over the highest.
    """
    warmup = int(warmup_steps * total_steps) if warmup_steps < 1 else int(warmup_steps)

    def scale(step: int) -> float:
        if step < warmup:
            return start_lr_ratio + (1 - start_lr_ratio) * (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return min_lr_ratio + (1 - min_lr_ratio) * 0.5 * (1 + math.cos(math.pi * done))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, scale)


def constant(
    optimizer: torch.optim.Optimizer, *, total_steps: int, warmup_steps: int = 0
) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up, then a constant learning rate; `total_steps` is not used."""
    del total_steps
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup_steps))
    )


def step_decay(
    optimizer: torch.optim.Optimizer, *, total_steps: int, stairs: int = 10, factor: float = 0.5
) -> torch.optim.lr_scheduler.LambdaLR:
    """A learning rate that falls by `factor` after each of equal parts of the run.

    Args:
        optimizer: what is scheduled.
        total_steps: optimiser steps of the whole run; taken from the trainer.
        stairs: number of parts; 10 over 50 epochs is every 5 epochs.
        factor: rate of a part over that of the one before.

    Raises:
        UserError: no part at all.
    """
    if stairs < 1:
        raise UserError(f"scheduler.stairs={stairs}: a run has one part at least.")
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: factor ** min(stairs - 1, step * stairs // max(1, total_steps))
    )
