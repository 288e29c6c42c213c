"""What the sub-commands of `metrics` share: reading lines, printing tables, writing values."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

from rsvlm.app.provenance import provenance
from rsvlm.data.text_files import parse_json, read_text
from rsvlm.errors import UserError

Row = dict[str, Any]

#: Help of `--out`.
OUT = "where values go; by default metrics.json, unless one is there already"


def add_files(parser: argparse.ArgumentParser, lines: str = "JSON Lines, see above") -> None:
    """Options that every sub-command with predictions has."""
    parser.add_argument("predictions", type=Path, help=lines)
    parser.add_argument(
        "--references", type=Path, help="a second file with the truths, joined by id"
    )
    parser.add_argument(
        "--missing",
        choices=["error", "empty"],
        default="error",
        help="what an id of --references without a prediction is",
    )
    parser.add_argument("--out", type=Path, help=OUT)


def read_items(
    args: argparse.Namespace, key: Callable[[Row], Hashable] | None = None, empty: Any = ""
) -> list[Row]:
    """The lines of a file of predictions, with what a second file says of the same ids.

    Args:
        args: with `predictions`, `references`, `missing` (`add_files`).
        key: what an id is unique within; None takes the id alone.
        empty: the prediction of an id that has none, under `--missing empty`.

    Raises:
        UserError: a file that cannot be read, a line without a prediction, an id that comes twice
            or in one file only.
    """
    told = _by_key(args.predictions, key)
    for row in told.values():
        if "prediction" not in row:
            raise UserError(
                f"{args.predictions}, id {row['id']!r} has no 'prediction'; it has "
                f"{', '.join(map(repr, row))}."
            )
    if args.references is None:
        return list(told.values())
    true = _by_key(args.references, key)
    extra = [id for id in told if id not in true]
    if extra:
        raise UserError(
            f"{len(extra)} of {len(told)} predictions are not in {args.references} (first: "
            f"{extra[:3]}; it has ids like {list(true)[:3]}): take them out."
        )
    absent = [id for id in true if id not in told]
    if absent and args.missing != "empty":
        raise UserError(
            f"{len(absent)} of {len(true)} ids have no prediction (first: {absent[:3]}): add them, "
            "or count them as empty answers with --missing empty."
        )
    blank = {"prediction": empty}
    return [{**row, **told.get(id, blank)} for id, row in true.items()]


def _by_key(path: Path, key: Callable[[Row], Hashable] | None) -> dict[Hashable, Row]:
    from rsvlm.metrics.captions.records import read_rows

    rows = read_rows(path)
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path} holds no lines: expected JSON Lines, one object each.")
    found: dict[Hashable, Row] = {}
    for number, row in enumerate(rows):
        where = f"{path}, entry {number + 1}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: {str(row)[:60]!r} is not an object.")
        row = {"id": number, **row}
        if isinstance(row["id"], bool) or not isinstance(row["id"], str | int):
            raise UserError(f"{where}: id {row['id']!r} must be a string or an integer.")
        name = row["id"] if key is None else key(row)
        if name in found:
            raise UserError(f"{where}: id {name!r} was there already.")
        found[name] = row
    return found


def column(rows: list[Row], name: str, what: str) -> list[Any]:
    """One field of all lines.

    Raises:
        UserError: a line without it.
    """
    absent = [row["id"] for row in rows if name not in row]
    if absent:
        raise UserError(
            f"{len(absent)} of {len(rows)} lines have no {name!r}, {what} (first ids: "
            f"{absent[:3]})."
        )
    return [row[name] for row in rows]


def read_vocabulary(path: Path) -> dict[str, int]:
    """A JSON file of word -> id.

    Raises:
        UserError: it is none.
    """
    try:
        found = parse_json(read_text(path))
    except ValueError as error:
        raise UserError(f"--vocabulary {path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not all(type(number) is int for number in found.values()):
        raise UserError(f'--vocabulary {path} must hold one object, {{"a": 1, "<unk>": 0, ...}}.')
    return found


def rows(
    values: Mapping[str, Any], dataset: str, protocol: str, facts: Callable[[str], Row]
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
            **facts(word),
        }
        for word, value in values.items()
    ]


def show(
    protocol: str,
    task: str,
    values: Mapping[str, Any],
    facts: Mapping[str, Any],
    skipped: Mapping[str, str] | None = None,
    noun: str = "images",
) -> None:
    """Prints a protocol's table and what could not run."""
    from rsvlm.metrics.names import METRICS, PROTOCOLS

    print(f"{protocol}: {PROTOCOLS[task][protocol]}")
    empty = f", {facts['empty']} of them with an empty answer" if facts.get("empty") else ""
    print(f"{facts['count']} {noun}{empty}")
    width = max(map(len, [*values, *(skipped or {}), "refclipscore"]))
    for word, value in values.items():
        print(f"  {word:{width}s} {float(value):8.2f}  {METRICS[word].text}")
    for word, why in (skipped or {}).items():
        print(f"  {word:{width}s}     none  {why}")


def write(
    path: Path | None, results: list[dict[str, Any]], source: Mapping[str, Any], **more: Any
) -> None:
    """metrics.json, in the layout of an evaluation run's.

    Args:
        path: the file; None takes metrics.json here, where there is none yet.
        results: see `rows`.
        source: what was measured.
        **more: further entries; empty ones are left out.

    Raises:
        UserError: it cannot be written.
    """
    if path is None:
        path = Path("metrics.json")
        if path.exists():
            print(f"values are not written: {path} is there already (--out {path} replaces it)")
            return
    kept = {key: value for key, value in more.items() if value}
    held = {**source, **provenance(), "results": results, **kept}
    text = json.dumps(held, indent=1, ensure_ascii=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", "utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}. Name another file: --out.") from None
    print(f"values: {path}")
