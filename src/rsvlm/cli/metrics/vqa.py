"""Answers to questions: accuracy of all, of each type, and the mean over the types.

A line of predictions.jsonl:
  {"id": 7, "prediction": "yes", "answer": "no", "type": "presence"}
`id` may be left out (the line counts); --references FILE gives id, answer and type on their own.
Types are those of --data: rsvqa_lr has rural_urban, presence, count, comp; rsvqa_hr (its first
test set) and rsvqa_hr_phili (its second) area, presence, count, comp; rsivqa yes_no, number, other,
which follow from the answer and may be left out; any takes the types as they come, or none.
"""

from __future__ import annotations

import argparse

from rsvlm.cli.metrics.common import add_files, column, read_items, rows, show, write

HELP = "answers to questions, by type"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics vqa`."""
    add_files(parser)
    parser.add_argument("--data", default="any", help="the data set, see above; any by default")
    parser.add_argument(
        "--protocol",
        action="append",
        help="exact, evalai, published, lhrs or vhm; several times for several; exact by default",
    )


def run(args: argparse.Namespace) -> None:
    """Scores a file of answers."""
    from rsvlm.metrics.vqa import VQA

    lines = read_items(args)
    results = []
    for protocol in dict.fromkeys(args.protocol or ["exact"]):
        metric = VQA(args.data, protocol)
        metric.update(
            [row["prediction"] for row in lines],
            column(lines, "answer", "the true one"),
            [row.get("type") for row in lines],
            [row["id"] for row in lines],
        )
        values = metric.compute()
        results += rows(values, args.data, protocol, metric.facts)
        show(protocol, "vqa", values, metric.facts(), noun="questions")
    write(args.out, results, {"predictions": str(args.predictions)})
