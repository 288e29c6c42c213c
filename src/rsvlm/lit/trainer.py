"""Lightning's Trainer with rsvlm's habits."""

from __future__ import annotations

import inspect
import io
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from rsvlm.errors import UserError
from rsvlm.files import written_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: a kill leaves a whole one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes `checkpoint` to `path` in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint of ours; never runs code out of it."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no checkpoint {path}: the run was stopped before its first.")
        return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)


class Trainer(L.Trainer):
    """Lightning's Trainer; `save_every` is the number of optimiser steps between checkpoints."""

    def __init__(self, *, save_every: int = 500, **kwargs: Any) -> None:
        if save_every < 1:
            raise UserError(f"trainer.save_every={save_every}: give a number of steps, 1 or more.")
        plugins = [*(kwargs.pop("plugins", None) or []), AtomicCheckpointIO()]
        super().__init__(
            plugins=plugins,
            use_distributed_sampler=False,  # data/loading/sampler.py splits over ranks
            enable_checkpointing=True,
            enable_model_summary=False,
            **kwargs,
        )
        self.save_every = save_every
        # What a model keeps in eval mode, by its own `train`, is meant to stay there.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")


# `run.check` holds a trainer node to this: all that Lightning takes, and our one word.
_lightning = list(inspect.signature(L.Trainer.__init__).parameters.values())[1:]
Trainer.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [*_lightning, inspect.Parameter("save_every", inspect.Parameter.KEYWORD_ONLY, default=500)]
)
