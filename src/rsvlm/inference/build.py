"""The one place that builds a model: train, eval, predict, the tools and `rsvlm.load` call it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rsvlm import checkpoints
from rsvlm.checkpoints.hooks import own_weights
from rsvlm.checkpoints.resolve import resolve
from rsvlm.checkpoints.undrawn import built_and_loaded
from rsvlm.checkpoints.zoo import handed_in
from rsvlm.config.instantiate import instantiate
from rsvlm.errors import UserError
from rsvlm.inference.knowledge import with_knowledge
from rsvlm.inference.vocabulary import resolve_vocabulary
from rsvlm.models.protocols import check_model
from rsvlm.models.zoo import rows

log = logging.getLogger(__name__)


def build_model(
    cfg: DictConfig,
    out: Path | None = None,
    *,
    device: str | None = None,
    say: Callable[[str], None] = log.info,
) -> Any:
    """The model of a configuration with its weights.

    Args:
        cfg: composed by any verb, `ckpt` and `init` resolved (`own_configuration.bring`).
        out: folder of the run, for a vocabulary that is made of its data; None keeps it in memory.
        device: where to build it; `meta` suits a model whose checkpoint holds all of its tensors.
        say: gets the report of what was loaded.

    Raises:
        UserError: both `ckpt` and `init`, a checkpoint that cannot be had or does not fit, a part
            that cannot be built, or a class that lacks what is asked of a model
            (`models.protocols.check_model`).
    """
    import torch

    prepare(cfg, out)
    source = cfg.ckpt or cfg.init
    with handed_in(rows()):

        def make() -> Any:
            torch.manual_seed(cfg.seed)
            with torch.device(device or torch.get_default_device()):
                made = instantiate(cfg.model)
            check_model(made)
            return made

        def new(model: Any) -> tuple[str, ...]:
            # What a model is tuned with is new by definition.
            return (*cfg.init_new, *(checkpoints.adapter_parts(model) if cfg.init else ()))

        def load(model: Any) -> checkpoints.LoadReport:
            towers = list(own_weights(model))
            return checkpoints.load(model, source, new=new(model), towers=towers)

        if source:
            model, report = built_and_loaded(make, load, keeps=lambda model: bool(new(model)))
            say(str(report))
        else:
            model = make()
    knowledge = OmegaConf.select(cfg, "knowledge", default=None)
    return with_knowledge(model, knowledge) if knowledge else model


def prepare(cfg: DictConfig, out: Path | None = None) -> None:
    """Fetches the checkpoint and settles the vocabulary: what can fail before a model is built.

    Args:
        cfg: changed where the vocabulary is made of the data.
        out: folder of the run.

    Raises:
        UserError: see `build_model`.
    """
    if cfg.ckpt and cfg.init:
        raise UserError("ckpt= (this exact model) and init= (a start) exclude each other.")
    with handed_in(rows()):
        if cfg.ckpt or cfg.init:
            resolve(cfg.ckpt or cfg.init).local()
        resolve_vocabulary(cfg, out)


def built_to_ask(cfg: DictConfig) -> DictConfig:
    """What asking a model builds of a configuration: the model, and the data set of its words.

    The rest (trainer, loggers, callbacks) need not be imported to be held against its signatures.
    """
    held: Any = OmegaConf.to_container(cfg, resolve=False)
    parts = {
        "model": held.get("model"),
        "data": {"dataset": (held.get("data") or {}).get("dataset")},
    }
    return OmegaConf.create(parts)
