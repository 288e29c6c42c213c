"""Image-text retrieval from features: recall in both directions.

Features come as an .npz with `image_features` [N, D], `text_features` [T, D], `image_of_text` [T]
(row of each caption's image) and, for --protocol skyscript, `captions` [T]; or as JSON Lines, where
a line holds an image with all its captions:
  {"id": 0, "image": [0.1, ...], "texts": [[0.2, ...], ...], "captions": ["a red roof .", ...]}
Features are brought to unit length. `captions` are needed by skyscript alone, which counts each
distinct sentence once.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.cli.metrics.common import OUT, rows, show, write
from rsvlm.errors import UserError

HELP = "recall of images and captions from their features"


def add(parser: argparse.ArgumentParser) -> None:
    """Options of `metrics retrieval`."""
    parser.add_argument("predictions", type=Path, help=".npz or JSON Lines, see above")
    parser.add_argument(
        "--protocol",
        action="append",
        choices=["remoteclip", "skyscript"],
        help="several times for several; remoteclip by default",
    )
    parser.add_argument("--block", type=int, default=1024, help="scores at a time, squared")
    parser.add_argument("--data", help="the data set's name; the file's by default")
    parser.add_argument("--out", type=Path, help=OUT)


def run(args: argparse.Namespace) -> None:
    """Scores a file of features."""
    import torch
    import torch.nn.functional as F

    from rsvlm.metrics.gather import with_unit
    from rsvlm.metrics.retrieval import Retrieval, text_keys

    images, texts, owner, captions = read_features(args.predictions)
    results: list[dict[str, Any]] = []
    for protocol in dict.fromkeys(args.protocol or ["remoteclip"]):
        if protocol == "skyscript" and captions is None:
            raise UserError("protocol skyscript merges equal sentences: the file needs 'captions'.")
        metric = Retrieval(protocol, block=args.block, examples=0)
        try:
            metric.update(
                F.normalize(torch.from_numpy(images), dim=-1),
                F.normalize(torch.from_numpy(texts), dim=-1),
                torch.from_numpy(owner),
                torch.arange(len(images)),
                None if captions is None else text_keys(captions),
            )
            values = metric.compute()
        except UserError:
            raise
        except ValueError as error:  # its words are for users too
            raise UserError(f"{args.predictions}: {error}") from None
        chance = metric.chance()
        shared = {"count": metric.counts()["images"], "settings": {}}

        def facts(word: str, chance: Any = chance, shared: Any = shared) -> dict[str, Any]:
            return {**shared, **with_unit(word), "chance": chance[word]}

        results += rows(values, args.data or args.predictions.stem, protocol, facts)
        show(protocol, "retrieval", values, shared)
        print(f"{metric.counts()['captions']} captions, {metric.counts()['sentences']} sentences")
    write(args.out, results, {"predictions": str(args.predictions)})


def read_features(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str] | None]:
    """Image features [N, D], text features [T, D], image of each text [T], and the texts.

    Raises:
        UserError: a file that cannot be read, lacks a part, or whose parts do not fit.
    """
    parts = _npz(path) if path.suffix == ".npz" else _lines(path)
    images, texts, owner, captions = parts
    if images.ndim != 2 or not len(images) or texts.ndim != 2 or not len(texts):
        raise UserError(
            f"{path}: image features {images.shape} and text features {texts.shape} must be "
            "[N, D] and [T, D], at least one each."
        )
    if captions is not None and len(captions) != len(texts):
        raise UserError(f"{path}: {len(captions)} captions for {len(texts)} text features.")
    return images.astype(np.float32), texts.astype(np.float32), owner.astype(np.int64), captions


def _npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str] | None]:
    try:
        with np.load(path, allow_pickle=False) as held:
            names = ("image_features", "text_features", "image_of_text")
            absent = [name for name in names if name not in held]
            if absent:
                raise UserError(f"{path} lacks {', '.join(absent)}; it has {', '.join(held)}.")
            captions = list(map(str, held["captions"])) if "captions" in held else None
            return (*(held[name] for name in names), captions)
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _lines(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str] | None]:
    from rsvlm.metrics.captions.records import read_rows

    images: list[Any] = []
    texts: list[Any] = []
    owner: list[int] = []
    captions: list[str] = []
    for number, row in enumerate(read_rows(path)):
        where = f"{path}, entry {number + 1}"
        if not isinstance(row, dict) or "image" not in row or not row.get("texts"):
            raise UserError(f"{where} needs 'image' and at least one of 'texts'.")
        images.append(row["image"])
        texts += row["texts"]
        owner += [number] * len(row["texts"])
        captions += row.get("captions", [])
    try:
        features = np.array(images, np.float32), np.array(texts, np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: features of several widths, or no numbers: {error}.") from None
    return (*features, np.array(owner, np.int64), captions or None)
