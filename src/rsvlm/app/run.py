"""Fit, evaluate, predict: what the three verbs call.

Heavy imports are inside the functions, so that `rsvlm train --help` answers at once.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rsvlm.app.guards import check, chosen, device_of, guard, resumed, said, typed
from rsvlm.app.provenance import provenance
from rsvlm.app.run_folder import (
    make_folder,
    not_measured,
    page,
    run_state,
    source_of,
    write_results,
)
from rsvlm.app.run_log import say
from rsvlm.config.compose import plain
from rsvlm.errors import UserError
from rsvlm.files import write_text


def fit(
    cfg: DictConfig, out: Path | None = None, overrides: Sequence[str] | None = None
) -> float | None:
    """Trains, goes on with a killed run, measures the test split, and leaves the run's files.

    Args:
        cfg: composed from train.yaml.
        out: folder of the run; None takes Hydra's.
        overrides: what the user typed; None takes Hydra's.

    Returns:
        The best value of `callbacks.checkpoints.monitor`, for sweepers; None without one.
    """
    from lightning.pytorch.utilities import rank_zero_only

    from rsvlm.app.resume import check_is_training, requeued
    from rsvlm.app.run_lock import locked
    from rsvlm.inference.own_configuration import bring
    from rsvlm.lit.loggers import finish

    guard(cfg)
    resume = cfg.get("resume") is not None
    if resume:
        out = Path(cfg.resume).expanduser()
        cfg = resumed(cfg, typed(overrides))
        check_is_training(out)
    elif cfg.ckpt:
        raise UserError(
            "rsvlm train takes init=<checkpoint> (start a new training from it) or "
            "resume=<run dir> (go on with a run); ckpt= is for rsvlm eval and rsvlm predict."
        )
    else:
        cfg = bring(cfg, said(overrides))
    out = out or Path(HydraConfig.get().runtime.output_dir)
    check(cfg)
    make_folder(out)
    with locked(out, first=getattr(rank_zero_only, "rank", 0) == 0):
        try:
            return _fit(cfg, out, resume or requeued(out))
        finally:
            finish()


def _fit(cfg: DictConfig, out: Path, resume: bool) -> float | None:
    from rsvlm.app.build import build_data, build_task, build_trainer
    from rsvlm.app.checks import check_stages
    from rsvlm.app.measure import test_all
    from rsvlm.app.resume import newest_whole
    from rsvlm.inference.build import build_model, prepare
    from rsvlm.lit.callbacks import Checkpoints
    from rsvlm.lit.loggers import CSVLogger

    prepare(cfg, out)
    if not resume:
        begun = {
            "verb": "train",
            **provenance(),
            "argv": sys.argv,
            "model": chosen("model"),
        }
        write_text(out / "run.json", json.dumps(begun))
        write_text(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))

    task = build_task(cfg, build_model(cfg, out, say=say))
    data = build_data(cfg, task)
    check_stages(cfg, task, data)
    # Killed before its first checkpoint, a run starts at its beginning.
    start = newest_whole(out) if resume else None
    trainer = build_trainer(cfg, out)
    if cfg.compile:
        task.model.compile()
    if resume:
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.rewind(start[1]["global_step"] if start else 0)
    # The checkpoint of step 0 holds what the seed gives: nothing is to be restored.
    path = str(start[0]) if start and start[1]["global_step"] else None
    del start
    _remember_wandb(trainer, out)
    trainer.fit(task, datamodule=data, ckpt_path=path, weights_only=True)

    keeper = next((c for c in trainer.callbacks if isinstance(c, Checkpoints)), None)
    best = out / "best.ckpt"
    used = best if best.is_file() else out / "last.ckpt"
    missing = _not_tested(task, data, trainer)
    if not missing:
        own: dict[str, Any] = {"ckpt_path": str(used), "weights_only": True}
        test_all(trainer, task, data, out, checkpoint=str(used), anew=True, **own)
    if trainer.is_global_zero:
        write_results(out, task, str(used), chosen("model"))
        for text in not_measured(missing, keeper, trainer):
            say(text)
        page(out)
    return keeper.best if keeper else None


def evaluate(
    cfg: DictConfig, out: Path | None = None, overrides: Sequence[str] | None = None
) -> dict[str, float]:
    """Measures a checkpoint on the test split, or goes on with an evaluation that was stopped.

    It leaves predictions, metrics.json and pictures.
    """
    from rsvlm.app.measure import check_is_evaluation
    from rsvlm.inference.own_configuration import bring

    guard(cfg)
    resume = cfg.get("resume") is not None
    if resume:
        out = Path(cfg.resume).expanduser()
        check_is_evaluation(out)
        cfg = resumed(cfg, typed(overrides))
    else:
        out = out or Path(HydraConfig.get().runtime.output_dir)
        cfg = bring(cfg, said(overrides))
    return measure(cfg, out, resume=resume, option=chosen("model"))


def measure(
    cfg: DictConfig,
    out: Path,
    *,
    resume: bool = False,
    option: str | None = None,
    build: Callable[[DictConfig, Path], Any] | None = None,
    worst: bool = False,
) -> dict[str, float]:
    """An evaluation whose configuration has all that its checkpoint brings.

    Args:
        cfg: see `evaluate`; `ckpt` resolved (`own_configuration.bring`).
        out: folder of the run.
        resume: whether it goes on with what is there.
        option: the model option, for the results.
        build: makes the model, where several evaluations share one; None builds it here.
        worst: also draws the worst answers by themselves.

    Returns:
        Metric names and their values.
    """
    from lightning.pytorch.utilities import rank_zero_only

    from rsvlm.app.run_lock import locked

    if not cfg.evaluation:
        raise UserError("evaluation=none measures nothing; choose evaluation=retrieval, ...")
    check(cfg)
    make_folder(out)
    with locked(out, first=getattr(rank_zero_only, "rank", 0) == 0):
        return _evaluate(cfg, out, resume, option, build, worst)


def _evaluate(
    cfg: DictConfig,
    out: Path,
    resume: bool,
    option: str | None,
    build: Callable[[DictConfig, Path], Any] | None,
    worst: bool,
) -> dict[str, float]:
    from rsvlm.app.build import build_data, build_task, build_trainer
    from rsvlm.app.measure import test_all
    from rsvlm.inference.build import build_model, prepare

    prepare(cfg, out)
    if not resume:
        begun = {"verb": "eval", **provenance(), "argv": sys.argv, "model": option}
        write_text(out / "run.json", json.dumps(begun))
        write_text(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    task = build_task(cfg, build(cfg, out) if build else build_model(cfg, out, say=say))
    source = source_of(cfg.ckpt, task.model)
    if source == "random":
        say("no ckpt= is given: the model is random, and the numbers are those of chance.")
    data = build_data(cfg, task)
    trainer = build_trainer(cfg, out)
    test_all(trainer, task, data, out, checkpoint=source, worst=worst)
    if trainer.is_global_zero:
        write_results(out, task, source, option)
        page(out)
    return {row["name"]: row["value"] for row in task.results}


def predict(
    cfg: DictConfig, out: Path | None = None, overrides: Sequence[str] | None = None
) -> Any:
    """Asks a model about pictures, holds a dialogue, or looks through a folder for a text."""
    from PIL import Image

    from rsvlm.inference.build import build_model, built_to_ask
    from rsvlm.inference.display import show
    from rsvlm.inference.own_configuration import bring

    # What is scaled down is told in our own words; Pillow refuses twice the size that it warns of.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    out = out or Path(HydraConfig.get().runtime.output_dir)
    cfg = bring(cfg, said(overrides))
    check(built_to_ask(cfg))
    device = device_of(cfg)
    model = build_model(cfg, say=print).eval().to(device)
    if source_of(cfg.ckpt, model) == "random" and next(model.parameters(), None) is not None:
        print("no ckpt= is given: the model is random, and so is what it says.")
    return show(
        model,
        out,
        pictures=[p for p in (cfg.image, cfg.before, cfg.after) if p],
        prompt=(cfg.text or cfg.prompt if cfg.gallery else cfg.prompt or cfg.text) or "",
        gallery=cfg.gallery,
        picture=cfg.out,
        batch_size=cfg.batch_size,
    )


# Behind the verbs ---------------------------------------------------------------------------


def _not_tested(task: Any, data: Any, trainer: Any) -> str:
    """Why the test split is not measured at the end; empty where it is."""
    if task.evaluation is None:
        return "evaluation=none"
    if not data.has("test"):
        return "data.splits.test is null"
    return "trainer.limit_test_batches=0" if trainer.limit_test_batches == 0 else ""


def _remember_wandb(trainer: Any, out: Path) -> None:
    for logger in trainer.loggers:
        if type(logger).__name__ == "WandbLogger" and trainer.is_global_zero:
            state = run_state(out) | {"wandb": logger.experiment.id}
            write_text(out / "run.json", json.dumps(state))
