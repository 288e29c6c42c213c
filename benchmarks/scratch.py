"""A CLIP from scratch on RSICD for so many seconds, and its recall on the test split.

    RSVLM_DATA=... python benchmarks/scratch.py --seconds 120

Towers of `clip("small")`, RSICD's 8,734 training images held decoded in memory, crops and quarter
turns as the recipe clip_small_rsicd has them, AdamW, and a cosine that ends with the time. The
clock starts when the loader has given its first batch. Modules and numbers, without Lightning and
Hydra.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rows import memory, record
from torch.utils.data import DataLoader, Dataset, IterableDataset

from rsvlm.data.collate.pairs import PairCollate
from rsvlm.data.datasets.cards import RSICD
from rsvlm.data.loading.sampler import BatchSampler
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.transforms import Augment
from rsvlm.encoders.clip.model import CLIP, clip, tokenizer
from rsvlm.lit.optim import adamw
from rsvlm.losses.contrastive import ClipLoss
from rsvlm.metrics.retrieval import Retrieval


class Fetch(Dataset[Any]):
    """A batch of keys to a batch of samples, inside the worker."""

    def __init__(self, view: TransformedDataset, collate: PairCollate) -> None:
        self.view, self.collate = view, collate

    def __getitem__(self, keys: list[tuple[int, int]]) -> Any:
        return self.collate([self.view[key] for key in keys])


class Keys(IterableDataset[Any]):
    """BatchSampler of keys, epoch after epoch, so that workers live as long as the training."""

    def __init__(self, count: int, batch: int) -> None:
        self.sampler = BatchSampler(count, batch)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in range(10**6):
            self.sampler.set_epoch(epoch)
            yield from self.sampler


class Part:
    """The first images of a data set."""

    def __init__(self, dataset: Any, count: int | None) -> None:
        self.dataset, self.count = dataset, min(count or len(dataset), len(dataset))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def train(model: CLIP, root: Path, args: argparse.Namespace) -> tuple[int, float, float]:
    """Trains for `args.seconds`; steps, seconds, and the last loss."""
    size, device = model.image_size, args.device
    augment = Augment(size, scale=(0.6, 1.0), hflip=True, vflip=True, rotation="quarter")
    view = TransformedDataset(
        Part(RSICD(root, "train"), args.images),
        augment,
        training=True,
        cache="decoded",
        cache_size=round(1.15 * size),
    )
    loader = DataLoader(
        Fetch(view, PairCollate(tokenizer(args.arch))),
        sampler=Keys(len(view), args.batch),
        batch_size=None,
        num_workers=args.workers,
        prefetch_factor=4 if args.workers else None,
    )
    criterion, optimizer = ClipLoss(), adamw(model, lr=args.lr, weight_decay=0.2)
    kind = torch.device(device).type
    source = iter(loader)
    batch = next(source)
    steps, loss, start = 0, torch.tensor(0.0), time.perf_counter()
    while (done := (time.perf_counter() - start) / args.seconds) < 1:
        rate = args.lr * min(1.0, done / 0.05) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch.images = batch.images.to(device, non_blocking=True)
        batch.input_ids = batch.input_ids.to(device, non_blocking=True)
        optimizer.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            loss = criterion(model(batch), batch)["contrastive"]
        loss.backward()
        optimizer.step()
        model.clamp_logit_scale()
        steps += 1
        if steps % 50 == 0:
            print(f"{done:.0%}, step {steps}: loss {loss.item():.3f}", flush=True)
        batch = next(source)
    return steps, time.perf_counter() - start, loss.item()


def recall(model: CLIP, root: Path, args: argparse.Namespace) -> dict[str, float]:
    """Recalls of the test split in per cent, by RemoteCLIP's protocol."""
    dataset = Part(RSICD(root, "test"), args.images)
    metric, encode = Retrieval("remoteclip", examples=0), model.tokenizer
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(dataset), 100):
            rows = range(first, min(first + 100, len(dataset)))
            samples = [dataset[i] for i in rows]
            images = torch.stack([model.preprocess(sample.images[0]) for sample in samples])
            texts = [text for sample in samples for text in sample.texts]
            owner = [i for i, sample in enumerate(samples) for _ in sample.texts]
            metric.update(
                model.encode_image(images.to(args.device), normalize=True).float().cpu(),
                model.encode_text(encode(texts).to(args.device), normalize=True).float().cpu(),
                torch.tensor(owner),
                torch.tensor(rows),
            )
        return {word: float(value) for word, value in metric.compute().items()}


def main() -> None:
    """Trains, measures, prints a line and leaves a row."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--arch", default="small")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--images", type=int, help="of each split; default: all")
    parser.add_argument("--workers", type=int, default=max(0, min(14, (os.cpu_count() or 1) - 1)))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rows", type=Path, help="JSON Lines that get the table's rows")
    args = parser.parse_args()
    root = Path(os.environ.get("RSVLM_DATA", "data")) / "rsicd_160"
    torch.manual_seed(0)
    model = clip(args.arch, activation="gelu", device=args.device).train()
    memory(args.device)
    steps, seconds, loss = train(model, root, args)
    most = memory(args.device)
    found = recall(model, root, args)
    print(f"{steps} steps of {args.batch} pairs in {seconds:.0f} s, last loss {loss:.3f}")
    print(", ".join(f"{word} {value:.2f}" for word, value in found.items()), flush=True)
    record(
        args.rows,
        part=f"CLIP {args.arch} from scratch on RSICD, {seconds:.0f} s",
        side="ours",
        seconds=seconds / max(1, steps),
        rate=f"{steps * args.batch / seconds:.0f} pairs",
        gib=most,
        note=f"mean recall {found['mean_recall']:.1f} after {steps} steps",
    )


if __name__ == "__main__":
    main()
