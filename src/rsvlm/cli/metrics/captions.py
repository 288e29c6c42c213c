"""Captions against references: BLEU, METEOR, ROUGE-L, CIDEr-D, SPICE under a protocol.

A line of predictions.jsonl:
  {"id": "x.png", "prediction": "a red roof .", "references": ["red roofs .", "..."]}
`id` may be left out (the line counts); `references` may stand in a second file (--references): the
same lines, COCO's annotations, or a data set in Karpathy's format with --split. COCO's
{"image_id": ..., "caption": ...} is read as well. An empty prediction counts as empty.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rsvlm.cli.metrics.common import OUT, read_vocabulary, rows, show, write

HELP = "captions against references"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics captions`."""
    parser.add_argument("predictions", type=Path, help="JSON Lines with prediction, references, id")
    parser.add_argument("--references", type=Path, help="where the predictions bring none")
    parser.add_argument("--split", default="test", help="of references in Karpathy's format")
    parser.add_argument(
        "--protocol",
        action="append",
        help="coco (by default), nltk, earthdial, rs_rag, token_ids or open_questions; may be "
        "given several times",
    )
    parser.add_argument("--metrics", help="some of the protocol's words, as in bleu4,cider")
    parser.add_argument("--vocabulary", type=Path, help="JSON of word -> id, for token_ids")
    parser.add_argument(
        "--missing",
        choices=["error", "empty"],
        default="error",
        help="what an image without a prediction is",
    )
    parser.add_argument("--data", help="the data set's name; the file's by default")
    parser.add_argument("--out", type=Path, help=OUT)
    parser.add_argument("--per-image", action="store_true", help="also write each image's scores")


def run(args: argparse.Namespace) -> None:
    """Scores a file of predictions."""
    from rsvlm.metrics.captions.metric import Captions
    from rsvlm.metrics.captions.protocols import NUMBERED
    from rsvlm.metrics.captions.records import read_records

    vocabulary = read_vocabulary(args.vocabulary) if args.vocabulary else None
    wanted = args.metrics.split(",") if args.metrics else None
    results: list[dict[str, Any]] = []
    images: dict[str, Any] = {}
    for protocol in dict.fromkeys(args.protocol or ["coco"]):
        numbers = protocol in NUMBERED and vocabulary is None
        records = read_records(
            args.predictions,
            args.references,
            split=args.split,
            missing=args.missing,
            token_ids=numbers,
        )
        metric = Captions(
            protocol,
            metrics=wanted,
            vocabulary=vocabulary if protocol in NUMBERED else None,
        )
        # By position, so that the order is the file's, whatever the ids look like.
        metric.update([r.prediction for r in records], [r.references for r in records])
        values = metric.compute()
        facts = metric.facts()
        results += rows(values, args.data or args.predictions.stem, protocol, metric.facts)
        if args.per_image:
            images[protocol] = {
                "ids": [record.id for record in records],
                **{word: scores.tolist() for word, scores in metric.per_image.items()},
            }
        show(protocol, "captions", values, facts, metric.skipped)
    write(args.out, results, {"predictions": str(args.predictions)}, per_image=images)
