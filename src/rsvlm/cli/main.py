"""rsvlm <verb or tool>: remote-sensing vision-language models.

Verbs take words, `group=option group.key=value`; tools take `--flags`. `rsvlm <name> --help` says
which.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from rsvlm.errors import UserError, near
from rsvlm.files import WriteError

VERBS = {
    "train": "train a recipe, or go on with a run",
    "eval": "measure a checkpoint under a named protocol",
    "predict": "ask a checkpoint about pictures",
    "bench": "measure models on a suite of evaluations: one table, one page",
    "curate": "build a data set by a pipeline",
}
# Tool → module with `main(argv)`; one file per tool, imported only when it is asked for.
TOOLS = {
    "list": ("rsvlm.cli.list", "models, recipes, data sets, protocols, suites"),
    "inspect": ("rsvlm.cli.inspect", "what is in a data set, and what is wrong with its files"),
    "metrics": ("rsvlm.cli.metrics", "metrics under named protocols, and their comparison"),
    "report": ("rsvlm.cli.report", "one page from the folders of runs"),
    "table": ("rsvlm.cli.table", "a paper's numbers and ours, side by side"),
    "index": ("rsvlm.cli.index", "encode a folder of pictures once, for predict gallery="),
    "knowledge": ("rsvlm.cli.knowledge", "a base of places: build, search, add, remove, info"),
    "gather": ("rsvlm.cli.gather", "an extract of OpenStreetMap, or imagery, for pipelines"),
    "lmms-eval": ("rsvlm.cli.lmms_eval", "write a recipe as a task of lmms-eval"),
    "card": ("rsvlm.cli.card", "the data card of a set that rsvlm curate built, again"),
    "export": ("rsvlm.cli.export", "write a checkpoint in another library's layout"),
    "average": ("rsvlm.cli.average", "average the weights of two models"),
    "scenes": ("rsvlm.cli.scenes", "look at the generated world, and write it as a data set"),
    "shards": ("rsvlm.cli.shards", "write a data set as tar shards"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb or a tool; returns the exit status.

    Args:
        argv: what stands behind `rsvlm`; None takes the command line.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    carried = os.environ.get("RSVLM_COMMAND")
    if carried and any(w.startswith("hydra.job.name=train_ddp_process_") for w in words):
        words = [carried, *words]  # a rank that Lightning starts, see app/entry.py
    if not words or words[0] in ("-h", "--help"):
        print(_help())
        return 0
    name, rest = words[0], words[1:]
    if name == "--version":
        import rsvlm

        print(f"rsvlm {rsvlm.__version__}")
        return 0
    try:
        if name in VERBS:
            from rsvlm.app.entry import main as verb

            verb(name, rest)
            return 0
        if name not in TOOLS:
            raise UserError(f"there is no command {name!r}. {near(name, [*VERBS, *TOOLS])}")
        importlib.import_module(TOOLS[name][0]).main(rest)
        sys.stdout.flush()
    except BrokenPipeError:
        # `| head` has read enough; the interpreter's own flush at exit is to find no pipe either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UserError, WriteError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _help() -> str:
    lines = [str(__doc__), "verbs:"]
    lines += [f"  {name:10s} {text}" for name, text in VERBS.items()]
    lines += ["", "tools:", *(f"  {name:10s} {text}" for name, (_, text) in TOOLS.items())]
    return "\n".join(lines)
