"""`python -m rsvlm <tool> --flags`: the tools beside training and evaluation."""

from __future__ import annotations

import importlib
import os
import sys

from rsvlm.errors import UserError, near

# Tool → module with `main(argv)`; one file per tool, imported only when it is asked for.
TOOLS = {
    "scenes": ("rsvlm.cli.scenes", "look at the generated world"),
    "inspect": ("rsvlm.cli.inspect", "what is in a data set, and what is wrong with its files"),
    "shards": ("rsvlm.cli.shards", "write a data set as tar shards"),
    "index": ("rsvlm.cli.index", "encode a folder of pictures once, for predict.py gallery="),
    "export": ("rsvlm.cli.export", "write a checkpoint in open_clip's or Hugging Face's layout"),
    "average": ("rsvlm.cli.average", "average the weights of two models"),
    "metrics": ("rsvlm.cli.metrics", "metrics under named protocols, and their comparison"),
    "table": ("rsvlm.cli.table", "a paper's numbers and ours, side by side"),
    "report": ("rsvlm.cli.report", "one page from the folders of runs"),
}


def main(argv: list[str]) -> int:
    """Runs a tool; returns the exit status."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{__doc__}\n")
        for name, (_, text) in TOOLS.items():
            print(f"  {name:10s} {text}")
        return 0
    try:
        if argv[0] not in TOOLS:
            raise UserError(f"there is no tool {argv[0]!r}. {near(argv[0], TOOLS)}")
        importlib.import_module(TOOLS[argv[0]][0]).main(argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has read enough; the interpreter's own flush at exit is to find no pipe either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
