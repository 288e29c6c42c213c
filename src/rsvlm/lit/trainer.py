"""Lightning's Trainer with rsvlm's habits."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO

from rsvlm.checkpoints.verify import LAST, PREVIOUS, verify
from rsvlm.errors import UserError
from rsvlm.files import written_whole


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there: a kill leaves a whole one.

    The last checkpoint's predecessor stays beside it, for the day on which the last one is damaged.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Writes `checkpoint` to `path` in one step."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Into a file of Python's: torch's own writer hides why the disk did not take it.
        with written_whole(path) as part:
            with part.open("wb") as file:
                torch.save(checkpoint, file)
            if path.name == LAST:
                _keep(path)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint of ours; never runs code out of it."""
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no checkpoint {path}: the run was stopped before its first.")
        return load_own(path)


def load_own(path: Path) -> dict[str, Any]:
    """A checkpoint of a run, whole and plain.

    Raises:
        UserError: it is damaged, or no checkpoint of a run.
    """
    verify(path)
    try:
        held = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        # torch's own advice, weights_only=False, would run what the file says.
        said = str(error).partition("\n")[0]
        raise UserError(f"{path} is damaged, or no checkpoint of a run ({said}).") from error
    if not isinstance(held, dict) or not isinstance(held.get("rsvlm"), dict):
        raise UserError(f"{path} is no checkpoint of a run of rsvlm.")
    if not isinstance(held.get("global_step"), int):
        raise UserError(f"{path} does not say its step, so it is no checkpoint of a training.")
    return held


def _keep(path: Path) -> None:
    """Gives a checkpoint that is about to be replaced a second name, without copying it."""
    if not path.is_file():
        return
    link = path.with_name(f"{PREVIOUS}.part")
    with suppress(OSError):  # a file system without links keeps one checkpoint
        link.unlink(missing_ok=True)
        os.link(path, link)
        link.replace(path.with_name(PREVIOUS))


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
