"""`rsvlm average --a <model> --b <tuned model> --alpha 0.5 --out mean.ckpt`."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str]) -> None:
    """Averages the weights of two CLIPs and writes a checkpoint for `ckpt=` and `init=`.

    Raises:
        UserError: a checkpoint that cannot be had, or two models of different kinds.
    """
    parser = argparse.ArgumentParser(prog="rsvlm average", description=__doc__)
    given = "a run's folder, a file, zoo:… or hf://…"
    parser.add_argument("--a", required=True, help=f"the model that was tuned: {given}")
    parser.add_argument("--b", required=True, help="what it was tuned to, likewise")
    parser.add_argument(
        "--alpha", type=float, default=0.5, help="share of the second (default 0.5)"
    )
    parser.add_argument("--out", required=True, type=Path, help="file to write")
    parser.add_argument("--model", help="model option of files that are not a run's")
    args = parser.parse_args(argv)

    import torch

    from rsvlm import checkpoints
    from rsvlm.export.average import average
    from rsvlm.inference.api import load
    from rsvlm.nn.adapters import merge

    a, b = (load(args.model, s) if args.model else load(s) for s in (args.a, args.b))
    merge(a)
    merge(b)
    b.load_state_dict(average(a, b, args.alpha))
    # No part has a source any more: everything is saved.
    packed = checkpoints.pack(b, {"average": {"a": args.a, "b": args.b, "alpha": args.alpha}})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(packed, args.out)
    print(f"wrote {args.out}: {1 - args.alpha:g} of {args.a}, {args.alpha:g} of {args.b}")
