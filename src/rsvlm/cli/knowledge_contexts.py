"""`rsvlm knowledge contexts`: what a base holds on each question of a data set, for training.

rsvlm knowledge contexts kb --data rswk --root /data/RSWK --split train --out contexts.jsonl
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError


def add_parser(commands: Any) -> None:
    """Its words."""
    parser = commands.add_parser(
        "contexts", help="what a base holds on each question of a data set, to train with"
    )
    parser.add_argument("base", help="its folder, or a server's address/name")
    parser.add_argument("--data", required=True, help="a data option of conf/data")
    parser.add_argument("--root", help="the data set's folder")
    parser.add_argument("--split", default="train", help="of the data set (train)")
    parser.add_argument("--out", type=Path, required=True, help="the .jsonl file; goes on with it")
    parser.add_argument("-k", type=int, default=3, help="most passages of a question (3)")
    parser.add_argument("--alpha", type=float, default=0.7, help="weight of the picture (0.7)")
    parser.add_argument("--exclude-self", action="store_true", help="not the picture's own record")
    parser.add_argument("--option", nargs="*", default=[], help="key=value of the data set")


def run(args: argparse.Namespace) -> None:
    """Writes the file, or goes on with it.

    Raises:
        UserError: no base, no data set, or no question in it.
    """
    from rsvlm.cli.inspect import reader
    from rsvlm.data.loading.contexts import line_of, read_contexts
    from rsvlm.inference.knowledge import open_base
    from rsvlm.retrieval.knowledge_records import TASKS

    make, _ = reader(args.data, args.root, args.option, None)
    dataset = make(split=args.split)
    base = open_base(args.base)
    known = set()
    if args.out.is_file():
        held = args.out.read_bytes()
        if not held.endswith(b"\n"):  # the line that a kill cut off
            args.out.write_bytes(held[: held.rfind(b"\n") + 1])
        known = set(read_contexts(args.out))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    asked = found = 0
    with args.out.open("a", encoding="utf-8") as file:
        for i in range(len(dataset)):
            sample = dataset[i]
            for turn in sample.turns:
                if turn.role != "user":
                    continue
                asked += 1
                key = str(sample.meta.get("id")), turn.text
                if key in known:
                    continue
                hits = base.search(
                    sample.images[0],
                    turn.text,
                    task=turn.kind if turn.kind in TASKS else None,
                    k=args.k,
                    alpha=args.alpha,
                    exclude_self=args.exclude_self,
                )
                found += bool(hits)
                file.write(line_of(*key, hits) + "\n")
                known.add(key)
            if sys.stderr.isatty():
                print(f"\r{i + 1} of {len(dataset)} samples", end="", file=sys.stderr, flush=True)
    if not asked:
        raise UserError(f"{dataset.name}, split {args.split}, has no questions.")
    print(f"{asked} questions, something was found for {found} of those that were new")
    print(f"wrote {args.out}")
