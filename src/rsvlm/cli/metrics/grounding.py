"""Boxes of referring expressions: accuracy at IoU 0.5 to 0.9, mean and cumulative IoU.

A line of predictions.jsonl:
  {"id": 7, "prediction": [10, 20, 50, 80], "box": [12, 20, 50, 78]}
Boxes are x0, y0, x1, y1 in pixels; null is an answer without a box. Under --protocol oriented a box
may also be five numbers, the last one the angle in degrees (counter-clockwise as one sees it), or
four corners [[x, y], ...]. With --codec NAME a prediction is the model's text, of which the first
box counts, and a line needs "width" and "height" of the image:
  {"id": 7, "prediction": "{<10><20><50><80>}", "box": [...], "width": 800, "height": 800}
A codec goes with its model's preprocessing: padded to a square, the centred square, or squashed
(--preprocess names another one). A codec of pixels also needs "input_width" and "input_height", the
size that the model saw.
A run's own predictions.jsonl (docs/predictions.md) is read too; expressions that mean several
objects are left out. `id` may be left out (the line counts); --references FILE gives id and box on
their own.
"""

from __future__ import annotations

import argparse
from typing import Any

from rsvlm.cli.metrics.common import Row, add_files, column, read_items, rows, show, write
from rsvlm.errors import UserError

HELP = "boxes of referring expressions"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics grounding`."""
    add_files(parser)
    parser.add_argument(
        "--protocol",
        action="append",
        help="rsvg, minigpt, oriented, or inside of points; several times for several; rsvg by "
        "default, inside with a codec of points",
    )
    parser.add_argument("--codec", help="how boxes stand in the text, as in mini0_100")
    parser.add_argument(
        "--preprocess",
        choices=["squash", "pad", "crop"],
        help="how the image became a square for the model; the codec's own by default",
    )
    parser.add_argument("--data", help="the data set's name; the file's by default")


def run(args: argparse.Namespace) -> None:
    """Scores a file of boxes."""
    from rsvlm.data.text.box_codecs import codec as convention
    from rsvlm.metrics.grounding import Grounding, Pointing

    points = bool(args.codec) and convention(args.codec).form == "point"
    protocols = list(dict.fromkeys(args.protocol or ["inside" if points else "rsvg"]))
    if points and protocols != ["inside"]:
        raise UserError(
            f"{args.codec} writes points, which have no area to hold against a box: measure them "
            "with --protocol inside."
        )
    lines = read_items(args, empty="" if args.codec else None)
    if lines and any("true_boxes" in row for row in lines):
        lines = [_of_run(row) for row in lines if len(row.get("true_boxes", ())) == 1]
    if args.codec:
        told = [_read(row, args.codec, args.preprocess or "") for row in lines]
    else:
        told = [_box(row["prediction"]) for row in lines]
    truths = [_box(box) for box in column(lines, "box", "the true one")]
    results = []
    for protocol in protocols:
        metric = Pointing() if protocol == "inside" else Grounding(protocol)
        metric.update(told, truths, [row["id"] for row in lines])
        values = metric.compute()
        results += rows(values, args.data or args.predictions.stem, protocol, metric.facts)
        task = "pointing" if protocol == "inside" else "grounding"
        show(protocol, task, values, metric.facts(), noun="expressions")
    write(args.out, results, {"predictions": str(args.predictions)})


def _of_run(row: Row) -> Row:
    """A record of a run: its first box against the one that is true."""
    boxes, angles = row.get("boxes") or [None], row.get("angles") or [None]
    true_angles = row.get("true_angles") or [None]
    told, true = (boxes[0], angles[0]), (row["true_boxes"][0], true_angles[0])
    pair = [box if angle is None else (tuple(box), angle) for box, angle in (told, true)]
    return {**row, "prediction": pair[0], "box": pair[1]}


def _box(given: Any) -> Any:
    """Five numbers are a box and its angle."""
    if isinstance(given, list) and len(given) == 5:
        return tuple(given[:4]), given[4]
    return given


def _read(row: Row, codec: str, preprocess: str) -> Any:
    """The first box of a text, in pixels of the stored image."""
    from rsvlm.data.text.box_codecs import codec as convention
    from rsvlm.data.text.box_codecs import published_geometry

    text, sides = row["prediction"], (row.get("height"), row.get("width"))
    if not isinstance(text, str):
        raise UserError(
            f"id {row['id']!r}: with --codec a prediction is a text, not {text!r}; "
            'write "" where the model gave no answer.'
        )
    if not all(type(side) is int and side > 0 for side in sides):
        raise UserError(f"id {row['id']!r}: --codec needs 'width' and 'height' of the image.")
    height, width = sides
    seen = (row.get("input_height"), row.get("input_width"))
    given = tuple(side for side in seen if type(side) is int and side > 0)
    if seen != (None, None) and len(given) != 2:
        raise UserError(f"id {row['id']!r}: 'input_width' and 'input_height' are both in pixels.")
    try:
        size = (given[0], given[1]) if given else None
        geometry = published_geometry(codec, int(height or 0), int(width or 0), size, preprocess)
    except UserError as error:
        raise UserError(f"id {row['id']!r}: {error}") from None
    found = convention(codec).parse(text, geometry).boxes
    if not found:
        return None
    return found[0].box if found[0].angle is None else (found[0].box, found[0].angle)
