"""Which rsvlm it was: its version, and its commit where it runs from its own checkout."""

from __future__ import annotations

import subprocess
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def provenance() -> dict[str, str | None]:
    """`version` and `git_commit`, for run.json and metrics.json."""
    return {"version": version(), "git_commit": git_commit()}


def version() -> str:
    """The installed version; `0+unknown` for a checkout that was never installed."""
    try:
        return installed("rsvlm")
    except PackageNotFoundError:
        return "0+unknown"


def git_commit(package: Path = _PACKAGE) -> str | None:
    """The commit of rsvlm's own checkout, with `+` where files differ from it; None elsewhere.

    A wheel that lies in somebody's repository, as in a virtual environment there, has none: that
    repository's commit says nothing about rsvlm.

    Args:
        package: the folder `rsvlm` that is imported.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    if not top or (Path(top) / "src" / "rsvlm").resolve() != package:
        return None
    return _git(package, "describe", "--always", "--abbrev=40", "--dirty=+")


def _git(folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
