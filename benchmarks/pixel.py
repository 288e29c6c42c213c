"""Masks per second of a batch beside the published order of work: same masks.

    python benchmarks/pixel.py --rounds 3 --threads 1
    python benchmarks/pixel.py --size full --device cuda

GeoPix with random weights is made to write an answer of three objects about each of 32 images, a
token a step, and draws their masks at the size of the image. The published inference takes one
image at a time from the tower to the mask, with a cache; so does the other side here, by the same
modules. Masks must agree to 1e-4 of their scores and in all but one pixel in a thousand, or the
script fails.

`--count` counts on `meta` what the class memory costs a training step of GeoPix-7B: parameters,
gradients and the two moments of Adam, float32, at the published size and at ours. `--step` measures
the peak of real training steps of a narrow GeoPix with 4 classes in place of 75, with banks of the
published size and of ours, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from options import build
from rows import memory, record

import rsvlm.models.pixel.model as pixel
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.losses.mask import AnswerAndMasksLoss

IMAGES, OBJECTS = 32, 3


class Script:
    """Makes the model write given ids."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V] behind generated ids [B, T]."""
        scores = torch.full_like(scores, -50.0)
        for i, row in enumerate(self.rows):
            scores[i, row[min(ids.shape[1], len(row) - 1)]] = 0.0
        return scores


def samples(side: int) -> list[Sample]:
    """Pictures of noise with three objects each."""
    rng = np.random.default_rng(0)
    out = []
    for number in range(IMAGES):
        image = torch.from_numpy(rng.integers(0, 256, (3, side, side), dtype=np.uint8))
        things = [
            Instance(i, "ship", mask=np.eye(side, dtype=bool), box=(0, 0, side, side))
            for i in range(OBJECTS)
        ]
        turns = [
            Turn("user", "where are the ships ?", (0,)),
            Turn("assistant", "[SEG] , [SEG] and [SEG]", (), (0, 1, 2)),
        ]
        out.append(Sample([image], turns=turns, instances=things, meta={"id": number}))
    return out


def answers(model, batch):
    """The model's own generation, made to write the true answer."""
    ends = [[*ids, model.tokenizer.eos_token_id] for ids in batch.answer_ids]
    own = pixel.generate

    def scripted(*given, **options):
        return own(*given, **{**options, "processors": [Script(ends)]})

    pixel.generate = scripted
    try:
        longest = max(map(len, ends))
        return model.generate(batch, max_new_tokens=longest)
    finally:
        pixel.generate = own


def counted() -> None:
    """Prints what the memory costs at both sizes."""
    sizes = {"published": ["memory.length=64", "memory.grid=32"], "ours": []}
    for name, words in sizes.items():
        model = build("geopix", ["lm.words=chat", "first_id=null", *words], "meta")
        bank = sum(p.numel() for p in model.masks.memory.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        print(
            f"{name}: memory {bank:,} numbers, {16 * bank / 2**30:.2f} GiB of weights, gradients "
            f"and moments; all that is trained {trained:,}, {16 * trained / 2**30:.2f} GiB"
        )


#: Banks of a class and scale: the published one, and `conf/model/geopix.yaml`'s.
BANKS = {"published": (64, 32), "ours": (4, 8)}


def stepped(length: int, grid: int) -> None:
    """Prints the numbers of a memory and the peak of two steps with it, in MiB."""
    torch.manual_seed(0)
    words = [f"memory.length={length}", f"memory.grid={grid}", "memory.memory_dim=64"]
    model = build("geopix_tiny", [*words, "instructions=null"]).train()
    bank = sum(p.numel() for p in model.masks.memory.parameters())
    rows = samples(64)[:4]
    for row in rows:
        for thing in row.instances:
            thing.category = "other"
    view = TransformedDataset(rows, model.preprocess, training=False, caption="all")
    batch = model.collate(training=True)([view[(0, i)] for i in range(4)])
    optimizer, loss = torch.optim.AdamW(model.parameters()), AnswerAndMasksLoss()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - 4 * bank / 2**10
    for _ in range(2):
        optimizer.zero_grad()
        sum(loss(model(batch), batch).values()).backward()
        optimizer.step()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"bank": bank, "mib": peak / 2**10}))


def compared() -> None:
    """Prints what a step takes with each bank, and the difference beside what counting says."""
    found = {}
    for name, (length, grid) in BANKS.items():
        words = [sys.executable, __file__, "--step", str(length), str(grid)]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        print(f"{name}: memory {found[name]['bank']:,} numbers, {found[name]['mib']:.0f} MiB")
    more = {word: found["published"][word] - found["ours"][word] for word in ("bank", "mib")}
    counted = 16 * more["bank"] / 2**20
    print(f"difference {more['mib']:.0f} MiB; weights, gradients and moments are {counted:.0f}")


def main() -> None:
    """Measures both sides, or counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("tiny", "full"), default="tiny")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--count", action="store_true")
    parser.add_argument("--step", type=int, nargs="*", metavar=("LENGTH", "GRID"))
    given = parser.parse_args()
    if given.count:
        counted()
        return
    if given.step is not None:
        stepped(*given.step) if given.step else compared()
        return
    if given.threads:
        torch.set_num_threads(given.threads)
    words = ["instructions=null"]
    if given.size == "full":
        words += ["lm.words=chat", "lm.dtype=bfloat16", "first_id=null", "tuning=frozen"]
    torch.manual_seed(0)
    option = "geopix_tiny" if given.size == "tiny" else "geopix"
    model = build(option, words, given.device).eval()
    view = TransformedDataset(samples(64), model.preprocess, training=False, caption="all")
    items = [view[(0, i)] for i in range(IMAGES)]
    collate = model.collate(training=False)
    whole = collate(items).to(given.device)
    single = [collate([item]).to(given.device) for item in items]
    sides = {
        "batched": lambda: answers(model, whole),
        "one by one": lambda: [answer for batch in single for answer in answers(model, batch)],
    }
    found, times = {}, {name: [] for name in sides}
    for _ in range(given.rounds):
        for name, run in sides.items():
            start = time.perf_counter()
            found[name] = run()
            if given.device != "cpu":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    for one, other in zip(*found.values(), strict=True):
        assert len(one.masks) == len(other.masks) == OBJECTS
        np.testing.assert_allclose(one.mask_scores, other.mask_scores, atol=1e-4)
        for a, b in zip(one.masks, other.masks, strict=True):
            assert (a != b).mean() <= 1e-3
    rates = {name: IMAGES * OBJECTS / statistics.median(rows) for name, rows in times.items()}
    times_faster = rates["batched"] / rates["one by one"]
    for name, rate in rates.items():
        print(f"{name}: {rate:.1f} masks/s")
        more = {"times": times_faster, "aim": 4} if name == "batched" else {}
        row = {"part": f"GeoPix {given.size}", "side": name, "rate": rate}
        record(given.rows, **row, gib=memory(given.device), **more)
    print(f"{times_faster:.1f} times")


if __name__ == "__main__":
    main()
