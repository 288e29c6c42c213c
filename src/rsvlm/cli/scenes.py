"""`rsvlm scenes show --seed 7 --out scene.png`: look at the generated world.

`rsvlm scenes export --format levir_cc -n 2000 --out <folder>` writes it as a published
data set, for the reader of that name and for everybody else's code.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Draws a contact sheet of scenes and their second dates, or writes a published format."""
    parser = argparse.ArgumentParser(prog="rsvlm scenes", description=__doc__)
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
    write = commands.add_parser("export", help="write scenes in a published data set's format")
    write.add_argument("--format", required=True, help="the data set's word, as levir_cc")
    write.add_argument("--out", type=Path, required=True, help="a new folder")
    write.add_argument("-n", type=int, default=2000, help="scenes of the train split (2000)")
    write.add_argument("--val", type=int, help="scenes of the val split (a tenth of -n)")
    write.add_argument("--test", type=int, help="scenes of the test split (a tenth of -n)")
    write.add_argument("--size", type=int, default=256, help="side of the pictures (256)")
    write.add_argument("--seed", type=int, default=0, help="which world (default 0)")
    args = parser.parse_args(argv)
    if args.command == "export":
        return _export(args)
    return _show(args)


def _export(args: argparse.Namespace) -> None:
    from rsvlm.errors import UserError, near
    from rsvlm.synthetic.export import FORMATS, export

    if args.format not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise UserError(
            f"--format {args.format}: there is no such format. {near(args.format, FORMATS)} "
            f"Formats: {known}."
        )
    tenth = max(1, args.n // 10)
    lengths = {
        "train": args.n,
        "val": tenth if args.val is None else args.val,
        "test": tenth if args.test is None else args.test,
    }
    if min(lengths.values()) < 1:
        raise UserError("-n, --val and --test are at least 1.")
    form = FORMATS[args.format]
    written = export(form, args.out, lengths, size=args.size, seed=args.seed)
    for split, samples in written.items():
        print(f"{split}: {len(samples)} samples")
    options = "".join(f" data.dataset.{k}={v}".lower() for k, v in form.reader.items())
    print(f"wrote {args.out}; read it with data={args.format} data.root={args.out}{options}")


def _show(args: argparse.Namespace) -> None:
    from rsvlm.errors import UserError
    from rsvlm.synthetic.sheet import sheet

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
