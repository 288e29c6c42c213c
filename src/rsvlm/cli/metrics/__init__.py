"""`rsvlm metrics <what> predictions.jsonl`: scores under a named protocol, and tables.

metrics captions predictions.jsonl                    COCO's protocol; a table, and metrics.json
metrics captions predictions.jsonl --protocol nltk    also earthdial, rs_rag, token_ids
metrics change predictions.jsonl --data levir_cc      all, changed, unchanged; counts; places
metrics vqa predictions.jsonl --data rsvqa_lr         each type of question, and their mean
metrics grounding predictions.jsonl                   boxes, upright or turned
metrics segmentation predictions.jsonl                masks, under three published rules
metrics retrieval features.npz                        recall both ways
metrics compare a.json b.json                         results beside each other
metrics compare runs/a runs/b --paired                differences with intervals, image by image
metrics from runs/a                                   a run's metrics.json from its predictions

Each sub-command's --help says what a line of predictions.jsonl holds.
"""

from __future__ import annotations

import argparse

from rsvlm.cli.metrics import (
    captions,
    change,
    compare,
    docs,
    from_run,
    grounding,
    retrieval,
    segmentation,
    vqa,
)
from rsvlm.cli.metrics.compare import table

__all__ = ["COMMANDS", "main", "table"]

#: Sub-command -> its file, with HELP, `add` and `run`.
COMMANDS = {
    "captions": captions,
    "change": change,
    "vqa": vqa,
    "grounding": grounding,
    "segmentation": segmentation,
    "retrieval": retrieval,
    "compare": compare,
    "from": from_run,
    "docs": docs,
}


def main(argv: list[str]) -> None:
    """Runs a sub-command.

    Raises:
        UserError: input that cannot be scored or compared.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="rsvlm metrics", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.HELP, description=command.__doc__, formatter_class=raw
        )
        if argv[:1] == [name]:  # options of the others would import what they measure with
            command.add(sub)
    args = parser.parse_args(argv)
    COMMANDS[args.command].run(args)
