"""Published models, one file each: paper and recipe facts, builders, zoo rows.

A model option is a name that a user types, as in `model=georsclip_vitb32`.
"""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from rsvlm.errors import UserError, near

#: The files of this folder; each has `BUILDERS` (option to builder) and `ROWS`.
FILES = (
    *("georsclip", "skyclip", "remoteclip", "gaia_clip", "openai_clip"),
    *("deltavlm", "mmodalcc", "rsiccformer", "chg2cap"),
    *("rscapret", "blip2", "skyeyegpt", "llava", "hf_vlm"),
)


def builders() -> dict[str, partial[Any]]:
    """Model option to the function that builds it, with `device=`; the rest is the model's own."""
    found: dict[str, partial[Any]] = {}
    for file in FILES:
        found |= importlib.import_module(f"rsvlm.models.{file}").BUILDERS
    return found


def builder(option: str) -> partial[Any]:
    """The function that builds a model option.

    Raises:
        UserError: there is none; names the near ones.
    """
    known = builders()
    if option not in known:
        raise UserError(f"there is no model {option!r}. {near(option, known)}")
    return known[option]
