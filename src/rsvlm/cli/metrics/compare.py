"""Results beside each other: one row a metric under one protocol, one column a file.

A file is a metrics.json, of `metrics` or of an evaluation run, or a run's folder. Two protocols
never stand in one row, and neither do values that rest on different references.

With --paired two runs' folders are compared on the images that both have: both are measured on the
same bootstrap samples of the images, so that intervals of differences are narrower than those of
the values tell.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError

HELP = "results beside each other, one protocol per column"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics compare`."""
    parser.add_argument(
        "files", nargs="+", type=Path, help="metrics.json of runs, or their folders"
    )
    parser.add_argument(
        "--paired", action="store_true", help="differences of two runs' predictions, with intervals"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="samples of --paired")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--out", type=Path, help="also write the differences as JSON")
    parser.add_argument(
        "--config-dir", type=Path, help="your own configurations, whose classes the runs used"
    )


def run(args: argparse.Namespace) -> None:
    """Prints one row per file and one column per data set, protocol and metric."""
    if args.paired:
        _paired(args)
        return
    files = [path / "metrics.json" if path.is_dir() else path for path in args.files]
    if len(files) < 2:
        raise UserError("compare takes two files or more.")
    print(table({str(given): read(path) for given, path in zip(args.files, files, strict=True)}))


def _paired(args: argparse.Namespace) -> None:
    from rsvlm.app.paired import paired_rows
    from rsvlm.cli.metrics import paired
    from rsvlm.files import write_text

    if len(args.files) != 2:
        raise UserError(f"--paired compares two runs, not {len(args.files)}: give their folders.")
    for path in args.files:
        if not path.is_dir():
            raise UserError(
                f"{path} is no run's folder: --paired reads predictions, which a metrics.json does "
                "not hold."
            )
    first, second = args.files
    rows = paired_rows(first, second, times=args.bootstrap, seed=args.seed, own=args.config_dir)
    print(paired.table(rows, first, second))
    if args.out:
        write_text(args.out, json.dumps({"results": rows}, indent=1) + "\n")
        print(f"values: {args.out}")


def read(path: Path) -> list[dict[str, Any]]:
    """The results of a metrics.json.

    Raises:
        UserError: it is none.
    """
    from rsvlm.metrics.names import parse

    try:
        found = json.loads(path.read_text("utf-8"))["results"]
        for row in found:
            parse(row["name"])
            float(row["value"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no metrics.json of rsvlm: {error}") from None
    return list(found)


def table(files: Mapping[str, list[dict[str, Any]]]) -> str:
    """Results beside each other, in columns that each hold one metric under one protocol.

    A column is a metric's whole name and its settings (a vocabulary, a CLIP). Values of one column
    must rest on the same references.

    Args:
        files: name -> results.

    Raises:
        UserError: no column in common, or references that differ within one.
    """
    cells: dict[str, dict[str, float]] = {}
    sources: dict[str, dict[str, str]] = {}
    for file, results in files.items():
        for row in results:
            settings = "".join(f" [{k}: {v}]" for k, v in (row.get("settings") or {}).items())
            column = row["name"].partition("/")[2] + settings
            if file in cells.setdefault(column, {}):
                raise UserError(f"{file} has {row['name']} twice.")
            cells[column][file] = float(row["value"])
            basis = row.get("references") or row.get("count")
            sources.setdefault(column, {})[file] = str(basis)
    for column, basis in sources.items():
        if len(set(basis.values())) > 1:
            counted = ", ".join(f"{file}: {what}" for file, what in basis.items())
            raise UserError(
                f"{column} rests on different references ({counted}), and its values cannot stand "
                "in one column: score all files on the same set."
            )
    shared = [column for column, values in cells.items() if len(values) == len(files)]
    apart = [column for column in cells if column not in shared]
    if not shared:
        protocols = {
            file: sorted({c.rpartition("/")[0] for c in cells if file in cells[c]})
            for file in files
        }
        have = "; ".join(f"{file}: {', '.join(names)}" for file, names in protocols.items())
        raise UserError(
            f"nothing to compare: the files share no metric under one protocol ({have}). A metric "
            "under two protocols is two metrics; score both files under the same one."
        )
    width = max(map(len, files))
    head = max(map(len, shared))
    out = [" " * head + "".join(f"  {file:>{max(8, width)}s}" for file in files)]
    for column in shared:
        values = "".join(f"  {cells[column][file]:{max(8, width)}.2f}" for file in files)
        out.append(f"{column:{head}s}{values}")
    if apart:
        out.append("not in all files, so not compared: " + ", ".join(apart))
    return "\n".join(out)
