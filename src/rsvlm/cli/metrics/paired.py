"""Differences of two runs on the images that both have, with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError

Row = dict[str, Any]


def paired_rows(
    first: Path, second: Path, *, times: int = 1000, seed: int = 0, own: Path | None = None
) -> list[Row]:
    """One row for each metric that both runs have, see `metrics.intervals.paired`.

    Args:
        first: a run's folder.
        second: another one's.
        times: bootstrap samples.
        seed: of their draws.
        own: the user's own folder of configurations.

    Raises:
        UserError: no predictions, nothing in common, or another truth for the same image.
    """
    from rsvlm.app.measure import outcomes
    from rsvlm.metrics.intervals import paired
    from rsvlm.metrics.names import parse

    held = []
    for folder in (first, second):
        _, _, found = outcomes(folder, own, bootstrap=0)
        held.append({_key(one.rows): one for one in found})
    shared = [key for key in held[0] if key in held[1]]
    if not shared:
        known = ["; ".join(" ".join(key) for key in one) for one in held]
        raise UserError(
            f"nothing to compare: {first} measured {known[0]} and {second} {known[1]}. Runs are "
            "compared on the same data set and split, under the same protocol."
        )
    rows: list[Row] = []
    for key in shared:
        a, b = held[0][key], held[1][key]
        same_truths(a.records, b.records, first, second)
        words, images = paired(a.measured.statistics, b.measured.statistics, times=times, seed=seed)
        both = {row["name"] for row in a.rows} & {row["name"] for row in b.rows}
        for name in (row["name"] for row in a.rows if row["name"] in both):
            word = parse(name).metric
            if word in words:
                bounds = {"level": 95, "bootstrap": times, "seed": seed, "images": images}
                rows.append({"name": name, **words[word], **bounds})
    return rows


def _key(rows: list[Row]) -> tuple[str, str, str]:
    first = rows[0]
    return str(first["dataset"]), str(first["split"]), str(first["protocol"])


def same_truths(first: Any, second: Any, a: Path, b: Path) -> None:
    """Holds the truths of two runs' records against each other.

    Raises:
        UserError: an item that both have, with another truth.
    """
    fields = ("answer", "references", "label", "true_boxes", "true_masks")
    known = {one.id: one for one in first}
    for other in second:
        one = known.get(other.id)
        if one is None:
            continue
        for name in fields:
            if getattr(one, name) != getattr(other, name):
                raise UserError(
                    f"id {one.id!r} has another truth ({name}) in {a} than in {b}: the two runs "
                    "rest on different data, and their difference would mean nothing."
                )


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
