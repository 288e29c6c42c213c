"""The order contract: what is drawn depends on (seed, epoch, index) and on nothing else.

Worker processes, ranks, restarts and the global random state change neither the order of the data
nor an augmentation. A batch is cut from one global order: its size is the size over all ranks, and
rank r takes the r-th contiguous part, so that gathering the ranks gives back the single process's
batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from torch.utils.data import Sampler

Key = tuple[int, int]


def rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The one source of randomness of a sample; equal arguments give equal draws everywhere."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, epoch, index))))


def permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order of `n` samples in an epoch."""
    # The trailing word keeps this stream apart from that of sample 0.
    return np.random.default_rng(np.random.SeedSequence((seed, epoch, 0, 1))).permutation(n)


def blocked(seed: int, epoch: int, sizes: Sequence[int], block: int) -> np.ndarray:
    """An order for shards: these at random, then samples at random within windows of `block`.

    A window reaches over few shards, so that a slow disk or network reads mostly ahead, and a
    batch still mixes as many samples as a window holds. Like `permutation`, a function of (seed,
    epoch), whatever the ranks and workers.

    Args:
        seed: seed of the order.
        epoch: see above.
        sizes: samples of each shard, in the order of the data set.
        block: samples of a window.
    """
    draw = np.random.default_rng(np.random.SeedSequence((seed, epoch, 0, 1)))
    ends = np.cumsum(sizes)
    shards = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    order = np.concatenate([shards[i] for i in draw.permutation(len(shards))])
    for start in range(0, len(order), block):
        draw.shuffle(order[start : start + block])
    return order


def grouped(seed: int, epoch: int, sizes: Sequence[int], batch_size: int) -> np.ndarray:
    """An order whose batches come from one source each, sources at random.

    What does not fill a batch of its source is left out until another epoch.

    Args:
        seed: seed of the order.
        epoch: see above.
        sizes: samples of each source, in the order of the data set.
        batch_size: size of a batch over all ranks.
    """
    draw = np.random.default_rng(np.random.SeedSequence((seed, epoch, 0, 1)))
    batches = []
    for end, size in zip(np.cumsum(sizes), sizes, strict=True):
        kept = draw.permutation(size)[: size // batch_size * batch_size] + end - size
        batches.append(kept.reshape(-1, batch_size))
    rows = np.concatenate(batches)
    return rows[draw.permutation(len(rows))].reshape(-1)


class BatchSampler(Sampler[list[Key]]):
    """Lists of (epoch, index) keys, one list a batch, for one rank.

    In training the order is shuffled and an incomplete last batch is left out (its samples come in
    another epoch). In evaluation nothing is shuffled, repeated or left out: the samples are spread
    over equally many batches on every rank, whose sizes differ by one at most.

    Args:
        n: number of samples.
        batch_size: size of a batch over all ranks.
        seed: seed of the order.
        training: shuffle and drop the rest, or neither.
        rank: this process.
        world: number of processes.
        order: `shuffled` over all samples, `blocked` for shards (see `blocked`), or `grouped` for
            mixtures (see `grouped`).
        block: samples of a window of the blocked order.
        sizes: samples of each shard or source, for these two orders.
        positions: of evaluation, which of the samples are met; None meets all. Where ranks are
            more than those, some meet one that another has too.

    Raises:
        ValueError: the batch cannot be split over the ranks, there is no full batch, or an order
            lacks its sizes.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int = 0,
        training: bool = True,
        rank: int = 0,
        world: int = 1,
        order: Literal["shuffled", "blocked", "grouped"] = "shuffled",
        block: int = 16384,
        sizes: Sequence[int] | None = None,
        positions: Sequence[int] | None = None,
    ) -> None:
        if batch_size < 1 or (training and batch_size % world):
            raise ValueError(
                f"data.batch_size={batch_size} is the size over all {world} ranks and must be a "
                f"multiple of it; try data.batch_size={max(1, batch_size // world) * world}."
            )
        if training and n < batch_size:
            raise ValueError(
                f"{n} training samples do not fill one batch of data.batch_size={batch_size}; "
                "choose a smaller one."
            )
        if not training and n < world:
            raise ValueError(f"{n} samples cannot be shared by {world} ranks; use fewer.")
        if order not in ("shuffled", "blocked", "grouped"):
            raise ValueError(f"data.order={order!r} is neither shuffled, blocked nor grouped.")
        if order == "grouped" and training:
            if sizes is None or sum(sizes) != n:
                raise ValueError(
                    "data.order=grouped is for mixtures: it needs a data set with source_sizes. "
                    "Use data.order=shuffled."
                )
            if not any(size >= batch_size for size in sizes):
                raise ValueError(
                    f"no source has the {batch_size} samples an epoch that fill one batch of "
                    "data.batch_size; choose a smaller one."
                )
        if order == "blocked" and training and (block < 1 or sizes is None or sum(sizes) != n):
            raise ValueError(
                "data.order=blocked is for shards: it needs a data set with shard_sizes, and "
                "data.block=, at least 1. Use data.order=shuffled."
            )
        self.order, self.block, self.sizes = order, block, sizes
        self.positions = np.arange(n) if positions is None else np.array(positions, np.int64)
        if len(self.positions) < world and len(self.positions):
            self.positions = np.resize(self.positions, world)
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.training, self.rank, self.world = training, rank, world
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before an epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self.training and self.order == "grouped" and self.sizes is not None:
            return sum(size // self.batch_size for size in self.sizes)
        if self.training:
            return self.n // self.batch_size
        # No more batches than let every rank have a sample in each.
        met = len(self.positions)
        return min(-(-met // self.batch_size), met // self.world)

    def __iter__(self) -> Iterator[list[Key]]:
        start, self.start = self.start, 0
        epoch = self.epoch
        if not self.training:
            for number in range(start, len(self)):
                yield [(epoch, i) for i in self.evaluated(number)]
            return
        order = self.ordered(epoch)
        local = self.batch_size // self.world
        for b in range(start, len(self)):
            first = b * self.batch_size + self.rank * local
            yield [(epoch, int(i)) for i in order[first : first + local]]

    def evaluated(self, batch: int) -> list[int]:
        """Positions of this rank's samples in a batch of evaluation."""
        whole = np.array_split(self.positions, len(self))[batch]
        return [int(i) for i in np.array_split(whole, self.world)[self.rank]]

    def ordered(self, epoch: int) -> np.ndarray:
        """The training samples of an epoch in order, all ranks together."""
        if self.order == "blocked" and self.sizes is not None:
            return blocked(self.seed, epoch, self.sizes, self.block)
        if self.order == "grouped" and self.sizes is not None:
            return grouped(self.seed, epoch, self.sizes, self.batch_size)
        return permutation(self.seed, epoch, self.n)
