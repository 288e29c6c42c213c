"""Differences of two runs as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def table(rows: list[Row], first: Path, second: Path) -> str:
    """The rows as text; `*` marks differences whose interval leaves out 0."""
    width = max(len(row["name"]) for row in rows)
    out = [
        f"first: {first}",
        f"second: {second}",
        f"second less first, {rows[0]['level']} % intervals ({rows[0]['bootstrap']} samples of the "
        + f"images, seed {rows[0]['seed']}); * leaves out 0",
        f"{'':{width}s}  {'first':>8s}  {'second':>8s}  {'difference':>10s}  interval, images",
    ]
    return "\n".join([*out, *(_line(row, width) for row in rows)])


def _line(row: Mapping[str, Any], width: int) -> str:
    mark = " *" if row["low"] > 0 or row["high"] < 0 else ""
    return (
        f"{row['name']:{width}s}  {row['first']:8.2f}  {row['second']:8.2f}  "
        f"{row['difference']:+10.2f}  [{row['low']:+.2f}, {row['high']:+.2f}]{mark}, "
        f"{row['images']}"
    )
