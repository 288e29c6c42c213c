"""Images a second and core, from a folder and from its shards, and where the time goes.

    RSVLM_DATA=... python benchmarks/loader.py                 # RSICD at 128 px, one core
    python benchmarks/loader.py --workers 2 --size 224

Everything a training batch needs is done: read, decode, augment (the house's RSICD recipe), choose
a caption, tokenise, stack. The shards are written by `rsvlm shards` into a temporary
folder. Both hold the same bytes in the same order, and with order=shuffled they give the same
batches, which is checked first. webdataset's own reader, over the same shards with our transform
and collate behind it, is the yardstick for reading tars in sequence.

The files come from the page cache after the first pass: what is measured is the processor's work,
not a disk. Without workers the clock counts this process's processor time, so that neighbours on a
shared machine matter less, and the sources take turns. The time split is taken in the same way.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from rsvlm.cli.shards import write
from rsvlm.data.collate.pairs import PairCollate
from rsvlm.data.datasets import RSICD, Shards
from rsvlm.data.images import read_image
from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.sampler import BatchSampler, rng
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Sample
from rsvlm.data.transforms import Augment
from rsvlm.encoders.clip.model import tokenizer

BATCH = 256
STEPS = ("read", "decode", "augment", "collate")


class Fetch(torch.utils.data.Dataset):
    """A batch of keys to a batch of samples, inside the worker."""

    def __init__(self, view: TransformedDataset, collate: PairCollate) -> None:
        self.view, self.collate = view, collate

    def __getitem__(self, keys: list[tuple[int, int]]) -> Any:
        return self.collate([self.view[key] for key in keys])


def batches(dataset: Any, augment: Augment, workers: int, order: str) -> Iterator[Any]:
    """One epoch of training batches, as lit/datamodule.py makes them."""
    sizes = getattr(dataset, "shard_sizes", None)
    sampler = BatchSampler(len(dataset), BATCH, order=order, block=2048, sizes=sizes)
    view = TransformedDataset(dataset, augment, training=True)
    return iter(
        DataLoader(
            Fetch(view, PairCollate(tokenizer("ViT-B-32"))),
            sampler=sampler,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
    )


def webdataset_batches(out: Path, augment: Augment) -> Iterator[Any]:
    """The same work behind webdataset's reader: shards in order, a shuffle buffer of 2,048."""
    import json

    import webdataset as wds

    collate = PairCollate(tokenizer("ViT-B-32"))
    urls = sorted(str(path) for path in out.glob("train-*.tar"))
    stream = wds.WebDataset(urls, shardshuffle=False, empty_check=False).shuffle(2048)
    items = []
    for index, raw in enumerate(stream):
        facts = json.loads(raw["json"])
        picture = read_image(raw["jpg"], name=raw["__key__"])
        image = augment(picture, rng(0, 0, index))
        text = random.choice(facts["captions"])
        items.append(
            TransformedSample(index, Sample([image], texts=[text], meta={"id": facts["id"]}))
        )
        if len(items) == BATCH:
            yield collate(items)
            items = []


def rate(make: Callable[[], Iterator[Any]], limit: int, clock: Callable[[], float]) -> float:
    """Images a second over a pass of `limit` batches."""
    source = make()
    next(source)  # the workers' start, the tokenizer's table
    start, count = clock(), 0
    for number, batch in enumerate(source):
        count += len(batch)
        if number + 1 == limit:
            break
    return count / (clock() - start)


def split(dataset: Any, augment: Augment, limit: int) -> dict[str, float]:
    """Microseconds an image of each step."""
    collate = PairCollate(tokenizer("ViT-B-32"))
    spent = dict.fromkeys(STEPS, 0.0)
    count = 0
    for number, keys in enumerate(BatchSampler(len(dataset), BATCH)):
        items = []
        for epoch, index in keys:
            generator = rng(0, epoch, index)
            at = time.process_time()
            if isinstance(dataset, Shards):
                entry, data = dataset.read(index)
            else:
                entry = dataset.entries[index]
                data = Path(entry.path).read_bytes()
            spent["read"] += time.process_time() - at
            at = time.process_time()
            picture = read_image(data, name=entry.path)
            spent["decode"] += time.process_time() - at
            at = time.process_time()
            image = augment(picture, generator)
            spent["augment"] += time.process_time() - at
            text = entry.texts[int(generator.integers(len(entry.texts)))]
            items.append(
                TransformedSample(index, Sample([image], texts=[text], meta={"id": entry.id}))
            )
        at = time.process_time()
        collate(items)
        if number:  # the first batch also builds the tokenizer's table
            spent["collate"] += time.process_time() - at
        count += len(items)
        if number + 1 == limit:
            break
    per = {step: 1e6 * value / count for step, value in spent.items()}
    per["collate"] *= limit / max(1, limit - 1)
    return per


def check(folder: Any, shards: Any, augment: Augment) -> None:
    """Both sources give the same first batch, bit for bit."""
    a, b = (next(batches(data, augment, 0, "shuffled")) for data in (folder, shards))
    assert torch.equal(a.images, b.images) and a.texts == b.texts and a.ids == b.ids


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--root", default=os.environ.get("RSVLM_DATA", "data") + "/rsicd_160")
    parser.add_argument("--size", type=int, default=128, help="side of the model's image, px")
    parser.add_argument("--workers", type=int, default=0, help="loader processes (0: this one)")
    parser.add_argument("--batches", type=int, default=12, help="batches a pass")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    augment = Augment(args.size, scale=(0.6, 1.0), hflip=True, vflip=True, rotation="quarter")
    folder = RSICD(args.root, "train")
    with tempfile.TemporaryDirectory() as place:
        out = Path(place)
        start = time.perf_counter()
        write(folder, out)
        written = time.perf_counter() - start
        start = time.perf_counter()
        shards = Shards(out, "train")
        indexed = time.perf_counter() - start
        check(folder, shards, augment)
        sources: dict[str, Callable[[], Iterator[Any]]] = {
            "folder, shuffled": lambda: batches(folder, augment, args.workers, "shuffled"),
            "shards, shuffled": lambda: batches(shards, augment, args.workers, "shuffled"),
            "shards, blocked": lambda: batches(shards, augment, args.workers, "blocked"),
        }
        if args.workers == 0:
            sources["webdataset's reader"] = lambda: webdataset_batches(out, augment)
        cores = max(1, args.workers)
        print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, ", end="")
        print(f"{len(folder)} images, {args.size} px, batch {BATCH}, workers {args.workers}")
        print(f"written in {written:.1f} s, opened (indexed) in {indexed:.2f} s\n")
        print("| source | images/s a core, best | median |\n|---|---:|---:|")
        clock = time.perf_counter if args.workers else time.process_time
        found: dict[str, list[float]] = {name: [] for name in sources}
        for _ in range(args.repeats):
            for name, make in sources.items():
                found[name].append(rate(make, args.batches, clock) / cores)
        for name, rates in found.items():
            print(f"| {name} | {max(rates):.0f} | {np.median(rates):.0f} |")
        print("\n| microseconds an image | " + " | ".join(STEPS) + " | sum |")
        print("|---|" + "---:|" * (len(STEPS) + 1))
        for name, data in (("folder", folder), ("shards", shards)):
            per = split(data, augment, args.batches)
            cells = " | ".join(f"{per[step]:.0f}" for step in STEPS)
            print(f"| {name} | {cells} | {sum(per.values()):.0f} |")


if __name__ == "__main__":
    main()
