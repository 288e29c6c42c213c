"""Places of positives in a ranking, computed block by block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor


def rank_of_best(
    queries: Tensor, columns: Tensor, item_column: Tensor, pairs: Tensor, *, block: int = 1024
) -> Tensor:
    """The place, from 0, of each query's best positive among all items.

    The order is that of a stable sort by descending score: of equal scores the earlier item is
    first. At most block x block scores exist at a time. Each block is computed twice, by the same
    call, so that the score of a positive is the same number in both passes.

    Args:
        queries: [Q, D] float.
        columns: [C, D], the distinct candidate vectors.
        item_column: [I], for each candidate item the row of `columns` that it carries.
        pairs: [2, P], (query, item) pairs that are positives; every query has at least one.
        block: rows and columns scored at a time.

    Returns:
        [Q] long.
    """
    by_column = torch.argsort(item_column, stable=True)
    spans = list(_spans(torch.bincount(item_column, minlength=len(columns)).cpu(), block))
    pairs = pairs[:, torch.argsort(pairs[0], stable=True)]
    bounds = torch.searchsorted(
        pairs[0].contiguous(), torch.arange(0, len(queries) + block, block, device=pairs.device)
    ).tolist()
    ranks = []
    for row, (first, last) in enumerate(pairwise(bounds)):
        query = queries[row * block : (row + 1) * block]
        if not len(query):
            break
        local, item = pairs[0, first:last] - row * block, pairs[1, first:last]
        column = item_column[item]
        score = torch.empty(len(item), dtype=query.dtype, device=query.device)
        for c0, c1, _, _ in spans:
            inside = (column >= c0) & (column < c1)
            if bool(inside.any()):
                scores = query @ columns[c0:c1].T
                score[inside] = scores[local[inside], column[inside] - c0]
        best = query.new_full((len(query),), -torch.inf)
        best = best.scatter_reduce(0, local, score, "amax")
        at = torch.full((len(query),), len(item_column), device=query.device)
        wins = score == best[local]
        at = at.scatter_reduce(0, local[wins], item[wins], "amin")
        rank = torch.zeros_like(at)
        for c0, c1, i0, i1 in spans:
            scores = query @ columns[c0:c1].T
            for start in range(i0, i1, block):
                items = by_column[start : min(start + block, i1)]
                value = scores[:, item_column[items] - c0]
                before = (value == best[:, None]) & (items < at[:, None])
                rank += ((value > best[:, None]) | before).sum(1)
        ranks.append(rank)
    return torch.cat(ranks)


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
