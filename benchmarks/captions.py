"""BLEU, ROUGE-L and CIDEr-D with tokenisation, beside pycocoevalcap with its Java tokenizer.

    pip install 'rsvlm[meteor]'          # pycocoevalcap, and a Java runtime
    RSVLM_GOLDEN=... python benchmarks/captions.py
    python benchmarks/captions.py --predictions predictions.jsonl

Without `--predictions` these are the answers of RSVLM_GOLDEN's captions/rsicd.jsonl; where that is
not there, each image of RSICD's test split (RSVLM_DATA) gets the first caption of the image after
it; `--train 3150` takes as many images of its training split in the same way, and `--distinct 3150`
gives as many images five sentences of RSICD's each, none of them twice. Both sides start from
the same strings and end with corpus and image scores, turn by turn in one process; the published
side starts Java twice, as it does for every evaluation. Times are processor seconds, Java's
included, which neighbours on the machine disturb less than the clock's; both ratios are printed.
Values must agree to 1e-9, or the script fails.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import os
import platform
import random
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.metrics.captions import java, ptb
from rsvlm.metrics.captions.bleu import bleu
from rsvlm.metrics.captions.cider import cider_d
from rsvlm.metrics.captions.counts import Table
from rsvlm.metrics.captions.records import read_records
from rsvlm.metrics.captions.rouge import rouge_l

PARTS = ("tokens", "bleu", "rouge_l", "cider")
Scores = dict[str, Any]
Times = dict[str, float]


def now() -> tuple[float, float]:
    """Processor seconds of this process and of those that it has waited for, and the clock's."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = time.process_time() + children.ru_utime + children.ru_stime
    return busy, time.perf_counter()


def read(
    path: Path | None, train: int = 0, distinct: int = 0
) -> tuple[list[str], list[list[str]], str]:
    """Predictions and references, and where they come from."""
    golden, data = os.environ.get("RSVLM_GOLDEN"), os.environ.get("RSVLM_DATA")
    if (
        path is None
        and golden
        and not train
        and (Path(golden) / "captions" / "rsicd.jsonl").is_file()
    ):
        path = Path(golden) / "captions" / "rsicd.jsonl"
    if path is not None:
        records = read_records(path)
        references = [list(one.references) for one in records]
        return [one.prediction for one in records], references, path.name
    if not data:
        raise SystemExit("give --predictions, or set RSVLM_GOLDEN or RSVLM_DATA.")
    images = json.loads((Path(data) / "rsicd_160" / "dataset_rsicd.json").read_text())["images"]
    if distinct:
        every = (sentence["raw"] for image in images for sentence in image["sentences"])
        pool = list(dict.fromkeys(every))
        random.Random(0).shuffle(pool)
        if len(pool) < 5 * distinct:
            raise SystemExit(
                f"RSICD has {len(pool)} distinct sentences: --distinct {len(pool) // 5}."
            )
        references = [pool[5 * i : 5 * i + 5] for i in range(distinct)]
        shifted = references[1:] + references[:1]
        return [refs[0] for refs in shifted], references, "sentences of RSICD, each once"
    split = "train" if train else "test"
    references = [
        [sentence["raw"] for sentence in image["sentences"]]
        for image in images
        if image["split"] == split
    ][: train or None]
    shifted = references[1:] + references[:1]
    return [refs[0] for refs in shifted], references, f"RSICD {split}, captions of the next image"


def ours(predictions: list[str], references: list[list[str]]) -> tuple[Scores, Times]:
    """This project's."""
    clock = [now()]
    guesses = ptb.tokenize(predictions)
    flat = iter(ptb.tokenize([ref for refs in references for ref in refs]))
    targets = [[next(flat) for _ in refs] for refs in references]
    clock.append(now())
    table = Table(guesses, targets)
    corpus, each = bleu(guesses, targets, table)
    clock.append(now())
    rouge = rouge_l(guesses, targets)
    clock.append(now())
    cider = cider_d(guesses, targets, table)
    clock.append(now())
    found = {"bleu": (corpus, each), "rouge_l": (np.mean(rouge), rouge)}
    return found | {"cider": (cider.mean(), cider)}, _times(clock)


def published(predictions: list[str], references: list[list[str]]) -> tuple[Scores, Times]:
    """pycocoevalcap's, with its own tokenizer."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    clock = [now()]
    tokenizer = PTBTokenizer()
    targets = tokenizer.tokenize(
        {i: [{"caption": ref} for ref in refs] for i, refs in enumerate(references)}
    )
    guesses = tokenizer.tokenize({i: [{"caption": g}] for i, g in enumerate(predictions)})
    clock.append(now())
    found: Scores = {}
    for part, scorer in zip(PARTS[1:], (Bleu(4), Rouge(), Cider()), strict=True):
        with contextlib.redirect_stdout(io.StringIO()):
            found[part] = scorer.compute_score(targets, guesses)
        clock.append(now())
    return found, _times(clock)


def _times(marks: list[tuple[float, float]]) -> Times:
    busy, clock = zip(*marks, strict=True)
    each = [end - start for start, end in itertools.pairwise(busy)]
    whole = {"all": busy[-1] - busy[0], "clock": clock[-1] - clock[0]}
    return dict(zip(PARTS, each, strict=True)) | whole


def main() -> None:
    """Runs both, compares all values, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=Path, help="JSON Lines, prediction and references")
    parser.add_argument("--train", type=int, default=0, help="images of RSICD's training split")
    parser.add_argument("--distinct", type=int, default=0, help="images, no sentence twice")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    program = java.java()
    if java.jar("tokenizer/stanford-corenlp-3.4.1.jar") is None or program is None:
        raise SystemExit(f"the published side is not here; {java.INSTALL}")
    # The published code calls `java` by name.
    os.environ["PATH"] = os.pathsep.join([str(program.parent), os.environ.get("PATH", "")])
    predictions, references, source = read(args.predictions, args.train, args.distinct)
    count = sum(map(len, references))
    print(f"{source}: {len(predictions)} images, {count} references")
    print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")

    sides = {"published": published, "ours": ours}
    times: dict[str, list[Times]] = {side: [] for side in sides}
    found: dict[str, Scores] = {}
    for _ in range(args.rounds):
        for side, run in sides.items():
            found[side], took = run(predictions, references)
            times[side].append(took)
    worst = 0.0
    for part in PARTS[1:]:
        for mine, theirs in zip(found["ours"][part], found["published"][part], strict=True):
            apart = np.abs(np.asarray(mine) - np.asarray(theirs)).max()
            worst = max(worst, float(apart))
    print(f"largest difference of a value, of the corpus or an image: {worst:.1e}")

    columns = (*PARTS, "all", "clock")
    print(f"{'processor seconds':18s}" + "".join(f"{part:>9s}" for part in columns))
    for side, rounds in times.items():
        for name, pick in (("first", lambda t: t[0]), ("median", statistics.median), ("best", min)):
            cells = (pick([took[part] for took in rounds]) for part in columns)
            print(f"{side + ', ' + name:18s}" + "".join(f"{cell:9.3f}" for cell in cells))
    for name, pick in (("first", lambda t: t[0]), ("median", statistics.median), ("best", min)):
        by = []
        for column in ("all", "clock"):
            theirs, mine = (pick([took[column] for took in times[side]]) for side in sides)
            by.append(theirs / mine)
        print(f"ratio, {name}: {by[0]:.1f} of processor seconds, {by[1]:.1f} by the clock")
    if worst > 1e-9:
        sys.exit("the values differ.")


if __name__ == "__main__":
    main()
