"""`python -m rsvlm metrics captions predictions.jsonl`: scores under a named protocol, and tables.

metrics captions predictions.jsonl                    COCO's protocol; a table, and metrics.json
metrics captions predictions.jsonl --protocol nltk    also earthdial, rs_rag, token_ids
metrics compare a.json b.json                         two results beside each other
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rsvlm.errors import UserError


def main(argv: list[str]) -> None:
    """Runs a sub-command.

    Raises:
        UserError: input that cannot be scored or compared.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rsvlm metrics",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (add, _) in COMMANDS.items():
        add(commands.add_parser(name, help=HELP[name], description=HELP[name]))
    args = parser.parse_args(argv)
    COMMANDS[args.command][1](args)


# captions --------------------------------------------------------------------------------------


def add_captions(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics captions`."""
    from rsvlm.metrics.names import PROTOCOLS

    parser.add_argument("predictions", type=Path, help="JSON Lines with prediction, references, id")
    parser.add_argument("--references", type=Path, help="where the predictions bring none")
    parser.add_argument("--split", default="test", help="of references in Karpathy's format")
    parser.add_argument(
        "--protocol",
        action="append",
        choices=list(PROTOCOLS["captions"]),
        help="may be given several times; coco by default",
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
    parser.add_argument("--out", type=Path, default=Path("metrics.json"), help="where values go")
    parser.add_argument("--per-image", action="store_true", help="also write each image's scores")


def captions(args: argparse.Namespace) -> None:
    """Scores a file of predictions."""
    from rsvlm.metrics.captions.metric import Captions
    from rsvlm.metrics.captions.records import read_records

    vocabulary = read_vocabulary(args.vocabulary) if args.vocabulary else None
    wanted = args.metrics.split(",") if args.metrics else None
    results: list[dict[str, Any]] = []
    images: dict[str, Any] = {}
    for protocol in dict.fromkeys(args.protocol or ["coco"]):
        numbers = protocol == "token_ids" and vocabulary is None
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
            vocabulary=vocabulary if protocol == "token_ids" else None,
        )
        # By position, so that the order is the file's, whatever the ids look like.
        metric.update([r.prediction for r in records], [r.references for r in records])
        values = metric.compute()
        facts = metric.facts()
        results += rows(values, args.data or args.predictions.stem, protocol, facts)
        if args.per_image:
            images[protocol] = {
                "ids": [record.id for record in records],
                **{word: scores.tolist() for word, scores in metric.per_image.items()},
            }
        show(protocol, "captions", values, facts, metric.skipped)
    write(args.out, results, {"predictions": str(args.predictions)}, per_image=images)


def read_vocabulary(path: Path) -> dict[str, int]:
    """A JSON file of word -> id.

    Raises:
        UserError: it is none.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"--vocabulary {path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(type(number) is int for number in found.values()):
        raise UserError(f'--vocabulary {path} must hold one object, {{"a": 1, "<unk>": 0, ...}}.')
    return found


# What every sub-command does -------------------------------------------------------------------


def rows(
    values: Mapping[str, Any], dataset: str, protocol: str, facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Results as metrics.json holds them; those of an evaluation run look the same."""
    from rsvlm.metrics.names import metric_name

    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in dataset.lower()).strip("_")
    return [
        {
            "name": metric_name("test", name or "data", protocol, word),
            "value": float(value),
            "protocol": protocol,
            "dataset": name or "data",
            **facts,
        }
        for word, value in values.items()
    ]


def show(
    protocol: str,
    task: str,
    values: Mapping[str, Any],
    facts: Mapping[str, Any],
    skipped: Mapping[str, str],
) -> None:
    """Prints a protocol's table and what could not run."""
    from rsvlm.metrics.names import METRICS, PROTOCOLS

    print(f"{protocol}: {PROTOCOLS[task][protocol]}")
    empty = f", {facts['empty']} of them with an empty answer" if facts.get("empty") else ""
    print(f"{facts['count']} images{empty}")
    for word, value in values.items():
        print(f"  {word:10s} {float(value):8.2f}  {METRICS[word].text}")
    for word, why in skipped.items():
        print(f"  {word:10s}     none  {why}")


def write(
    path: Path, results: list[dict[str, Any]], source: Mapping[str, Any], **more: Any
) -> None:
    """metrics.json, in the layout of an evaluation run's."""
    kept = {key: value for key, value in more.items() if value}
    text = json.dumps({**source, "results": results, **kept}, indent=1, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Name another file: --out.") from None
    print(f"values: {path}")


# compare ---------------------------------------------------------------------------------------


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics compare`."""
    parser.add_argument(
        "files", nargs="+", type=Path, help="metrics.json of runs, or their folders"
    )


def compare(args: argparse.Namespace) -> None:
    """Prints one row per file and one column per data set, protocol and metric."""
    files = [path / "metrics.json" if path.is_dir() else path for path in args.files]
    if len(files) < 2:
        raise UserError("compare takes two files or more.")
    print(table({str(given): read(path) for given, path in zip(args.files, files, strict=True)}))


def read(path: Path) -> list[dict[str, Any]]:
    """The results of a metrics.json.

    Raises:
        UserError: it is none.
    """
    from rsvlm.metrics.names import parse

    try:
        found = json.loads(path.read_text("utf-8"))["results"]
        for row in found:
            parse(row["name"])
            float(row["value"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no metrics.json of rsvlm: {error}") from None
    return list(found)


def table(files: Mapping[str, list[dict[str, Any]]]) -> str:
    """Results beside each other, in columns that each hold one metric under one protocol.

    A column is a metric's whole name and its settings (a vocabulary, a CLIP). Values of one column
    must rest on the same references.

    Args:
        files: name -> results.

    Raises:
        UserError: no column in common, or references that differ within one.
    """
    cells: dict[str, dict[str, float]] = {}
    sources: dict[str, dict[str, str]] = {}
    for file, results in files.items():
        for row in results:
            settings = "".join(f" [{k}: {v}]" for k, v in (row.get("settings") or {}).items())
            column = row["name"].partition("/")[2] + settings
            if file in cells.setdefault(column, {}):
                raise UserError(f"{file} has {row['name']} twice.")
            cells[column][file] = float(row["value"])
            basis = row.get("references") or row.get("count")
            sources.setdefault(column, {})[file] = str(basis)
    for column, basis in sources.items():
        if len(set(basis.values())) > 1:
            counted = ", ".join(f"{file}: {what}" for file, what in basis.items())
            raise UserError(
                f"{column} rests on different references ({counted}), and its values cannot stand "
                "in one column: score all files on the same set."
            )
    shared = [column for column, values in cells.items() if len(values) == len(files)]
    apart = [column for column in cells if column not in shared]
    if not shared:
        protocols = {
            file: sorted({c.rpartition("/")[0] for c in cells if file in cells[c]})
            for file in files
        }
        have = "; ".join(f"{file}: {', '.join(names)}" for file, names in protocols.items())
        raise UserError(
            f"nothing to compare: the files share no metric under one protocol ({have}). A metric "
            "under two protocols is two metrics; score both files under the same one."
        )
    width = max(map(len, files))
    head = max(map(len, shared))
    out = [" " * head + "".join(f"  {file:>{max(8, width)}s}" for file in files)]
    for column in shared:
        values = "".join(f"  {cells[column][file]:{max(8, width)}.2f}" for file in files)
        out.append(f"{column:{head}s}{values}")
    if apart:
        out.append("not in all files, so not compared: " + ", ".join(apart))
    return "\n".join(out)


Add = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], None]

#: Sub-command -> what adds its options, what runs it.
COMMANDS: dict[str, tuple[Add, Run]] = {
    "captions": (add_captions, captions),
    "compare": (add_compare, compare),
}
HELP = {
    "captions": "captions against references",
    "compare": "results beside each other, one protocol per column",
}
