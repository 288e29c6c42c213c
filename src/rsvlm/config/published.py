"""Numbers that papers print, by the name of the metric: `experiments/*/expected.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rsvlm.config import config_dir


@dataclass(frozen=True)
class Published:
    """A number of a paper or a released file.

    Attributes:
        model: option, or a name.
        value: as printed, in the metric's unit.
        source: where it stands.
        checkpoint: the released weights; "" where the row names none.
    """

    model: str
    value: float
    source: str
    checkpoint: str = ""


def folder() -> Path:
    """`experiments` of the checkout, or of the installed package."""
    return config_dir().parent / "experiments"


@cache
def published() -> Mapping[str, tuple[Published, ...]]:
    """Full metric name -> the numbers that are printed for it; empty where no file is there."""
    found: dict[str, list[Published]] = {}
    for path in sorted(folder().glob("*/expected.yaml")):
        held: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for row in held.get("rows") or []:
            for name, value in row["metrics"].items():
                if value.get("paper") is not None:
                    source = f"{row['source']}; {held.get('paper') or path.parent.name}"
                    one = Published(
                        str(row["model"]), float(value["paper"]), source, str(row.get("ckpt") or "")
                    )
                    found.setdefault(str(name), []).append(one)
    return {name: tuple(ones) for name, ones in found.items()}
