"""The parts of a run around its model: task, data, trainer."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rsvlm.app.run_folder import run_state
from rsvlm.config.compose import plain
from rsvlm.config.instantiate import instantiate, optional


def build_task(cfg: DictConfig, model: Any) -> Any:
    """The family's LightningModule around a model."""
    parts = {
        "model": model,
        "loss": optional(cfg.loss),
        "optimizer": optional(cfg.optimizer),
        "scheduler": optional(cfg.scheduler),
        "evaluation": optional(cfg.evaluation),
        "config": plain(cfg),
        "seed": cfg.seed,
    }
    return instantiate(cfg.task, _partial_=True)(**parts)


def build_data(cfg: DictConfig, task: Any) -> Any:
    """The data module, told what the model needs."""
    data = instantiate(cfg.data)
    data.connect(
        preprocess=task.preprocess(),
        train_collate=task.train_collate(),
        eval_collate=task.eval_collate(),
        image_size=task.model.image_size,
    )
    return data


def build_trainer(cfg: DictConfig, out: Path) -> Any:
    """The trainer with its loggers and callbacks."""
    from rsvlm.lit.callbacks import LearningRates
    from rsvlm.lit.interrupt import Interrupt
    from rsvlm.lit.summary import Summary

    _quiet()
    state = run_state(out)
    loggers = []
    for kind, node in (cfg.logger or {}).items():
        extra: dict[str, Any] = {"save_dir": str(out)}
        if kind == "wandb":
            extra |= {"name": f"{cfg.name} {out.name}", "tags": list(cfg.tags)}
            extra |= {"id": state.get("wandb"), "config": plain(cfg)}
        made = instantiate(node, _partial_=True)(**extra)
        loggers += [] if made is None else [made]
    callbacks = [instantiate(node) for node in (cfg.callbacks or {}).values()]
    callbacks = [Interrupt(), Summary(), LearningRates(), *callbacks]
    return instantiate(cfg.trainer, _partial_=True)(
        logger=loggers or False, callbacks=callbacks, default_root_dir=str(out)
    )


def _quiet() -> None:
    """Lightning's tips and notes go through two handlers; its warnings are enough."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 under PyTorch 2.14; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
