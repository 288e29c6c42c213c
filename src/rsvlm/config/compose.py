"""A verb's configuration from what the user typed, outside of `hydra.main`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose as _compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from rsvlm.config import config_dir
from rsvlm.config.overrides import command_line
from rsvlm.config.run_folders import new_folder
from rsvlm.config.schema import BenchSchema, CurateSchema, EvalSchema, PredictSchema, Schema
from rsvlm.errors import UserError, near


def register() -> None:
    """Makes the top-level schemas, and how folders are named, known to Hydra.

    Entry points call it; an import does not.
    """
    OmegaConf.register_new_resolver("new_folder", new_folder, replace=True, use_cache=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=Schema)
    store.store(name="eval_schema", node=EvalSchema)
    store.store(name="predict_schema", node=PredictSchema)
    store.store(name="bench_schema", node=BenchSchema)
    store.store(name="curate_schema", node=CurateSchema)


def compose(
    verb: str, words: Sequence[str] = (), own: Path | None = None, quoted: Sequence[str] = ()
) -> DictConfig:
    """What `rsvlm <verb> <words>` would be given.

    Args:
        verb: one of `config.schema.SCHEMAS`.
        words: overrides, as typed on a command line.
        own: the user's own folder of configurations, as `--config-dir` names it.
        quoted: further ones behind them, as Hydra has them already.

    Raises:
        UserError: a word that the configuration does not know.
    """
    register()
    given = [*command_line(words, search_path(own)), *quoted]
    if own is not None:
        given = [*given, f"hydra.searchpath=[file://{own.resolve()}]"]
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return _compose(verb, given)
    except (ConfigCompositionException, OverrideParseException) as error:
        raise UserError(str(error)) from error
    finally:
        GlobalHydra.instance().hydra = before


def search_path(own: Path | None = None) -> list[Path]:
    """The folders that hold configurations, the user's own first."""
    return [*([] if own is None else [own]), config_dir()]


def options(group: str, own: Path | None = None) -> list[str]:
    """The options of a group, those of the user's own folder among them."""
    found = {p.stem for folder in search_path(own) for p in (folder / group).glob("*.yaml")}
    # What begins with _ is shared by options, and none itself.
    return sorted(name for name in found if not name.startswith("_"))


def known_option(group: str, option: str, own: Path | None = None) -> str:
    """The option, if there is one of this name.

    Raises:
        UserError: there is none; names the near ones.
    """
    known = options(group, own)
    if option not in known:
        raise UserError(f"there is no {group} {option!r}. {near(option, known)}")
    return option


def plain(cfg: DictConfig) -> dict[str, object]:
    """The configuration as plain dicts; words that were not given are left out."""
    names = [str(name) for name in cfg if not OmegaConf.is_missing(cfg, name)]
    resolved = OmegaConf.to_container(OmegaConf.masked_copy(cfg, names), resolve=True)
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items() if name != "resume"}
