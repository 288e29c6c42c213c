"""`rsvlm table experiments/georsclip`: paper, tolerance and measured, side by side.

`expected.yaml` of the folder lists what papers give; `results/*.json` are metrics.json files of
our runs. A value is matched by its full name (data set, protocol, metric), recipe, model, and the
released checkpoint where a row is one's.
Behind a value stands its interval where the run has one (`evaluation.bootstrap=1000`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path, PurePath
from typing import Any

from rsvlm.errors import UserError


def read_expected(folder: Path) -> dict[str, Any]:
    """The folder's expected.yaml.

    Raises:
        UserError: it is not there, or a row lacks a key.
    """
    import yaml

    path = folder / "expected.yaml"
    if not path.is_file():
        raise UserError(f"{folder} has no expected.yaml; see experiments/.")
    expected = yaml.safe_load(path.read_text(encoding="utf-8"))
    for i, row in enumerate(expected.get("rows") or []):
        missing = {"recipe", "model", "source", "metrics"} - set(row)
        if missing:
            raise UserError(f"{path}: row {i} lacks {', '.join(sorted(missing))}.")
    return expected


def measured(
    folder: Path,
) -> dict[tuple[str, str, str | None, str], tuple[float, str, tuple[float, float] | None]]:
    """(recipe, model, zoo row or None, metric) → (value, commit, interval) of folder/results."""
    found = {}
    for path in sorted((folder / "results").glob("*.json")):
        run = json.loads(path.read_text(encoding="utf-8"))
        released = _released(str(run.get("checkpoint") or ""))
        for row in run["results"]:
            if row.get("drawn"):
                continue  # of a sample of the data set
            key = (run["recipe"], run["model"], released, row["name"])
            bounds = (row["low"], row["high"]) if "low" in row else None
            found[key] = (row["value"], (run.get("git_commit") or "?")[:9], bounds)
    return found


def _released(checkpoint: str) -> str | None:
    """The zoo row that a checkpoint is; None for one of our own."""
    from rsvlm.checkpoints import hub, zoo
    from rsvlm.models.zoo import rows

    if checkpoint.startswith("zoo:"):
        return checkpoint.removeprefix("zoo:")
    place = hub.parse(checkpoint)
    row = zoo.row_of_hub(place, rows()) if place else zoo.row_of_file(PurePath(checkpoint), rows())
    return row.name if row else None


def table(folder: Path) -> str:
    """One line a metric; `-` where nothing was measured, `!` where it is out of tolerance."""
    got = measured(folder)
    lines = ["| recipe | model | metric | paper | tolerance | measured | commit | source |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in read_expected(folder).get("rows") or []:
        released = _released(row.get("ckpt") or "")
        for name, value in row["metrics"].items():
            paper, tol = value["paper"], value.get("tol")
            # Recipes that train nothing begin with eval_ since 0.2.0; older results do not.
            words = (row["recipe"], row["recipe"].removeprefix("eval_"))
            keys = [(word, row["model"], released, name) for word in words]
            nothing = (None, "-", None)
            ours, commit, bounds = next((got[key] for key in keys if key in got), nothing)
            # As many decimals as the paper prints, so that both can be compared.
            digits = max(2, len(str(paper).partition(".")[2]))
            shown = "-" if ours is None else f"{ours:.{digits}f}"
            if bounds is not None:
                shown += " [{:.{d}f}, {:.{d}f}]".format(*bounds, d=digits)
            if None not in (ours, paper, tol) and abs(ours - paper) > tol:
                shown += " !"
            cells = (row["recipe"], row["model"], name, paper, tol, shown, commit, row["source"])
            lines.append("| " + " | ".join("-" if c is None else str(c) for c in cells) + " |")
    return "\n".join(lines)


def main(argv: list[str]) -> None:
    """Prints the tables of the folders."""
    parser = argparse.ArgumentParser(prog="rsvlm table", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    for folder in parser.parse_args(argv).folders:
        expected = read_expected(folder)
        if expected.get("rows"):
            print(f"## {folder.name}\n{table(folder)}\n")
            continue
        recipes = ", ".join(expected.get("recipes") or ()) or "none"
        print(
            f"## {folder.name}\nno rows: {folder / 'expected.yaml'} gives no paper's numbers for "
            f"its recipes ({recipes}).\n"
        )
