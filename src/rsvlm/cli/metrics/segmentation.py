"""Masks of referring expressions and questions: mean and cumulative IoU, P@0.5 to 0.9.

A line of predictions.jsonl:
  {"id": 7, "prediction": "out/7.png", "mask": {"size": [800, 800], "counts": "..."}}
A mask is a picture (any value but 0 is the mask; the path is relative to the file) or COCO's run
lengths; null is no mask. Under --protocol lisa and pixellm a true picture's 255 leaves a pixel out
where the picture also has 1. Under pixellm both are lists of masks, and "image" may name the image
that a question belongs to. `id` may be left out (the line counts); --references FILE gives id and
mask on their own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.cli.metrics.common import add_files, column, read_items, rows, show, write
from rsvlm.errors import UserError

HELP = "masks of referring expressions"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics segmentation`."""
    add_files(parser)
    parser.add_argument("--protocol", default="rmsin", help="rmsin, lisa or pixellm")
    parser.add_argument(
        "--size",
        help="side in pixels at which masks are compared, or 'original'; the protocol's by default",
    )
    parser.add_argument("--data", help="the data set's name; the file's by default")


def run(args: argparse.Namespace) -> None:
    """Scores a file of masks, one line at a time."""
    from rsvlm.metrics.segmentation import Segmentation

    size = int(args.size) if args.size and args.size.isdigit() else args.size
    metric = Segmentation(args.protocol, size=size)
    ignore = metric.rule.ignore
    lines = read_items(args, empty=None)
    truths = column(lines, "mask", "the true one")
    folder = (args.references or args.predictions).parent
    odd: list[str] = []
    for row, truth in zip(lines, truths, strict=True):
        what = f"id {row['id']!r}"
        metric.update(
            [read_mask(row["prediction"], args.predictions.parent, what, ignore=False, odd=odd)],
            [read_mask(truth, folder, what, ignore=ignore, odd=odd)],
            [row["id"]],
            [row["image"] if "image" in row else row["id"]],
        )
    values = metric.compute()
    facts = metric.facts()
    show(args.protocol, "segmentation", values, facts, noun="items")
    if facts["resized"]:
        print(f"{facts['resized']} predictions had another size than the true mask.")
    if odd:
        print(
            f"{len(odd)} pictures of masks have more than two values; all but 0 is the mask. "
            f"Were they saved as JPEG, or resized with interpolation? The first: {odd[0]}."
        )
    results = rows(values, args.data or args.predictions.stem, args.protocol, metric.facts)
    write(args.out, results, {"predictions": str(args.predictions)})


def read_mask(
    given: Any, folder: Path, what: str, *, ignore: bool, odd: list[str] | None = None
) -> Any:
    """A mask, or a list of them, as the metric takes it.

    Args:
        given: a path, run lengths, a list of these, or None.
        folder: where paths begin.
        what: whose mask it is, for errors.
        ignore: leave a picture's 255 where it also has 1.
        odd: gets a phrase on a picture with more values than a mask's two.

    Raises:
        UserError: a file that cannot be read, or something else.
    """
    from rsvlm.data.rle import decode

    if given is None:
        return None
    if isinstance(given, list):
        return [read_mask(one, folder, what, ignore=ignore, odd=odd) for one in given]
    if isinstance(given, dict):
        return np.ascontiguousarray(decode(given))
    if not isinstance(given, str):
        raise UserError(f"{what}: {given!r} is no mask; give a picture's path or run lengths.")
    from PIL import Image

    try:
        with Image.open(folder / given) as picture:
            # As shown: a palette's indices are no values (index 0 may be white). Its grey values,
            # or its colours, are; where entry 0 is black, index and colour say the same.
            shown = picture.mode == "P" and tuple((picture.getpalette() or [])[:3]) != (0, 0, 0)
            pixels = np.asarray(picture.convert("RGB") if shown else picture)
            pixels = pixels.max(2) if shown else pixels
    except OSError as error:
        raise UserError(f"{what}: the mask {folder / given} cannot be read: {error}.") from None
    if pixels.ndim != 2:
        raise UserError(f"{what}: the mask {given} has {pixels.shape[2:]} channels, not one.")
    if ignore and bool((pixels == 1).any()) and pixels.dtype == np.uint8:
        return pixels
    values = np.unique(pixels)
    if len(values) > 2 and odd is not None:
        odd.append(f"{given} has {len(values)} values ({values[0]} to {values[-1]})")
    return pixels != 0
