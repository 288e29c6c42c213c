"""The table of a bench: rows of all values, and their forms (Markdown, CSV, JSON, LaTeX, HTML)."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsvlm.app.bench.differences import differences
from rsvlm.app.bench.plan import Entry, Job, Plan
from rsvlm.app.bench.state import State, results_of, state_of
from rsvlm.config.published import Published, published
from rsvlm.files import write_text
from rsvlm.metrics.names import parse

COLUMNS = (
    "entry", "model", "seed", "status", "why", "name", "dataset", "split", "protocol", "metric",
    "value", "unit", "low", "high", "level", "chance", "count", "drawn_of", "drawn_seed",
    "skipped", "seconds", "tokens_in", "tokens_out", "published",
)  # fmt: skip


@dataclass
class Cell:
    """One metric of one model in one evaluation, over seeds.

    Attributes:
        state: how the evaluation ended; of several seeds the first that did not end well.
        values: of each seed.
        seeds: how many were to be measured.
        row: of the first seed, as metrics.json has it.
    """

    state: State
    values: list[float] = field(default_factory=list)
    seeds: int = 1
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The value with its interval, or with its spread over seeds; else what became of it."""
        if not self.values:
            return self.state.said or "-"
        mean = statistics.fmean(self.values)
        if len(self.values) > 1:
            spread = statistics.stdev(self.values)
            return f"{number(mean)} ± {number(spread)} ({self._seeds})"
        if self.seeds > 1:
            return f"{number(mean)} ({self._seeds})"
        low, high = (float(self.row.get(word, math.nan)) for word in ("low", "high"))
        known = math.isfinite(low) and math.isfinite(high)
        return number(mean) + (f" [{number(low)}, {number(high)}]" if known else "")

    @property
    def _seeds(self) -> str:
        """How many seeds have a value, and of how many where some have none."""
        count = len(self.values)
        return f"{count} of {self.seeds} seeds" if count < self.seeds else f"{count} seeds"


def number(value: float) -> str:
    """Two decimals, and more for small values; what is next to nothing is 0.00."""
    return f"{value:.3g}" if 0.001 <= abs(value) < 1 else f"{value:.2f}"


def rows_of(plan: Plan, out: Path) -> list[dict[str, Any]]:
    """One row for each value, and one for each evaluation without any."""
    rows: list[dict[str, Any]] = []
    for job in plan.jobs():
        state, results = state_of(job.folder(out)), results_of(job.folder(out))
        common = {
            "entry": job.entry.name,
            "model": job.subject.label,
            "seed": job.seed,
            "status": state.status,
            "why": state.why,
        }
        if state.status != "done":
            rows.append(common)
            continue
        for one in results:
            drawn = one.get("drawn") or {}
            rows.append(
                common
                | {key: one[key] for key in COLUMNS if key in one}
                | {
                    "metric": parse(one["name"]).metric,
                    "drawn_of": drawn.get("of"),
                    "drawn_seed": drawn.get("seed"),
                    "seconds": round(state.seconds, 2),
                    "tokens_in": state.tokens_in,
                    "tokens_out": state.tokens_out,
                    "published": [vars(p) for p in printed(job.entry, one["name"])],
                }
            )
    return rows


def printed(entry: Entry, name: str) -> list[Published]:
    """What papers print for a metric: of the suite's own file, and of ours."""
    own = [
        Published(str(row.get("model")), float(row["metrics"][name]), str(row.get("source") or ""))
        for row in entry.published
        if name in (row.get("metrics") or {})
    ]
    return [*own, *published().get(name, ())]


def cells(plan: Plan, rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], Cell]:
    """(entry, metric name, model) -> its cell; of an evaluation without values the name is ""."""
    found: dict[tuple[str, str, str], Cell] = {}
    for row in rows:
        key = (row["entry"], row.get("name", ""), row["model"])
        state = State(row["status"], row["why"])
        cell = found.setdefault(key, Cell(state, seeds=len(plan.seeds), row=row))
        if "value" in row:
            cell.values.append(float(row["value"]))
    return found


def shown(entry: Entry, names: Sequence[str]) -> list[str]:
    """The names that head the table: those whose metric the suite names, else the first."""
    chosen = [n for word in entry.show for n in names if parse(n).metric == word]
    return chosen or list(names[:1])


def lines(plan: Plan, rows: Sequence[Mapping[str, Any]], *, whole: bool) -> list[list[str]]:
    """The table's cells: a head, then a line for each metric of each evaluation.

    Args:
        plan: of the bench.
        rows: of `rows_of`.
        whole: all metrics, or those that the suite shows.
    """
    held = cells(plan, rows)
    models = [one.label for one in plan.subjects]
    head = ["evaluation", "metric", "n", "chance", *models, "published"]
    out = [head]
    for entry in plan.entries:
        names = list(dict.fromkeys(n for e, n, _ in held if e == entry.name and n))
        for name in (names if whole else shown(entry, names)) or [""]:
            row: Mapping[str, Any] = {}
            line = []
            for model in models:
                cell = held.get((entry.name, name, model)) or held.get((entry.name, "", model))
                line.append(cell.text if cell else "-")
                row = row or (cell.row if cell and cell.values else {})
            chance = number(row["chance"]) if row.get("chance") is not None else ""
            count = f"{row['count']:,}" if row.get("count") is not None else ""
            if row.get("drawn_of"):
                count += f" (drawn of {row['drawn_of']:,} samples)"
            papers = _papers(row.get("published") or ())
            shown_name = name.partition("/")[2] or "-"
            out.append([entry.name, shown_name, count, chance, *line, papers])
    return out


def _papers(told: Sequence[Mapping[str, Any]], most: int = 4) -> str:
    """Printed numbers by what they are of, the first of each; JSON and CSV have all."""
    found: dict[str, float] = {}
    for one in told:
        name = str(one["checkpoint"]).removeprefix("zoo:") or str(one["model"])
        found.setdefault(name, one["value"])
    left = len(found) - most
    said = [f"{name} {value:g}" for name, value in list(found.items())[:most]]
    return "; ".join(said) + (f"; {left} more" if left > 0 else "")


def costs(plan: Plan, out: Path) -> list[list[str]]:
    """Seconds and tokens of each evaluation."""
    found = [["evaluation", "model", "seconds", "tokens asked", "tokens answered"]]
    for job in plan.jobs():
        state = state_of(job.folder(out))
        if state.status == "done":
            told = [state.tokens_in, state.tokens_out]
            seed = f", seed {job.seed}" if job.several else ""
            counts = ["-" if count is None else f"{count:,}" for count in told]
            found.append(
                [job.entry.name + seed, job.subject.label, f"{state.seconds:.1f}", *counts]
            )
    return found


def notes(
    plan: Plan, rows: Sequence[Mapping[str, Any]], near_ones: Sequence[str], out: Path
) -> list[str]:
    """What a reader must know of the numbers."""
    said = []
    if plan.bootstrap:
        said.append(
            f"In brackets: 95 % intervals from {plan.bootstrap} bootstrap samples of the images."
        )
    drawn = {(r["entry"], r["drawn_of"], r["drawn_seed"]) for r in rows if r.get("drawn_of")}
    if drawn:
        seeds = sorted({seed for _, _, seed in drawn})
        word = "seed" if len(seeds) == 1 else "seeds"
        said.append(
            f"limit={plan.limit}: of each larger data set {plan.limit} samples were drawn without "
            f"replacement ({word} {', '.join(map(str, seeds))}); galleries of retrieval hold these "
            "alone, and published numbers are of whole data sets."
        )
    if len(plan.seeds) > 1:
        said.append("± is the standard deviation over seeds.")
    lacking = [r for r in rows if r["status"] != "done"]
    if lacking:
        counts = {s: sum(r["status"] == s for r in lacking) for s in {r["status"] for r in lacking}}
        told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
        said.append(f"Evaluations without values: {told}; the table says why.")
    said += [f"{job}: {note}" for job in plan.jobs() for note in state_of(job.folder(out)).notes]
    return [*said, *near_ones]


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    escaped = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in table]
    head, *rest = ["| " + " | ".join(row) + " |" for row in escaped]
    return "\n".join([head, "|" + "---|" * len(table[0]), *rest])


def latex(table: Sequence[Sequence[str]]) -> str:
    """A table in LaTeX without packages."""
    special = {"\\": r"\textbackslash{}", "±": r"$\pm$", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$"}
    special |= {char: f"\\{char}" for char in "&%$#_{}"}

    def plain(cell: str) -> str:
        return "".join(special.get(char, char) for char in " ".join(cell.split()))

    head, *rest = [" & ".join(map(plain, row)) + r" \\" for row in table]
    body = "\n".join(rest)
    columns = "l" * len(table[0])
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\hline\n{head}\n\\hline\n{body}\n\\hline\n"
        "\\end{tabular}\n"
    )


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """All rows as CSV; published numbers in one cell."""
    held = io.StringIO()
    writer = csv.DictWriter(held, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        told = [f"{p['model']} {p['value']:g} ({p['source']})" for p in row.get("published") or []]
        writer.writerow({**row, "published": "; ".join(told)})
    return held.getvalue()


def write_tables(plan: Plan, out: Path) -> None:
    """Leaves table.md, .csv, .json, .tex and report.html in a bench's folder."""
    from rsvlm.report.bench_page import Sheet, bench_page

    rows = rows_of(plan, out)
    found, near_ones = differences(plan, out)
    said = notes(plan, rows, near_ones, out)
    headed, every = lines(plan, rows, whole=False), lines(plan, rows, whole=True)
    title = f"{plan.suite}: {', '.join(one.label for one in plan.subjects)}"
    parts = [f"# {title}", plan.about, markdown(headed), *(f"- {text}" for text in said)]
    parts += ["## All metrics", markdown(every), "## Cost", markdown(costs(plan, out))]
    write_text(out / "table.md", "\n\n".join(part for part in parts if part) + "\n")
    write_text(out / "table.csv", comma_separated(rows))
    write_text(out / "table.tex", latex(headed))
    held = {"suite": plan.suite, "limit": plan.limit, "seeds": plan.seeds, "rows": rows}
    write_text(out / "table.json", json.dumps(held | {"differences": found}, indent=1))
    sheets = [
        Sheet(f"{job}: {path.stem.replace('_', ' ')}", path)
        for job in plan.jobs()
        for path in _sheets(job, out)
        if state_of(job.folder(out)).status == "done"
    ]
    page = bench_page(
        title,
        plan.about,
        tables={"": headed, "All metrics": every, "Cost": costs(plan, out)},
        notes=said,
        rows=rows,
        shown={e.name: e.show for e in plan.entries},
        sheets=sheets,
    )
    write_text(out / "report.html", page)


def _sheets(job: Job, out: Path) -> list[Path]:
    """Worst answers where they were drawn, else the first picture of a run."""
    folder = job.folder(out) / "pictures"
    drawn = [p for p in sorted(folder.rglob("*.png")) if not p.name.endswith(".dark.png")]
    worst = [p for p in drawn if p.stem.endswith("worst")]
    return worst or drawn[:1]
