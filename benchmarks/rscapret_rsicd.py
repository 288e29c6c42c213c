"""Captions of a run beside those that need no eyes: the commonest training caption, other images'.

    python benchmarks/rscapret_rsicd.py --predictions <run>/predictions.jsonl --data /data/RSICD

`model` are the captions as a run wrote them; `shuffled` the same captions given to other images,
which is the model shown other images, the mean over permutations without a fixed point; `constant`
the commonest caption of the training split for every image. All under protocol `coco`. Some
captions, evenly spread from the best to the worst by CIDEr-D, stand at the end with the names of
their images alone: images and references are RSICD's.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.cards import RSICD
from rsvlm.metrics.captions.metric import Captions
from rsvlm.report.answers import spread_of

WORDS = ("bleu1", "bleu4", "meteor", "rouge_l", "cider")


def scores(texts: list[str], rows: list[dict[str, Any]], words: tuple[str, ...]) -> Captions:
    """The metric after its images."""
    metric = Captions("coco", metrics=words)
    metric.update(texts, [row["references"] for row in rows], [row["id"] for row in rows])
    return metric


def values(metric: Captions) -> dict[str, float]:
    """Metric word to per cent."""
    return {word: float(value) for word, value in metric.compute().items()}


def elsewhere(count: int, seed: int) -> list[int]:
    """A permutation that leaves nothing at its place: neighbours on a random round."""
    order = random.Random(seed).sample(range(count), count)
    found = [0] * count
    for place, other in zip(order, [*order[1:], order[0]], strict=True):
        found[place] = other
    return found


def main() -> None:
    """Prints the table and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="RSICD's folder")
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--seeds", type=int, default=3, help="permutations of the images")
    parser.add_argument("--shown", type=int, default=10, help="captions in the file")
    parser.add_argument("--no-meteor", action="store_true", help="METEOR needs Java")
    args = parser.parse_args()
    words = tuple(word for word in WORDS if word != "meteor" or not args.no_meteor)

    lines = args.predictions.read_text(encoding="utf-8").splitlines()
    # The first and the last line of newer files are about the file.
    rows = [row for row in map(json.loads, lines) if "prediction" in row]
    texts = [row["prediction"] for row in rows]
    train, test = RSICD(args.data, "train"), RSICD(args.data, "test")
    counts = Counter(text for entry in train.entries for text in entry.texts)
    common, times = counts.most_common(1)[0]

    model = scores(texts, rows, words)
    table = {"model": values(model)}
    runs = []
    for seed in range(args.seeds):
        order = elsewhere(len(rows), seed)
        runs.append(values(scores([texts[i] for i in order], rows, words)))
    table["shuffled"] = {word: statistics.mean(run[word] for run in runs) for word in words}
    table["constant"] = values(scores([common] * len(rows), rows, words))

    word, single, _ = spread_of(model, 1)
    best = sorted(range(len(rows)), key=lambda i: -single[i])
    step = max(1, (len(best) - 1) // max(1, args.shown - 1))
    shown = [
        {
            "image": test.entries[int(model.used[i].id)].id,
            "caption": model.used[i].prediction,
            word: round(single[i], 1),
        }
        for i in best[::step][: args.shown]
    ]
    print("| captions | " + " | ".join(words) + " |\n|---|" + "---:|" * len(words))
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(f"{row[word]:.2f}" for word in words) + " |")
    print(f"\n{len(rows)} images, {len(set(texts))} different captions of the model")
    print(f"commonest of {sum(counts.values())} training captions: {common!r} ({times} times)\n")
    for one in shown:
        print(f"{one['image']}: {one['caption']} ({word} {one[word]})")
    if args.out:
        facts = {
            "images": len(rows),
            "different": len(set(texts)),
            "constant": common,
            "protocol": "coco",
            "permutations": args.seeds,
        }
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(
            json.dumps({**facts, "scores": table, "shown": shown}, indent=1) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
