"""A run whose data lie elsewhere than when it began: another machine, another mount."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rsvlm.app.run_log import say

#: Words that say where things lie or how they are fetched, and change nothing of a result.
PLACES = ("data.root", "data.workers", "paths.data_dir")


def follow(saved: DictConfig, given: DictConfig, words: set[str]) -> None:
    """Puts the places of today into a run's configuration.

    A stored configuration holds whole paths. What `data.root=` names stands for the old root in
    every path below it; and where the old folder of all data is gone, today's (RSVLM_DATA) stands
    for it, which is told.

    Args:
        saved: the run's configuration; changed in place.
        given: today's, as composed.
        words: those of `PLACES` that were typed.
    """
    if "data.workers" in words:
        OmegaConf.update(saved, "data.workers", given.data.workers)
    old, new = (str(OmegaConf.select(cfg, "paths.data_dir") or "") for cfg in (saved, given))
    gone = bool(old) and not Path(old).exists() and Path(new).is_dir()
    if old != new and ("paths.data_dir" in words or gone):
        _replace(saved, "data", old, new)
        OmegaConf.update(saved, "paths.data_dir", new)
        say(f"the data lay in {old} when this run began and are looked for in {new} now.")
    root = saved.data.get("root")
    if "data.root" in words and root and given.data.root != root:
        _replace(saved, "data", str(root), str(given.data.root))


def _replace(saved: DictConfig, key: str, old: str, new: str) -> None:
    plain: Any = OmegaConf.to_container(saved[key], resolve=False)
    OmegaConf.update(saved, key, _moved(plain, old.rstrip("/"), new.rstrip("/")), merge=False)


def _moved(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {k: _moved(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [_moved(v, old, new) for v in value]
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return new + value[len(old) :]
    return value
