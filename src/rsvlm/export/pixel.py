"""GeoPix as its folder of parts, LISA and PixelLM as their merged folders; LoRA folded in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from rsvlm.checkpoints.dialects import revert
from rsvlm.checkpoints.merge_lora import merged
from rsvlm.errors import UserError
from rsvlm.files import write_text

#: Parts of GeoPix's folder that are folders, and those that are lists of scalars.
FOLDERS, LISTS = ("vlm", "seg", "pec", "clm"), ("multiseg_scalar", "multiscale_scalar")


def write_geopix(model: Any, folder: Path) -> list[Path]:
    """`vlm/`, `seg/`, `pec/`, `clm/` and the loose files, as `checkpoints.load` reads them.

    Constants of the released attention, which carry nothing, stay out; rows of the word tables that
    belong to no word hold their mean.

    Args:
        model: an `rsvlm.models.geopix.model.GeoPix` with batch norms and a memory, as published.
        folder: there already.

    Returns:
        The files written.

    Raises:
        UserError: another model, or one that the layout has no place for.
    """
    from rsvlm.models.geopix.model import GeoPix

    if not isinstance(model, GeoPix):
        raise UserError(f"--to geopix takes a GeoPix, not a {type(model).__name__}.")
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in _state(model).items():
        part, _, rest = name.partition(".")
        groups.setdefault(part, {})[rest] = tensor
    files = []
    for part, tensors in groups.items():
        if part in FOLDERS:
            (folder / part).mkdir(exist_ok=True)
            files += [folder / part / "config.json", folder / part / "model.safetensors"]
            write_text(files[-2], json.dumps({"model_type": part}) + "\n")
            save_file(tensors, files[-1], metadata={"format": "pt"})
            continue
        files.append(folder / f"{part}.pth")
        rows = [tensors[str(i)] for i in range(len(tensors))] if part in LISTS else tensors
        torch.save(rows, files[-1])
    return files


def write_merged(model: Any, folder: Path) -> list[Path]:
    """`model.safetensors` in LISA's or PixelLM's names; CLIP stays out, as in their folders.

    Args:
        model: a `LISA` or a `PixelLM`.
        folder: there already.

    Returns:
        The file written.

    Raises:
        UserError: another model.
    """
    from rsvlm.models.lisa.model import LISA
    from rsvlm.models.pixellm.model import PixelLM

    if not isinstance(model, LISA | PixelLM):
        raise UserError(f"--to lisa and pixellm take these models, not a {type(model).__name__}.")
    path = folder / "model.safetensors"
    save_file(_state(model), path, metadata={"format": "pt"})
    return [path]


def _state(model: Any) -> dict[str, Tensor]:
    """All that a layout has names for, without LoRA and, beside a merged folder, without CLIP."""
    left = tuple(model.initial)
    alone = type(model).__name__ != "GeoPix"
    state = {
        name: tensor
        for name, tensor in merged(model).items()
        if name not in left and not (alone and name.startswith("vision."))
    }
    found = revert(state, model.published)
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in found.items()}
