"""Change between two dates: captions, yes or no, counts, places, open questions.

A line of predictions.jsonl, by its kind ("caption" where there is none):
  {"id": "a.png", "prediction": "a road is built", "references": ["...", "..."], "changeflag": 1}
  {"id": "a.png", "kind": "binary", "prediction": "yes", "changeflag": 1}
  {"id": "a.png", "kind": "count", "prediction": "2 new roads ...",
   "answer": {"road": 2, "building": 0}}
  {"id": "a.png", "kind": "location", "prediction": "roads ['top-left'] buildings []",
   "answer": {"road": ["top-left"], "building": []}}
  {"id": "a.png", "kind": "open", "prediction": "two houses", "references": ["two houses"]}
Counts and places may also be the data set's own answer, a string. `changeflag` of captions may be
left out: the second reference then tells, by the sentences of --data. Ids are unique within a kind;
--references FILE gives the same lines without predictions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rsvlm.cli.metrics.common import (
    Row,
    add_files,
    column,
    read_items,
    read_vocabulary,
    rows,
    show,
    write,
)
from rsvlm.errors import UserError, near

HELP = "captions, yes or no, counts and places of changes"
KINDS = ("caption", "binary", "count", "location", "open")


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics change`."""
    add_files(parser)
    parser.add_argument(
        "--data", default="levir_cc", help="the data set, whose sentences tell unchanged pairs"
    )
    parser.add_argument(
        "--templates",
        nargs="+",
        metavar="SENTENCE",
        help="such sentences of a set that rsvlm does not know",
    )
    parser.add_argument("--protocol", default="token_ids", help="of captions; token_ids by default")
    parser.add_argument("--metrics", help="some of its words, as in bleu4,cider")
    parser.add_argument("--vocabulary", type=Path, help="JSON of word -> id, of captions")
    parser.add_argument(
        "--open-vocabulary", type=Path, help="JSON of word -> id, of open questions"
    )
    parser.add_argument(
        "--parser",
        action="append",
        choices=["published", "robust"],
        help="of counts and places; may be given several times; both by default",
    )


def run(args: argparse.Namespace) -> None:
    """Scores each kind of line."""
    from rsvlm.data.text.no_change import NO_CHANGE

    every = read_items(args, key=lambda row: (row.get("kind", "caption"), row["id"]))
    kinds: dict[str, list[Row]] = {}
    for row in every:
        kind = row.get("kind", "caption")
        if kind not in KINDS:
            raise UserError(f"id {row['id']!r}: kind {kind!r} is unknown. {near(kind, KINDS)}")
        kinds.setdefault(kind, []).append(row)
    if args.templates is None and args.data not in NO_CHANGE:
        raise UserError(
            f"--data {args.data}: rsvlm does not know how it words unchanged pairs. "
            f"{near(args.data, NO_CHANGE)} Or give --templates."
        )
    results: list[Row] = []
    for kind in KINDS:
        if kind in kinds:
            for metric, noun in _measure(kind, kinds[kind], args):
                values = metric.compute()
                results += rows(values, args.data, metric.protocol, metric.facts)
                print(f"\n{kind}")
                skipped = getattr(metric, "skipped", None)
                show(metric.protocol, _task(values), values, metric.facts(), skipped, noun)
    write(args.out, results, {"predictions": str(args.predictions)})


def _task(values: dict[str, Any]) -> str:
    from rsvlm.metrics.names import METRICS

    return METRICS[next(iter(values))].task


def _measure(kind: str, lines: list[Row], args: argparse.Namespace) -> list[tuple[Any, str]]:
    """The metrics of a kind, filled, and what they count."""
    from rsvlm.metrics import change

    told = [row["prediction"] for row in lines]
    wanted = args.metrics.split(",") if args.metrics else None
    if kind == "caption":
        words = read_vocabulary(args.vocabulary) if args.vocabulary else None
        captions = change.ChangeCaptions(
            args.protocol,
            data=args.data,
            templates=args.templates,
            metrics=wanted,
            vocabulary=words,
        )
        flags = [row.get("changeflag") for row in lines]
        captions.update(told, column(lines, "references", "a list of sentences"), flags=flags)
        own = {"protocol": "custom_templates", "templates": args.templates}
        found = change.ChangeFlags(**(own if args.templates else {"protocol": args.data}))
        captions.compute()
        found.update(told, captions.changed)
        return [(captions, "pairs"), (found, "pairs")]
    if kind == "open":
        words = read_vocabulary(args.open_vocabulary) if args.open_vocabulary else None
        asked = change.OpenQuestions(metrics=wanted, vocabulary=words)
        asked.update(told, column(lines, "references", "a list of one sentence"))
        return [(asked, "questions")]
    if kind == "binary":
        answers = change.ChangeFlags("yes_no")
        answers.update(told, column(lines, "changeflag", "0 or 1"))
        return [(answers, "pairs")]
    kinds = {"count": change.ChangeCounts, "location": change.ChangeLocations}
    truths = column(lines, "answer", "what is true")
    filled: list[tuple[Any, str]] = []
    for parser in dict.fromkeys(args.parser or ["published", "robust"]):
        metric = kinds[kind](parser)
        metric.update(told, truths)
        filled.append((metric, "pairs"))
    return filled
