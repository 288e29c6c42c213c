"""Fit, evaluate, predict: what the three verbs call.

Heavy imports are inside the functions, so that `rsvlm train --help` answers at once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from rsvlm.app.guards import check, chosen, guard, resumed, said, typed
from rsvlm.app.provenance import provenance
from rsvlm.app.run_folder import page, run_state, source_of, write_results
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
    from rsvlm.app.build import build_data, build_task, build_trainer
    from rsvlm.inference.build import build_model, prepare
    from rsvlm.inference.own_configuration import bring

    guard(cfg)
    resume = not OmegaConf.is_missing(cfg, "resume")
    if resume:
        out = Path(cfg.resume)
        cfg = resumed(cfg, typed(overrides))
    elif cfg.ckpt:
        raise UserError(
            "rsvlm train takes init=<checkpoint> (start a new training from it) or "
            "resume=<run dir> (go on with a run); ckpt= is for rsvlm eval and rsvlm predict."
        )
    else:
        cfg = bring(cfg, said(overrides))
    out = out or Path(HydraConfig.get().runtime.output_dir)
    check(cfg)
    out.mkdir(parents=True, exist_ok=True)
    prepare(cfg, out)
    if not resume:
        write_text(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        begun = {**provenance(), "argv": sys.argv, "model": chosen("model")}
        write_text(out / "run.json", json.dumps(begun))

    task = build_task(cfg, build_model(cfg, out, say=print))
    data = build_data(cfg, task)
    trainer = build_trainer(cfg, out)
    if cfg.compile:
        task.model.compile()
    last = out / "last.ckpt"
    # Killed before its first checkpoint, a run starts at its beginning.
    start = str(last) if resume and last.is_file() else None
    if resume:
        _rewind(trainer, start)
    _remember_wandb(trainer, out)
    trainer.fit(task, datamodule=data, ckpt_path=start, weights_only=True)

    keeper = next((c for c in trainer.callbacks if hasattr(c, "best")), None)
    best = out / "best.ckpt"
    used = best if best.is_file() else last
    if task.evaluation is not None and data.has("test") and trainer.limit_test_batches != 0:
        _measure(trainer, task, data, out, ckpt_path=str(used), weights_only=True)
    if trainer.is_global_zero:
        write_results(out, task, str(used), chosen("model"))
        page(out)
    return keeper.best if keeper else None


def evaluate(
    cfg: DictConfig, out: Path | None = None, overrides: Sequence[str] | None = None
) -> dict[str, float]:
    """Measures a checkpoint on the test split and leaves metrics.json and pictures."""
    from rsvlm.app.build import build_data, build_task, build_trainer
    from rsvlm.inference.build import build_model, prepare
    from rsvlm.inference.own_configuration import bring

    guard(cfg)
    out = out or Path(HydraConfig.get().runtime.output_dir)
    cfg = bring(cfg, said(overrides))
    if not cfg.evaluation:
        raise UserError("evaluation=none measures nothing; choose evaluation=retrieval, ...")
    check(cfg)
    out.mkdir(parents=True, exist_ok=True)
    prepare(cfg, out)
    write_text(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    task = build_task(cfg, build_model(cfg, out, say=print))
    source = source_of(cfg.ckpt, task.model)
    if source == "random":
        print("no ckpt= is given: the model is random, and the numbers are those of chance.")
    data = build_data(cfg, task)
    trainer = build_trainer(cfg, out)
    _measure(trainer, task, data, out)
    if trainer.is_global_zero:
        write_results(out, task, source, chosen("model"))
        page(out)
    return {row["name"]: row["value"] for row in task.results}


def predict(
    cfg: DictConfig, out: Path | None = None, overrides: Sequence[str] | None = None
) -> Any:
    """Asks a model about pictures, holds a dialogue, or looks through a folder for a text."""
    from rsvlm.inference.build import build_model, built_to_ask
    from rsvlm.inference.display import show
    from rsvlm.inference.own_configuration import bring

    out = out or Path(HydraConfig.get().runtime.output_dir)
    cfg = bring(cfg, said(overrides))
    check(built_to_ask(cfg))
    return show(
        build_model(cfg, out, say=print).eval(),
        out,
        pictures=[p for p in (cfg.image, cfg.before, cfg.after) if p],
        prompt=(cfg.text or cfg.prompt if cfg.gallery else cfg.prompt or cfg.text) or "",
        gallery=cfg.gallery,
        picture=cfg.out,
    )


# Behind the verbs ---------------------------------------------------------------------------


def _rewind(trainer: Any, start: str | None) -> None:
    import torch

    step = torch.load(start, map_location="cpu", weights_only=True)["global_step"] if start else 0
    for logger in trainer.loggers:
        if hasattr(logger, "rewind"):
            logger.rewind(step)


def _remember_wandb(trainer: Any, out: Path) -> None:
    for logger in trainer.loggers:
        if type(logger).__name__ == "WandbLogger" and trainer.is_global_zero:
            state = run_state(out) | {"wandb": logger.experiment.id}
            write_text(out / "run.json", json.dumps(state))


def _measure(trainer: Any, task: Any, data: Any, out: Path, **options: Any) -> None:
    """Tests on each test split, draws what was found, and adds the mean of a suite."""
    from rsvlm.metrics.names import metric_name, parse

    for split in data.test_splits:
        data.use_test(split)
        trainer.test(task, datamodule=data, verbose=False, **options)
        if trainer.is_global_zero:
            pictures = out / "pictures"
            if len(data.test_splits) > 1:
                pictures = pictures / data.dataset("test").name
            task.evaluation.draw(
                task.model.eval(), data.dataset("test"), task.preprocess(), pictures
            )
    if data.suite and len(data.test_splits) > 1:
        rows = [row for row in task.results if row["name"].startswith("test/")]
        for word in dict.fromkeys(parse(row["name"]).metric for row in rows):
            same = [row for row in rows if parse(row["name"]).metric == word]
            mean = same[0] | {
                "name": metric_name("test", data.suite, task.evaluation.protocol, word),
                "dataset": data.suite,
                "split": "+".join(map(str, data.test_splits)),
            }
            for key in ("value", "chance"):
                if key in mean:
                    mean[key] = sum(row[key] for row in same) / len(same)
            mean["count"] = sum(row["count"] for row in same)
            task.results.append(mean)
