"""Rows of a caption model before the language model reads them: front, text, pairs in one row."""

from __future__ import annotations

import itertools
from collections import Counter

import torch
from torch import Tensor

IGNORE = -100


def labelled(ids: Tensor, learned: Tensor, front: int) -> Tensor:
    """Labels [B, front + L] of ids [B, L] behind `front` embeddings that nothing is learned of.

    Args:
        ids: the text.
        learned: [B], how many of its first ids count.
        front: number of embeddings before it.
    """
    places = torch.arange(ids.shape[1], device=ids.device)
    labels = ids.masked_fill(places >= learned[:, None], IGNORE)
    return torch.cat([labels.new_full((len(ids), front), IGNORE), labels], dim=1)


def joined(embeds: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every second row behind the one before it; an odd last row stays alone.

    Args:
        embeds: [B, S, D].
        labels: [B, S].
        lengths: [B], how much of a row is not padding.

    Returns:
        Embeddings [ceil(B / 2), T, D], labels [.., T] and lengths.
    """
    first, second = lengths[0::2], lengths[1::2]
    second = torch.cat([second, second.new_zeros(len(first) - len(second))])
    both = first + second
    places = torch.arange(int(both.max()), device=embeds.device)
    behind = places >= first[:, None]
    rows = 2 * torch.arange(len(first), device=embeds.device)[:, None] + behind
    columns = torch.where(behind, places - first[:, None], places)
    rows = rows.clamp(max=len(embeds) - 1)
    columns = columns.clamp(max=embeds.shape[1] - 1)
    out = labels[rows, columns].masked_fill(places >= both[:, None], IGNORE)
    return embeds[rows, columns], out, both


def mask_of(lengths: Tensor, width: int) -> Tensor:
    """[B, width] long, 1 on the first `lengths` places of each row."""
    return (torch.arange(width, device=lengths.device) < lengths[:, None]).long()


def by_length(lengths: Tensor, most: int) -> list[Tensor]:
    """Rows in groups of about one length, so that little padding is computed.

    Args:
        lengths: [B].
        most: most groups; they are those with the least padding.

    Returns:
        Row numbers of each group.
    """
    numbers = lengths.tolist()
    counts = Counter(numbers)
    known = tuple(sorted(counts))
    ends = _cuts(known, tuple(counts[n] for n in known), min(most, len(known)))
    limits = torch.tensor([known[end] for end in ends])
    group = torch.bucketize(torch.tensor(numbers), limits)
    return [(group == g).nonzero()[:, 0].to(lengths.device) for g in range(len(ends))]


def _cuts(lengths: tuple[int, ...], counts: tuple[int, ...], groups: int) -> tuple[int, ...]:
    """The last places of that many runs of `lengths` with the least sum of rows times longest."""
    rows = [0, *itertools.accumulate(counts)]
    # best[i]: the cost of the first i lengths in so many runs, and where these end.
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    best += [(rows[i] * lengths[i - 1], (i - 1,)) for i in range(1, len(rows))]
    for _ in range(groups - 1):
        more = [
            min(
                (best[j][0] + (rows[i] - rows[j]) * lengths[i - 1], (*best[j][1], i - 1))
                for j in range(i)
            )
            for i in range(1, len(rows))
        ]
        best = [best[0], *more]
    return best[-1][1]
