"""`rsvlm card <folder>`: the data card of a set that `rsvlm curate` built, made again."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Writes card.html, card.json and croissant.json, and names the page.

    Raises:
        UserError: the folder holds no finished set.
    """
    parser = argparse.ArgumentParser(prog="rsvlm card", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder that out= named")
    parser.add_argument("--samples", type=int, default=12, help="rows of the sheet; 0 draws none")
    args = parser.parse_args(argv)

    from rsvlm.curate.card import write

    print(f"card: {write(args.out, samples=args.samples)}")
