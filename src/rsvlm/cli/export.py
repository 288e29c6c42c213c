"""`python -m rsvlm export --ckpt <run or file> --to open_clip|hf_clip --out <folder>`."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsvlm.cli import checkpoint_of


def main(argv: list[str]) -> None:
    """Loads a CLIP and writes it in another library's layout."""
    parser = argparse.ArgumentParser(prog="python -m rsvlm export", description=__doc__)
    parser.add_argument("--ckpt", required=True, help="a run's folder, a file, zoo:… or hf://…")
    parser.add_argument("--to", required=True, choices=("open_clip", "hf_clip"))
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--model", help="model option of a file that is not a run's")
    args = parser.parse_args(argv)

    from rsvlm import api
    from rsvlm.checkpoints import export

    model, _, _ = api.load(args.model, checkpoint_of(args.ckpt))
    for path in export(model, args.to, args.out):
        print(path)
