"""Fit, evaluate, predict: what the three entry points call.

Heavy imports are inside the functions, so that `train.py --help` answers at once.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    InstantiationException,
    OverrideParseException,
)
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from rsvlm import check as _check
from rsvlm.cli import command_line
from rsvlm.errors import UserError
from rsvlm.folder import git_commit, page, run_state, source_of, write, write_results
from rsvlm.schema import PredictSchema, Schema

CONF = Path(__file__).parents[2] / "conf"


def register() -> None:
    """Makes the top-level schemas known to Hydra; entry points call it, an import does not."""
    store = ConfigStore.instance()
    store.store(name="schema", node=Schema)
    store.store(name="predict_schema", node=PredictSchema)


def entry(main: Callable[[], Any]) -> None:
    """Runs a `hydra.main` function; the user's errors are one message without a traceback."""
    register()
    try:
        sys.argv[1:] = command_line(sys.argv[1:], CONF)
        main()
    except (UserError, ConfigCompositionException, OverrideParseException) as error:
        sys.exit(f"error: {error}")
    except InstantiationException as error:
        cause = _cause(error)
        if isinstance(cause, UserError):
            sys.exit(f"error: {cause}")
        raise


def _cause(error: BaseException) -> BaseException:
    """What was raised inside of what Hydra builds, without Hydra's own errors around it."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    return error


def check(cfg: DictConfig) -> int:
    """Binds every `_target_` node to its signature; see `rsvlm.check`."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return _check.check(cfg, dict(choices), CONF)


# What is refused before anything is built ---------------------------------------------------


def guard(cfg: DictConfig) -> None:
    """Refuses launches that would go wrong half-way, with the command that works.

    Raises:
        UserError: a launcher without `-m`, or several processes inside a plain multirun.
    """
    if not HydraConfig.initialized():
        return
    hydra = HydraConfig.get()
    launcher = hydra.runtime.choices.get("hydra/launcher") or "basic"
    multirun = hydra.mode == RunMode.MULTIRUN
    if launcher != "basic" and not multirun:
        raise UserError(
            f"hydra/launcher={launcher} acts in a multirun only: add -m to the command."
        )
    devices = cfg.trainer.get("devices", 1)
    if multirun and launcher == "basic" and devices not in (1, "1", "auto"):
        raise UserError(
            f"trainer.devices={devices} in a multirun: Lightning would start the whole sweep again "
            "on every rank. Give each job to a launcher (hydra/launcher=slurm_8gpu), or run the "
            "values one by one without -m."
        )


def resumed(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration of the run that `resume` names, with `trainer.*` and `logger.*` applied.

    Raises:
        UserError: another word beside `resume`.
    """
    run = Path(cfg.resume)
    alone = [o for o in overrides if not o.startswith(("resume=", "hydra."))]
    wrong = [o for o in alone if not o.startswith(("trainer.", "logger."))]
    if wrong:
        raise UserError(
            f"resume={run} goes on with that run as it was; {', '.join(wrong)} would make it "
            "another one. Only trainer.* and logger.* may change; to start anew from its weights, "
            f"use init={run / 'last.ckpt'}."
        )
    if not (run / "config.yaml").is_file():
        raise UserError(f"resume={run}: there is no config.yaml, so this is not a run's folder.")
    saved = OmegaConf.load(run / "config.yaml")
    assert isinstance(saved, DictConfig)
    OmegaConf.set_struct(saved, True)
    for override in alone:
        key, _, _ = override.partition("=")
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
    return saved


def _quiet() -> None:
    """Lightning's tips and notes go through two handlers; its warnings are enough."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 under PyTorch 2.14; nothing that a user could mend.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")


# Building -----------------------------------------------------------------------------------


def settle_words(cfg: DictConfig, out: Path) -> None:
    """Gives a model with a word vocabulary its words; see `lit/words.py`."""
    from rsvlm.lit.words import settle

    settle(cfg, out)


def build_model(cfg: DictConfig) -> Any:
    """The model of the configuration with its weights, before Lightning sees it."""
    import torch

    from rsvlm import checkpoints
    from rsvlm.checkpoints.resolve import resolve

    if cfg.ckpt and cfg.init:
        raise UserError("ckpt= (this exact model) and init= (a start) exclude each other.")
    if cfg.ckpt or cfg.init:
        # A file that cannot be had is told before a large model is built.
        resolve(cfg.ckpt or cfg.init).local()
    torch.manual_seed(cfg.seed)
    model = instantiate(cfg.model)
    if cfg.ckpt or cfg.init:
        # What a model is tuned with is new by definition.
        fresh = (*cfg.init_new, *(checkpoints.added(model) if cfg.init else ()))
        # A tower with a file of its own has its weights already.
        towers = [name for name, part in model.named_children() if getattr(part, "weights", None)]
        print(checkpoints.load(model, cfg.ckpt or cfg.init, new=fresh, towers=towers))
    return model


def build_task(cfg: DictConfig, model: Any) -> Any:
    """The family's LightningModule around a model."""
    parts = {
        "model": model,
        "loss": instantiate(cfg.loss) if cfg.loss else None,
        "optimizer": instantiate(cfg.optimizer) if cfg.optimizer else None,
        "scheduler": instantiate(cfg.scheduler) if cfg.scheduler else None,
        "evaluation": instantiate(cfg.evaluation) if cfg.evaluation else None,
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
    _quiet()
    state = run_state(out)
    loggers = []
    for kind, node in (cfg.logger or {}).items():
        extra: dict[str, Any] = {"save_dir": str(out)}
        if kind == "wandb":
            extra |= {"name": cfg.name, "tags": list(cfg.tags), "id": state.get("wandb")}
        loggers.append(instantiate(node, _partial_=True)(**extra))
    callbacks = [instantiate(node) for node in (cfg.callbacks or {}).values()]
    return instantiate(cfg.trainer, _partial_=True)(
        logger=loggers or False, callbacks=callbacks, default_root_dir=str(out)
    )


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as plain dicts; words that were not given are left out."""
    names = [str(name) for name in cfg if not OmegaConf.is_missing(cfg, name)]
    resolved = OmegaConf.to_container(OmegaConf.masked_copy(cfg, names), resolve=True)
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items() if name != "resume"}


# The three verbs ----------------------------------------------------------------------------


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
    guard(cfg)
    resume = not OmegaConf.is_missing(cfg, "resume")
    if resume:
        out = Path(cfg.resume)
        cfg = resumed(cfg, _overrides(overrides))
    elif cfg.ckpt:
        raise UserError(
            "train.py takes init=<checkpoint> (start a new training from it) or resume=<run dir> "
            "(go on with a run); ckpt= is for eval.py and predict.py."
        )
    out = out or Path(HydraConfig.get().runtime.output_dir)
    check(cfg)
    out.mkdir(parents=True, exist_ok=True)
    settle_words(cfg, out)
    if not resume:
        write(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
        begun = {"git_commit": git_commit(), "argv": sys.argv, "model": _chosen("model")}
        write(out / "run.json", json.dumps(begun))

    task = build_task(cfg, build_model(cfg))
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
        write_results(out, task, str(used), _chosen("model"))
        page(out)
    return keeper.best if keeper else None


def evaluate(cfg: DictConfig, out: Path | None = None) -> dict[str, float]:
    """Measures a checkpoint on the test split and leaves metrics.json and pictures."""
    guard(cfg)
    out = out or Path(HydraConfig.get().runtime.output_dir)
    if not cfg.evaluation:
        raise UserError("evaluation=none measures nothing; choose evaluation=retrieval, ...")
    check(cfg)
    out.mkdir(parents=True, exist_ok=True)
    settle_words(cfg, out)
    write(out / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    task = build_task(cfg, build_model(cfg))
    source = source_of(cfg.ckpt, task.model)
    if source == "random":
        print("no ckpt= is given: the model is random, and the numbers are those of chance.")
    data = build_data(cfg, task)
    trainer = build_trainer(cfg, out)
    _measure(trainer, task, data, out)
    if trainer.is_global_zero:
        write_results(out, task, source, _chosen("model"))
        page(out)
    return {row["name"]: row["value"] for row in task.results}


def predict(cfg: DictConfig, out: Path | None = None) -> Any:
    """Asks a model about pictures, holds a dialogue, or looks through a folder for a text."""
    from rsvlm.showing import show

    check(cfg)
    out = out or Path(HydraConfig.get().runtime.output_dir)
    settle_words(cfg, out)
    return show(
        build_model(cfg).eval(),
        out,
        pictures=[p for p in (cfg.image, cfg.before, cfg.after) if p],
        prompt=(cfg.text or cfg.prompt if cfg.gallery else cfg.prompt or cfg.text) or "",
        gallery=cfg.gallery,
        picture=cfg.out,
    )


def load(words: Sequence[str]) -> Any:
    """The model that predict.py would ask with these words, ready to be asked; for the tools.

    Raises:
        UserError: a word that the configuration does not know, or whatever building tells.
    """
    from hydra import compose, initialize_config_dir

    register()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("predict", command_line(words, CONF))
        check(cfg)
        return build_model(cfg).eval()
    except (ConfigCompositionException, OverrideParseException) as error:
        raise UserError(str(error)) from error
    except InstantiationException as error:
        raise _cause(error) from error


# Behind the verbs ---------------------------------------------------------------------------


def _overrides(given: Sequence[str] | None) -> Sequence[str]:
    if given is not None:
        return given
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _chosen(group: str) -> str | None:
    """The option of a group that was chosen; None outside an entry point."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None


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
            write(out / "run.json", json.dumps(state))


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
