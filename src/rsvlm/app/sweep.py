"""The end of a sweep: a table and a plot of its jobs: what each was given, and what it reached."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.experimental.callback import Callback

#: Columns of metrics; where there are more, those that differ between jobs come first. A report has
#: all of them.
MOST = 12


class SweepTable(Callback):
    """Hydra's callback: prints the table, and leaves sweep.md and sweep.png in the folder."""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Reads the folders of the jobs."""
        folder = Path(str(config.hydra.sweep.dir))
        text = sweep_table(folder)
        if text:
            (folder / "sweep.md").write_text(text + "\n", encoding="utf-8")
            drawn = sweep_plot(folder)
            plot = f"\nplot: {drawn}" if drawn else ""
            print(f"\n{text}\n\nsweep: {folder}{plot}\nreport: rsvlm report {folder}")


def jobs(folder: Path) -> list[Path]:
    """The folders of a sweep's jobs, by their numbers; none of a folder that is no sweep's."""
    found = [p for p in folder.iterdir() if p.name.isdigit() and p.is_dir()]
    found = [p for p in found if (p / "config.yaml").is_file() or (p / ".hydra").is_dir()]
    return sorted(found, key=lambda path: int(path.name))


def words_of(job: Path) -> list[str]:
    """What a job was given on the command line and by the sweep."""
    path = job / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return []
    held = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [str(word) for word in held] if isinstance(held, list) else []


def sweep_table(folder: Path) -> str:
    """The table in Markdown; empty for a folder without jobs."""
    found = jobs(folder) if folder.is_dir() else []
    if not found:
        return ""
    words = [words_of(job) for job in found]
    shared = set.intersection(*map(set, words)) if words else set()
    results = [_results(job) for job in found]
    metrics = list(dict.fromkeys(name for row in results if row for name in row))
    if len(metrics) > MOST:
        from rsvlm.report.sweep import differing

        first = differing([row for row in results if row])
        first = [*first, *(name for name in metrics if name not in first)][:MOST]
        metrics = [name for name in metrics if name in first]
    head = ["job", "words", *metrics] if metrics else ["job", "words", "results"]
    lines = [_line(head), _line(["---"] * len(head))]
    for job, given, row in zip(found, words, results, strict=True):
        own = " ".join(word for word in given if word not in shared) or "-"
        cells = [f"{row[name]:.2f}" if row and name in row else "-" for name in metrics]
        if not metrics:
            cells = ["none" if row is not None else "not finished"]
        elif row is None:
            cells[0] = "not finished"
        lines.append(_line([job.name, own, *cells]))
    return "\n".join(lines)


def sweep_plot(folder: Path) -> Path | None:
    """sweep.png: metrics over a swept number; None where none was swept."""
    from rsvlm.report.sweep import sweep_curves

    told = []
    for job in jobs(folder):
        pairs = (word.lstrip("+").partition("=") for word in words_of(job))
        told.append(({key: value for key, _, value in pairs}, _results(job) or {}))
    return sweep_curves(told, folder / "sweep.png")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _results(job: Path) -> Mapping[str, float] | None:
    """Names and values of a job's metrics.json; None where it has none."""
    try:
        rows = json.loads((job / "metrics.json").read_text(encoding="utf-8"))["results"]
        return {str(row["name"]).removeprefix("test/"): float(row["value"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError):
        return None
