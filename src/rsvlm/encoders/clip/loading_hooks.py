"""What a CLIP says while a checkpoint is loaded into it; see `rsvlm.checkpoints.hooks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.hooks import Loaded
from rsvlm.checkpoints.zoo import Row
from rsvlm.encoders.clip.activation import check_row, explain_mismatch, settle_activation
from rsvlm.encoders.clip.layouts import CLIP_DIALECTS
from rsvlm.encoders.clip.towers import VisionTransformer


class ClipLoadingHooks:
    """Architecture, activation and normalisation of a CLIP held against its checkpoint."""

    dialects: Sequence[Dialect] = CLIP_DIALECTS
    arch: str
    activation: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def before_fetch(self, row: Row, where: str) -> None:
        """Refuses a zoo row of another architecture before anything is downloaded."""
        check_row(row, self.arch, where)

    def explain_mismatch(self, state: Mapping[str, Tensor]) -> str:
        """Which architecture a state dict is of, where it is of another one."""
        return explain_mismatch(state, self.arch)

    def before_assign(self: Any, loaded: Loaded) -> list[str]:
        """Settles the activation, without which features are wrong in silence.

        Raises:
            UserError: nothing says it, or two things contradict each other.
        """
        row = loaded.row
        self.set_activation(settle_activation(self.activation, loaded.contents, row, loaded.where))
        notes = [str(self.activation)]
        if row is not None:
            self.interpolation = row.interpolation
        if row is not None and (self.mean, self.std) != (row.mean, row.std):
            notes.append(f"images are normalised otherwise than in {row.name}")
        return notes

    def checkpoint_facts(self: Any) -> dict[str, Any]:
        """What tells a CLIP from others: sizes, activation, normalisation, what tunes it."""
        stem = None
        if isinstance(self.visual, VisionTransformer):
            stem = "patch" if self.visual.stem is None else "conv"
        return {
            "arch": self.arch,
            "activation": self.activation,
            "image_size": self.image_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "peft": self.peft,
            "peft_options": self.peft_options,
            "stem": stem,
        }
