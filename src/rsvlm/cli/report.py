"""`rsvlm report <run dir> [<run dir> …] --out report.html`: one self-contained page."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsvlm.errors import UserError


def main(argv: list[str]) -> None:
    """Writes the page and names it.

    Raises:
        UserError: a folder that is no run's.
    """
    parser = argparse.ArgumentParser(prog="rsvlm report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--out", type=Path, help="the page; by default in the first folder")
    args = parser.parse_args(argv)
    for run in args.runs:
        if not (run / "metrics.json").is_file():
            raise UserError(f"{run} holds no metrics.json, so it is no finished run.")

    from rsvlm.report import write_report

    print(f"report: {write_report(*args.runs, out=args.out)}")
