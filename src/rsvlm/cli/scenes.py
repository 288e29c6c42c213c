"""`python -m rsvlm scenes show --seed 7 --out scene.png`: look at the generated world."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Draws a contact sheet: ten scenes and their second dates, with all that is known of them."""
    parser = argparse.ArgumentParser(prog="python -m rsvlm scenes", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="a contact sheet of ten scenes")
    show.add_argument("--seed", type=int, default=0, help="which world (default 0)")
    show.add_argument("--out", type=Path, default=Path("scenes.png"), help="the picture to write")
    show.add_argument("--split", default="train", help="train, val, test or holdout")
    show.add_argument("--first", type=int, default=0, help="the first scene (default 0)")
    show.add_argument("--count", type=int, default=10, help="how many scenes (default 10)")
    show.add_argument("--size", type=int, default=256, help="side of each picture (default 256)")
    show.add_argument("--classes", nargs="+", help="only these classes of scenes")
    show.add_argument(
        "--nuisance", type=float, default=0.3, help="greatest strength between dates (default 0.3)"
    )
    args = parser.parse_args(argv)

    from rsvlm.data.scenes.sheet import sheet
    from rsvlm.errors import UserError

    if args.count < 1 or args.first < 0:
        raise UserError("--count is at least 1 and --first at least 0.")
    if args.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"--out {args.out}: the sheet is a .png or .jpg file.")
    picture = sheet(
        split=args.split,
        seed=args.seed,
        first=args.first,
        count=args.count,
        size=args.size,
        classes=args.classes,
        nuisance=args.nuisance,
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.out)
    print(f"wrote {args.out} ({picture.width}x{picture.height}, {args.count} scenes)")
