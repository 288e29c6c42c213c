"""RS-CapRet and SkyEyeGPT in the layouts that their ancestors' code reads."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsvlm.checkpoints.dialects import Dialect, revert
from rsvlm.checkpoints.hooks import own_weights
from rsvlm.errors import UserError


def write_fromage(model: Any, folder: Path) -> list[Path]:
    """FROMAGe's pruned checkpoint, `{"state_dict": ...}`.

    CLIP's projection, which neither model uses, stays out. A language model with a head of its own
    (LLaMA) has a row of [RET] there that FROMAGe, made for OPT, has no name for.

    Args:
        model: an `rsvlm.models.rscapret.model.RSCapRet`.
        folder: there already.

    Returns:
        The file written.

    Raises:
        UserError: another model, or a part that the layout has no place for.
    """
    from rsvlm.models.rscapret.model import RSCapRet

    if not isinstance(model, RSCapRet):
        raise UserError(f"--to fromage takes an RS-CapRet, not a {type(model).__name__}.")
    (dialect,) = model.dialects
    path = folder / "pretrained_ckpt.pth.tar"
    unused = {"vision.tower.proj"}
    torch.save({"state_dict": _reverted(model, dialect, unused)}, path)
    return [path]


def write_minigpt(model: Any, folder: Path) -> list[Path]:
    """MiniGPT-v2's checkpoint, `{"model": ...}`, with LoRA's names of the peft 0.2 that it pins.

    Args:
        model: an `rsvlm.models.skyeyegpt.model.SkyEyeGPT`.
        folder: there already.

    Returns:
        The file written.

    Raises:
        UserError: another model, or a part that the layout has no place for.
    """
    from rsvlm.models.skyeyegpt.model import SkyEyeGPT

    if not isinstance(model, SkyEyeGPT):
        raise UserError(f"--to minigptv2 takes a SkyEyeGPT, not a {type(model).__name__}.")
    path = folder / "checkpoint.pth"
    torch.save({"model": _reverted(model, model.dialects[0])}, path)
    return [path]


def _reverted(model: Any, dialect: Dialect, unused: Collection[str] = ()) -> dict[str, Tensor]:
    """What was trained, and what of the rest has no file of its own, in a layout's names."""
    sourced = own_weights(model)
    frozen = {
        name
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad and name.partition(".")[0] in sourced
    }
    own = {
        name: value for name, value in model.state_dict().items() if name not in {*frozen, *unused}
    }
    return {name: value.detach().cpu().clone() for name, value in revert(own, dialect).items()}
