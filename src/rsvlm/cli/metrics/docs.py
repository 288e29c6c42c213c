"""Writes docs/metrics.md: every metric with its formula, range, direction, protocol and papers.

The page comes from the docstrings and from the words and protocols of rsvlm/metrics; a test holds
that the one in the repository is current.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rsvlm.errors import UserError

HELP = "writes docs/metrics.md from the docstrings"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics docs`."""
    parser.add_argument("--out", type=Path, default=Path("docs/metrics.md"), help="the page")


def run(args: argparse.Namespace) -> None:
    """Writes the page."""
    from rsvlm.metrics.catalogue import page

    try:
        args.out.write_text(page(), "utf-8")
    except OSError as error:
        raise UserError(f"{args.out} cannot be written: {error}.") from None
    print(f"page: {args.out}")
