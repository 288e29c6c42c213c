"""What is refused before anything is built, and what the user typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from rsvlm.app.moved_data import PLACES, follow
from rsvlm.config import config_dir, validate
from rsvlm.config.from_file import read_config
from rsvlm.config.overrides import PACING
from rsvlm.errors import UserError
from rsvlm.inference.own_configuration import BROUGHT, Said

_PACE = tuple(f"model.{word}=" for word in PACING)


def own_folder() -> Path | None:
    """The user's own folder of configurations; None outside an entry point or without one."""
    if not HydraConfig.initialized():
        return None
    sources = HydraConfig.get().runtime.config_sources
    found = [Path(s.path) for s in sources if s.provider == "command-line" and s.path]
    return found[0] if found else None


def folders() -> list[Path]:
    """The folders of configurations, the user's own first."""
    own = own_folder()
    return [*([] if own is None else [own]), config_dir()]


def said(given: Sequence[str] | None = None) -> Said:
    """What the user typed, and which groups a recipe that he named chooses.

    Args:
        given: the words; None takes Hydra's, and outside of an entry point whatever the
            configuration holds has been said.
    """
    if given is None and not HydraConfig.initialized():
        return Said((), dict.fromkeys(BROUGHT, ""))
    words = list(typed(given))
    groups: dict[str, str] = {}
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        if equals and key == "experiment":
            groups |= _of_recipe(value.strip("'\""))
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        if equals and key.isidentifier():
            groups[key] = value.strip("'\"")
    return Said(words, groups, own_folder())


def _of_recipe(name: str) -> dict[str, str]:
    for folder in folders():
        path = folder / "experiment" / f"{name}.yaml"
        if path.is_file():
            raw: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            return {
                str(key).removeprefix("override ").lstrip("/"): str(option)
                for entry in raw.get("defaults", [])
                if isinstance(entry, dict)
                for key, option in entry.items()
            }
    return {}


def check(cfg: DictConfig) -> int:
    """Binds every `_target_` node to its signature; see `rsvlm.config.validate`."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    return validate.check(cfg, dict(choices), folders())


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
    device_of(cfg)


def device_of(cfg: DictConfig) -> str:
    """The device that `trainer=` asks for.

    Raises:
        UserError: a GPU, and there is none.
    """
    import torch

    wanted = cfg.trainer.get("accelerator", "auto")
    there = torch.cuda.is_available()
    if wanted in ("gpu", "cuda") and not there:
        raise UserError("trainer=gpu: PyTorch finds no GPU here. Take the CPU: trainer=cpu.")
    return "cuda" if there and wanted in ("gpu", "cuda", "auto") else "cpu"


def resumed(cfg: DictConfig, words: Sequence[str]) -> DictConfig:
    """The configuration of the run that `resume` names, with what may change applied.

    That is `trainer.*`, `logger.*`, the places of its data (`moved_data.PLACES`), and of a model
    behind an endpoint its pace (`config.overrides.PACING`).

    Raises:
        UserError: another word beside `resume`.
    """
    run = Path(cfg.resume)
    alone = [o for o in words if not o.startswith(("resume=", "hydra."))]
    pace = [o.lstrip("+") for o in alone if o.lstrip("+").startswith(_PACE)]
    alone = [o for o in alone if not o.lstrip("+").startswith(_PACE)]
    places = {o.partition("=")[0] for o in alone} & set(PLACES)
    alone = [o for o in alone if o.partition("=")[0] not in places]
    wrong = [o for o in alone if not o.startswith(("trainer.", "logger."))]
    if wrong:
        raise UserError(
            f"resume={run} goes on with that run as it was; {', '.join(wrong)} would make it "
            f"another one. Only trainer.*, logger.* and {', '.join(PLACES)} may change; to start "
            "anew from its weights, "
            f"use init={run / 'last.ckpt'}."
        )
    if not (run / "config.yaml").is_file():
        raise UserError(f"resume={run}: there is no config.yaml, so this is not a run's folder.")
    saved = OmegaConf.create(read_config(run / "config.yaml", own_folder()))
    assert isinstance(saved, DictConfig)
    if pace and not str(OmegaConf.select(saved, "model._target_")).endswith(".APIModel"):
        raise UserError(f"resume={run}: {', '.join(pace)} is of model=api, and this run's is none.")
    OmegaConf.set_struct(saved, True)
    for override in [*alone, *pace]:
        key, _, _ = override.partition("=")
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
    follow(saved, cfg, places)
    return saved


def typed(given: Sequence[str] | None = None) -> Sequence[str]:
    """The words that the user typed; None takes Hydra's."""
    if given is not None:
        return given
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def chosen(group: str) -> str | None:
    """The option of a group that was chosen; None outside an entry point."""
    return HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None
