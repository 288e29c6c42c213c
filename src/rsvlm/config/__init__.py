"""Configurations: schemas, validation, overrides, composition. No torch at import."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def config_dir() -> Path:
    """The folder of the configuration: packaged in the wheel, at the top of a checkout."""
    packaged = _PACKAGE / "conf"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "conf"
