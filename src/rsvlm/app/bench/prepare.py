"""The configuration of one evaluation of a bench, and what is known to be amiss before it is asked.

A data set that is not there and a task that a model's class cannot do are found before a model is
built; what hangs on a model's parts (a box convention, a bridge of two dates) once it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import torch
from omegaconf import DictConfig, OmegaConf

from rsvlm.app.bench.plan import Job, Plan
from rsvlm.app.guards import said
from rsvlm.config import config_dir
from rsvlm.config.compose import compose
from rsvlm.config.from_file import trusted
from rsvlm.config.instantiate import instantiate, optional
from rsvlm.config.validate import locate
from rsvlm.errors import UserError
from rsvlm.evaluation.requirements import unable
from rsvlm.inference.own_configuration import bring
from rsvlm.models.protocols import is_contrastive

#: Under conf/data: a sample in the place of a data set.
SAMPLE = "_drawn.yaml"


def configured(plan: Plan, job: Job, own: Path | None) -> tuple[DictConfig, str | None]:
    """The configuration of an evaluation with all that its checkpoint brings, and its model option.

    Args:
        plan: of the bench.
        job: one evaluation of it.
        own: the user's own folder of configurations.

    Raises:
        UserError: words that do not go together.
    """
    typed = [*job.entry.typed, "logger=none"]
    chosen = [word.replace("{seed}", str(job.seed)) for word in job.subject.words]
    words = [word.replace("{seed}", str(job.seed)) for word in plan.words]
    option = _group("data", [*typed, *chosen, *words])
    if option in plan.roots:
        typed.append(f"data.root={plan.roots[option]}")
    typed += [f"seed={job.seed}", *chosen]
    cfg = bring(compose("eval", typed, own, words), said([*typed, *words]))
    evaluation = cfg.evaluation
    if not evaluation:
        raise UserError(f"{job.entry.name} measures nothing: name an evaluation=.")
    OmegaConf.set_struct(cfg, False)
    if plan.bootstrap and evaluation.get("bootstrap") == 0:
        evaluation.bootstrap = plan.bootstrap
    if plan.limit is not None:
        _draw(cfg, plan.limit, job.seed)
    OmegaConf.set_struct(cfg, True)
    # Words of a resumed bench come from a file.
    trusted(_plain(cfg), str(job), own)
    return cfg, _group("model", [*typed, *words]) or _option(cfg.ckpt)


def _group(name: str, words: list[str]) -> str | None:
    return (said(words).groups or {}).get(name)


def _option(checkpoint: str | None) -> str | None:
    """The model option that a run was trained with."""
    try:
        held = json.loads((Path(str(checkpoint)).parent / "run.json").read_text(encoding="utf-8"))
        return held.get("model") if isinstance(held, dict) else None
    except (OSError, ValueError):
        return None


def _draw(cfg: DictConfig, limit: int, seed: int) -> None:
    """Puts a sample in the place of the data set's test splits."""
    test = cfg.data.get("splits", {}).get("test", "test")
    splits = [test] if isinstance(test, str) else list(test or ())
    whole = OmegaConf.to_container(cfg.data.dataset, resolve=True)
    sample = OmegaConf.load(config_dir() / "data" / SAMPLE)
    cfg.data.dataset = OmegaConf.merge(
        sample, {"dataset": whole, "n": limit, "seed": seed, "splits": splits}
    )


def _plain(cfg: DictConfig) -> dict[str, Any]:
    from rsvlm.config.compose import plain

    return plain(cfg)


def class_of(cfg: DictConfig) -> type | None:
    """The class of a configuration's model; None where only building tells."""
    found: Any = locate(str(cfg.model._target_))
    if isinstance(found, type):
        return found
    try:
        found = get_type_hints(found).get("return")
    except (NameError, TypeError):
        return None
    return found if isinstance(found, type) else None


def amiss(cfg: DictConfig) -> tuple[str, str, int | None]:
    """What is wrong before a model is built.

    Returns:
        A status of `state.STATUS` and why, "" where nothing is; and the pictures of a sample.

    Raises:
        UserError: data that is there and cannot be read.
    """
    kind, evaluation = class_of(cfg), optional(cfg.evaluation)
    if kind is not None and (why := unable(kind, evaluation)):
        return "unable", why, None
    try:
        pictures = pictures_of(cfg)
    except UserError as error:
        root = cfg.data.get("root")
        gone = root is not None and not Path(str(root)).expanduser().exists()
        if error.code == "no_data" or gone:
            return "absent", f"{root} does not hold it (roots.<data>=<folder>)", None
        raise
    why = unable(kind, evaluation, pictures) if kind is not None else ""
    return "unable" if why else "", why, pictures


def pictures_of(cfg: DictConfig) -> int | None:
    """How many pictures a sample of the test split has; opens each of the test splits.

    Raises:
        UserError: one cannot be opened, or holds nothing.
    """
    data = instantiate(cfg.data)
    found: int | None = None
    for split in data.test_splits:
        data.use_test(split)
        dataset = data.dataset("test")
        if not len(dataset):
            raise UserError(f"{dataset.name} has no samples in its split {split}.")
        found = len(dataset[0].images) if found is None else found
    return found


class Models:
    """The model that is measured, built once for all evaluations that ask for the same one.

    Args:
        build: `inference.build.build_model`.

    Attributes:
        built: how many were built.
    """

    def __init__(self, build: Callable[..., Any]) -> None:
        self.build, self.built = build, 0
        self._held: tuple[str, Any] | None = None
        self._tasks: dict[str, Any] = {}

    def get(self, cfg: DictConfig, out: Path) -> Any:
        """The model of a configuration.

        Its task is chosen by what it is: entries of a suite are written for no family.
        """
        from rsvlm.app.run_log import say
        from rsvlm.inference.build import prepare

        prepare(cfg, out)
        marks = {k: _plain(cfg).get(k) for k in ("model", "ckpt", "init", "knowledge")}
        if not cfg.ckpt:
            marks["seed"] = cfg.seed
        key = json.dumps(marks, sort_keys=True, default=str)
        if self._held is None or self._held[0] != key:
            self._held = None  # two at once may not fit
            self._held = key, self.build(cfg, out, say=say)
            self.built += 1
        model = self._held[1]
        if str((cfg.task or {}).get("_target_", "")).startswith("rsvlm.lit."):
            OmegaConf.set_struct(cfg, False)
            option = task_of(model)
            if option not in self._tasks:
                self._tasks[option] = compose("eval", [f"task={option}"]).task
            cfg.task = self._tasks[option]
            OmegaConf.set_struct(cfg, True)
        torch.manual_seed(cfg.seed)
        return model


def task_of(model: Any) -> str:
    """The task option under which a model is measured."""
    if is_contrastive(model):
        return "contrastive"
    return "bitemporal" if model.bitemporal else "captioner"
