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
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs or of sweeps")
    parser.add_argument("--out", type=Path, help="the page; by default in the first folder")
    args = parser.parse_args(argv)
    runs = [found for run in args.runs for found in _runs(run)]

    from rsvlm.report import write_report

    out = args.out
    if out is None and runs[0] != args.runs[0]:
        out = args.runs[0] / "report.html"
    print(f"report: {write_report(*runs, out=out)}")


def _runs(folder: Path) -> list[Path]:
    """A run's folder, or those of a sweep's jobs."""
    from rsvlm.app.sweep import jobs

    if (folder / "metrics.json").is_file():
        return [folder]
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder} (looked from {Path.cwd()}).")
    found = jobs(folder)
    done = [job for job in found if (job / "metrics.json").is_file()]
    if done:
        if len(done) < len(found):
            print(f"{len(found) - len(done)} of {len(found)} jobs have no metrics.json yet.")
        return done
    if found:
        raise UserError(f"{folder}: none of the {len(found)} jobs of this sweep has finished.")
    raise UserError(
        f"{folder} holds no metrics.json and no jobs of a sweep, so it is no finished run. If it "
        f"was stopped, go on: rsvlm train resume={folder}"
    )
