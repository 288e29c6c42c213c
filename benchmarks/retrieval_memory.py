"""Retrieval of 100,000 images against 500,000 captions within 2 GiB.

    python benchmarks/retrieval_memory.py                       # 512 numbers each; under an hour
    python benchmarks/retrieval_memory.py --images 1000         # a hundredth

Features are random directions, each caption its image's plus noise, handed to the metric in
batches as an evaluation does. What is printed is the process's largest resident memory, features
and libraries included, and the recalls of both directions. Every caption has its own sentence, so
all 5e10 scores are computed.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import resource
import sys
import time

import torch
import torch.nn.functional as F

from rsvlm.metrics.retrieval import Retrieval

GIB = 2**30


def return_freed_memory() -> None:
    """Makes glibc give freed tensors back at once; left alone, it keeps 0.3 GiB of them here."""
    if sys.platform == "linux":
        m_mmap_threshold = -3
        ctypes.CDLL(None).mallopt(m_mmap_threshold, 128 * 1024)


def peak() -> float:
    """Largest resident memory of this process until now, GiB."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used * (1 if sys.platform == "darwin" else 1024) / GIB


def feed(metric: Retrieval, images: int, captions: int, width: int, batch: int) -> None:
    """Random features, `captions` of each image."""
    draw = torch.Generator().manual_seed(0)
    for first in range(0, images, batch):
        count = min(batch, images - first)
        picture = F.normalize(torch.randn(count, width, generator=draw), dim=-1)
        owner = torch.arange(count).repeat_interleave(captions)
        # Noise five times as long as the signal: the right one is often, not always, the best.
        text = torch.randn(len(owner), width, generator=draw).mul_(5 / width**0.5)
        text += picture[owner]
        metric.update(picture, F.normalize(text, dim=-1), owner, torch.arange(first, first + count))


def main() -> None:
    """Runs it once and prints a row of the table in benchmarks/README.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--captions", type=int, default=5, help="of each image")
    parser.add_argument("--width", type=int, default=512, help="numbers in a feature")
    parser.add_argument("--batch", type=int, default=500, help="images handed over at a time")
    parser.add_argument("--block", type=int, default=1024, help="scores at a time, squared")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, default=2.0, help="GiB; above it the script fails")
    args = parser.parse_args()
    return_freed_memory()
    torch.set_num_threads(args.threads)
    print(f"{platform.machine()}, torch {torch.__version__}, {args.threads} threads", flush=True)
    print(f"libraries: {peak():.2f} GiB", flush=True)
    metric = Retrieval("remoteclip", block=args.block, examples=0)
    with torch.inference_mode():
        feed(metric, args.images, args.captions, args.width, args.batch)
        held = args.images * (1 + args.captions) * args.width * 4 / GIB
        print(f"with features of {held:.2f} GiB: {peak():.2f} GiB", flush=True)
        start, used = time.perf_counter(), time.process_time()
        found = metric.compute()
    took, used = time.perf_counter() - start, time.process_time() - used
    scores = args.images**2 * args.captions
    print(
        f"{args.images} images, {args.images * args.captions} captions: {scores:.2e} scores in "
        f"{took:.0f} s ({used:.0f} s of processor time), at most {peak():.2f} GiB"
    )
    print(", ".join(f"{word} {float(value):.2f}" for word, value in found.items()))
    if peak() > args.limit:
        sys.exit(f"more than {args.limit} GiB.")


if __name__ == "__main__":
    main()
