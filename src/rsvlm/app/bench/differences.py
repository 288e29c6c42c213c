"""Whether two models differ by more than chance, on the images that both were asked about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from rsvlm.app.bench.plan import Entry, Plan
from rsvlm.app.bench.state import state_of
from rsvlm.app.guards import own_folder
from rsvlm.app.paired import Held, held_of, paired_rows_of
from rsvlm.errors import UserError
from rsvlm.metrics.names import parse

Row = dict[str, Any]


def differences(plan: Plan, out: Path) -> tuple[list[Row], list[str]]:
    """Rows for each pair of models and each shown metric, and sentences on those within chance."""
    if len(plan.subjects) < 2 or not plan.bootstrap:
        return [], []
    found: list[Row] = []
    for entry in plan.entries:
        runs = {}
        for job in plan.jobs():
            folder = job.folder(out)
            first = job.entry == entry and job.seed == plan.seeds[0]
            if first and state_of(folder).status == "done":
                runs[job.subject.label] = folder
        found += pairs(entry, runs, times=plan.bootstrap)
    return found, within(found)


def pairs(entry: Entry, runs: Mapping[str, Path], *, times: int) -> list[Row]:
    """Differences of each pair of an evaluation's runs, for the metrics that the suite shows.

    Args:
        entry: of the suite.
        runs: model -> folder of its run.
        times: bootstrap samples.
    """
    held: dict[str, Held] = {}
    if len(runs) < 2:
        return []
    for label, folder in runs.items():
        try:
            held[label] = held_of(folder, own_folder())
        except UserError:  # not measured from records
            continue
    found: list[Row] = []
    for first, second in combinations(held, 2):
        try:
            rows = paired_rows_of(held[first], held[second], (first, second), times=times)
        except UserError:
            continue
        names = [row["name"] for row in rows]
        words = entry.show or (parse(names[0]).metric,) if names else ()
        found += [
            {"entry": entry.name, "models": [first, second], **row}
            for row in rows
            if parse(row["name"]).metric in words
        ]
    return found


def within(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each difference whose interval holds 0."""
    return [
        f"{row['entry']}: {' and '.join(row['models'])} differ by {abs(row['difference']):.2f} in "
        f"{parse(row['name']).metric}, and the interval of their difference "
        f"[{row['low']:+.2f}, {row['high']:+.2f}] holds 0: neither is shown to be better."
        for row in rows
        if row["low"] <= 0 <= row["high"]
    ]
