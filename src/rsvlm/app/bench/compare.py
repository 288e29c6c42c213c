"""`rsvlm bench compare <folder> <folder>`: what two benches have in common, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rsvlm.app.bench.differences import pairs, within
from rsvlm.app.bench.plan import Plan
from rsvlm.app.bench.state import state_of
from rsvlm.app.bench.table import markdown, number
from rsvlm.errors import UserError


def compare(folders: Sequence[str]) -> str:
    """The differences of two benches in Markdown, with the sentences on those within chance.

    Evaluations of one name are compared where both have made them, each model of the first with
    each of the second, under the first seed of each.

    Raises:
        UserError: not two folders of benches, or nothing in common.
    """
    if len(folders) != 2:
        raise UserError(
            f"rsvlm bench compare takes two folders of benches, not {len(folders)}: rsvlm bench "
            "compare <folder> <folder>"
        )
    plans = [Plan.read(Path(folder)) for folder in folders]
    rows = []
    for entry in plans[0].entries:
        both = zip(plans, map(Path, folders), strict=True)
        runs = [_runs(plan, folder, entry.name) for plan, folder in both]
        for first, run in runs[0].items():
            for second, other in runs[1].items():
                names = (first, second) if first != second else (f"{first} (1)", f"{second} (2)")
                named = dict(zip(names, (run, other), strict=True))
                rows += pairs(entry, named, times=plans[0].bootstrap or 1000)
    if not rows:
        had = ["; ".join(e.name for e in plan.entries) for plan in plans]
        raise UserError(
            f"nothing to compare: no evaluation was made in both {folders[0]} ({had[0]}) and "
            f"{folders[1]} ({had[1]}) that is measured image by image."
        )
    table = [["evaluation", "metric", "first", "second", "second less first", "interval", "images"]]
    for row in rows:
        a, b = row["models"]
        mark = "" if row["low"] <= 0 <= row["high"] else " *"
        table.append(
            [
                row["entry"],
                row["name"].partition("/")[2],
                f"{a}: {number(row['first'])}",
                f"{b}: {number(row['second'])}",
                f"{row['difference']:+.2f}{mark}",
                f"[{row['low']:+.2f}, {row['high']:+.2f}]",
                str(row["images"]),
            ]
        )
    head = f"first: {folders[0]}, second: {folders[1]}; 95 % intervals, * leaves out 0"
    return "\n\n".join([head, markdown(table), *within(rows)])


def _runs(plan: Plan, out: Path, entry: str) -> dict[str, Path]:
    return {
        job.subject.label: job.folder(out)
        for job in plan.jobs()
        if job.entry.name == entry
        and job.seed == plan.seeds[0]
        and state_of(job.folder(out)).status == "done"
    }
