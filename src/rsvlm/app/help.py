"""`rsvlm <verb> --help`: the verb's words, the groups with their options, the configuration.

Hydra's own listing copies its repository of configurations for each group, seconds in all; the
groups are folders, and reading their names is enough.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from rsvlm.config import config_dir
from rsvlm.config.compose import compose, options, search_path
from rsvlm.config.schema import words_of

FLAGS = ("--help", "-h")


def help_of(verb: str, words: Sequence[str], own: Path | None = None) -> str:
    """The text of a verb's help.

    Args:
        verb: `train`, `eval` or `predict`.
        words: overrides beside `--help`; the configuration is shown with them.
        own: the user's own folder of configurations.

    Raises:
        UserError: a word that the configuration does not know.
    """
    held = OmegaConf.load(config_dir() / f"{verb}.yaml")
    template = string.Template(str(OmegaConf.select(held, "hydra.help.template")))
    chosen = words_of(verb)
    groups = {
        str(path.relative_to(folder))
        for folder in search_path(own)
        for path in folder.rglob("*")
        if path.is_dir() and path.relative_to(folder).parts[0] in chosen
    }
    listed = [
        f"{group}: {', '.join(found)}" for group in sorted(groups) if (found := options(group, own))
    ]
    cfg = compose(verb, [word for word in words if "=" in word and not word.startswith("-")], own)
    return template.safe_substitute(
        APP_CONFIG_GROUPS="\n".join(listed), CONFIG=OmegaConf.to_yaml(cfg, resolve=False)
    )
