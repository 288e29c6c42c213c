"""Places of positives in a ranking, computed block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor


class Rows:
    """[N, D] rows of feature tensors, in any order, without a copy of them all.

    Args:
        parts: tensors [n, D] that follow each other.
        index: [N] which rows of the parts laid end to end; None takes them as they are.
    """

    def __init__(self, parts: Tensor | Sequence[Tensor], index: Tensor | None = None) -> None:
        self.parts = [parts] if isinstance(parts, Tensor) else list(parts)
        sizes = torch.tensor([len(part) for part in self.parts], device=self.device)
        self._ends = sizes.cumsum(0)
        self._starts = self._ends - sizes
        total = int(self._ends[-1])
        self.index = torch.arange(total, device=self.device) if index is None else index

    @property
    def device(self) -> torch.device:
        """Where the rows are."""
        return self.parts[0].device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the features."""
        return self.parts[0].dtype

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, span: slice) -> Tensor:
        """[n, D], a copy of the rows of a span."""
        wanted = self.index[span]
        if len(self.parts) == 1:
            return self.parts[0][wanted]
        part = torch.searchsorted(self._ends, wanted, right=True)
        found = self.parts[0].new_empty(len(wanted), self.parts[0].shape[1])
        for p in part.unique().tolist():
            here = part == p
            found[here] = self.parts[p][wanted[here] - self._starts[p]]
        return found

    def select(self, index: Tensor) -> Rows:
        """Some of the rows, in another order; still no copy."""
        return Rows(self.parts, self.index[index])

    def scores(self, query: Tensor, block: int) -> Tensor:
        """[N] products with a vector [D]."""
        return torch.cat(
            [self[start : start + block] @ query for start in range(0, len(self), block)]
        )


def rank_of_best(
    queries: Tensor, columns: Tensor, item_column: Tensor, pairs: Tensor, *, block: int = 1024
) -> Tensor:
    """[Q]: the first half of `ranks_both_ways`."""
    return ranks_both_ways(Rows(queries), Rows(columns), item_column, pairs, block=block)[0]


def ranks_both_ways(
    rows: Rows, columns: Rows, item_column: Tensor, pairs: Tensor, *, block: int = 1024
) -> tuple[Tensor, Tensor]:
    """Ranks of rows' best positives among all items, and of items' among all rows, from 0.

    The order is that of a stable sort by descending score: of equal scores the earlier one is
    first. At most block x block scores exist at a time, and each is computed once for both ways;
    the blocks with positives are computed a second time, by the same call, so that the score of a
    positive is the same number in both passes.

    Args:
        rows: [Q, D] float.
        columns: [C, D], the distinct candidate vectors.
        item_column: [I], for each item the row of `columns` that it carries.
        pairs: [2, P], (row, item) pairs that are positives; every row has at least one.
        block: rows and columns scored at a time.

    Returns:
        [Q] and [I] long; an item without a positive is behind all rows.
    """
    by_column = torch.argsort(item_column, stable=True)
    spans = list(_spans(torch.bincount(item_column, minlength=len(columns)).cpu(), block))
    pairs = pairs[:, torch.argsort(pairs[0], stable=True)]
    row_best, item_best = _best_scores(rows, columns, item_column, pairs, spans, block)
    row_rank = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    item_rank = torch.zeros(len(item_column), dtype=torch.long, device=rows.device)
    # Comparisons are written as floats into one buffer: sums of those are several times faster
    # than sums of bools, and a block is far below 2^24.
    buffer = torch.empty(block * block, dtype=torch.float32, device=rows.device)
    for start in range(0, len(rows), block):
        row = torch.arange(start, min(start + block, len(rows)), device=rows.device)
        query = rows[start : start + block]
        for c0, c1, i0, i1 in spans:
            scores = query @ columns[c0:c1].T
            for first in range(i0, i1, block):
                items = by_column[first : min(first + block, i1)]
                place = item_column[items] - c0
                value = scores if _is_range(place, c1 - c0) else scores[:, place]
                held = buffer[: value.numel()].view(value.shape)
                for best, at, rank, mine, other, axis in (
                    (*row_best, row_rank, row, items, 1),
                    (*item_best, item_rank, items, row, 0),
                ):
                    level = best[mine].unsqueeze(axis)
                    rank[mine] += torch.gt(value, level, out=held).sum(axis).long()
                    if torch.eq(value, level, out=held).any():
                        cell = held.nonzero(as_tuple=True)
                        one, two = mine[cell[1 - axis]], other[cell[axis]]
                        rank.index_add_(0, one, (two < at[one]).long())
    return row_rank, item_rank


#: Scores held at a time by `all_ranks`.
_HELD = 16_000_000


def all_ranks(
    queries: Rows, columns: Rows, item_column: Tensor, pairs: Tensor, *, top: int = 10
) -> Iterator[tuple[list[int], list[int], list[float]]]:
    """Of each query: places of all its positives among the items, and its best items.

    The order is that of `ranks_both_ways`: by descending score, of equal scores the earlier item.

    Args:
        queries: [Q, D] float.
        columns: [C, D], the distinct candidate vectors.
        item_column: [I], for each item the row of `columns` that it carries.
        pairs: [2, P], (query, item) pairs that are positives.
        top: how many best items.

    Yields:
        Ranks from 0, ascending; the best items, and their scores.
    """
    pairs = pairs[:, torch.argsort(pairs[0], stable=True)]
    items = torch.arange(len(item_column), device=queries.device)
    plain = _is_range(item_column, len(columns))
    size = max(1, _HELD // max(1, len(item_column)))
    every = columns[0 : len(columns)]
    for start in range(0, len(queries), size):
        stop = min(start + size, len(queries))
        scores = queries[start:stop] @ every.T
        scores = scores if plain else scores[:, item_column]
        first, last = torch.searchsorted(
            pairs[0].contiguous(), torch.tensor([start, stop], device=pairs.device)
        ).tolist()
        ranks: list[list[int]] = [[] for _ in range(stop - start)]
        for low in range(first, last, size):
            row, item = pairs[:, low : min(low + size, last)]
            row = row - start
            level = scores[row, item].unsqueeze(1)
            before = (scores[row] > level).sum(1)
            before += ((scores[row] == level) & (items < item.unsqueeze(1))).sum(1)
            for place, rank in zip(row.tolist(), before.tolist(), strict=True):
                ranks[place].append(rank)
        least = scores.topk(min(top, scores.shape[1]), dim=1).values[:, -1]
        for row_scores, level, found in zip(scores, least, ranks, strict=True):
            near = (row_scores >= level).nonzero().flatten()
            order = row_scores[near].sort(descending=True, stable=True)
            best = near[order.indices[:top]]
            yield sorted(found), best.tolist(), order.values[:top].tolist()


def _best_scores(
    rows: Rows,
    columns: Rows,
    item_column: Tensor,
    pairs: Tensor,
    spans: Sequence[tuple[int, int, int, int]],
    block: int,
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For rows and for items: the best positive's score, and the first place that has it."""
    score = torch.empty(pairs.shape[1], dtype=rows.dtype, device=rows.device)
    bounds = torch.searchsorted(
        pairs[0].contiguous(), torch.arange(0, len(rows) + block, block, device=pairs.device)
    ).tolist()
    for number, (first, last) in enumerate(pairwise(bounds)):
        query = rows[number * block : (number + 1) * block]
        local, column = pairs[0, first:last] - number * block, item_column[pairs[1, first:last]]
        for c0, c1, _, _ in spans:
            inside = (column >= c0) & (column < c1)
            if bool(inside.any()):
                scores = query @ columns[c0:c1].T
                score[first:last][inside] = scores[local[inside], column[inside] - c0]
    found = []
    for mine, other, count in ((0, 1, len(rows)), (1, 0, len(item_column))):
        best = score.new_full((count,), -torch.inf).scatter_reduce(0, pairs[mine], score, "amax")
        wins = score == best[pairs[mine]]
        at = pairs.new_full((count,), torch.iinfo(torch.long).max)
        at = at.scatter_reduce(0, pairs[mine][wins], pairs[other][wins], "amin")
        found.append((best, at))
    return found[0], found[1]


def _is_range(place: Tensor, size: int) -> bool:
    """Whether places are 0, 1, ..., size - 1."""
    return len(place) == size and bool((place == torch.arange(size, device=place.device)).all())


def chance_recall(candidates: int, positives: Tensor, *, k: int) -> float:
    """Expected recall at k, in per cent, of a random order.

    Args:
        candidates: how many items are ranked.
        positives: [Q], how many of them are positives of each query.
        k: depth.

    Returns:
        100 times the mean over queries of 1 - C(n - p, k) / C(n, k).
    """
    miss = torch.ones(len(positives), dtype=torch.float64)
    left = candidates - positives.cpu().double()
    for i in range(min(k, candidates)):
        miss *= ((left - i) / (candidates - i)).clamp(min=0)
    return float((1 - miss).mean() * 100)


def _spans(items_per_column: Tensor, block: int) -> Iterator[tuple[int, int, int, int]]:
    """(first column, end, first item, end) of runs of at most `block` columns."""
    ends = items_per_column.cumsum(0)
    for c0 in range(0, len(ends), block):
        c1 = min(c0 + block, len(ends))
        yield c0, c1, int(ends[c0] - items_per_column[c0]), int(ends[c1 - 1])


def first_of_each(values: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted distinct values and the position at which each first appears."""
    ordered = torch.argsort(values, stable=True)
    distinct, counts = torch.unique_consecutive(values[ordered], return_counts=True)
    return distinct, ordered[counts.cumsum(0) - counts]


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Full float32 products, whatever autocast and TF32 settings the trainer runs under."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device_type=device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
