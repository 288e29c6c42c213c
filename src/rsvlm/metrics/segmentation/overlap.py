"""What masks share, pixel block by pixel block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Pixels of all masks together that are held as floats at a time.
BLOCK = 2**20


@dataclass(frozen=True)
class Overlap:
    """Pixel counts of P predicted and G true masks, int64.

    Attributes:
        shared: [P, G] in both.
        union: [P, G] in either, without the pixels that the true mask leaves out.
        predicted: [P] of each predicted mask.
        true: [G] of each true mask.
    """

    shared: Tensor
    union: Tensor
    predicted: Tensor
    true: Tensor


def overlap(
    predicted: Tensor, true: Tensor, valid: Tensor | None = None, *, block: int = BLOCK
) -> Overlap:
    """Counts what each predicted mask shares with each true one.

    Beside the masks themselves at most `block` numbers exist at a time, whatever their size and
    number; the counts are exact.

    Args:
        predicted: [P, H, W] bool.
        true: [G, H, W] bool.
        valid: [G, H, W] bool, the pixels that count for each true mask; None counts all.
        block: pixels, of all masks together.
    """
    predicted, true = predicted.flatten(1), true.flatten(1)
    valid = None if valid is None else valid.flatten(1)
    rows = len(predicted) + len(true) * (1 if valid is None else 2)
    # A block's counts stay below 2^24, where float32 is exact.
    step = max(1, min(block // max(rows, 1), 2**24))
    shared = torch.zeros(len(predicted), len(true), dtype=torch.long, device=predicted.device)
    inside = torch.zeros_like(shared)
    for start in range(0, predicted.shape[1], step):
        span = slice(start, start + step)
        one, other = predicted[:, span].float(), true[:, span].float()
        shared += (one @ other.T).long()
        if valid is not None:
            inside += (one @ valid[:, span].float().T).long()
    sizes = predicted.sum(1), true.sum(1)
    if valid is None:
        inside = sizes[0][:, None].expand_as(shared)
    return Overlap(shared, inside + sizes[1] - shared, *sizes)


def resize(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """The nearest pixel to each new one's centre, as Pillow's NEAREST takes it.

    Args:
        mask: [..., H, W].
        size: (height, width).
    """
    if tuple(mask.shape[-2:]) == tuple(size):
        return mask
    places = []
    for new, old in zip(size, mask.shape[-2:], strict=True):
        at = (torch.arange(new, device=mask.device, dtype=torch.float64) + 0.5) * (old / new)
        places.append(at.long().clamp(max=old - 1))
    return mask[..., places[0][:, None], places[1]]


def assign(gain: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """One-to-one pairs of rows and columns with the largest sum of gains.

    The Hungarian method by shortest augmenting paths (Jonker and Volgenant, 1987). Of assignments
    with equal sums the result is always the same one.

    Args:
        gain: [P][G] numbers.

    Returns:
        min(P, G) pairs, by row.
    """
    rows, columns = len(gain), len(gain[0]) if gain else 0
    if not rows or not columns:
        return []
    if rows > columns:
        turned = assign([[gain[i][j] for i in range(rows)] for j in range(columns)])
        return sorted((i, j) for j, i in turned)
    infinite = float("inf")
    row_price, column_price = [0.0] * rows, [0.0] * (columns + 1)
    owner = [-1] * (columns + 1)  # the last one is where a path begins
    for row in range(rows):
        owner[columns], current = row, columns
        distance, before = [infinite] * columns, [columns] * columns
        done = [False] * (columns + 1)
        while owner[current] >= 0:
            done[current] = True
            mine, step, following = owner[current], infinite, -1
            for j in range(columns):
                if done[j]:
                    continue
                reduced = -gain[mine][j] - row_price[mine] - column_price[j]
                if reduced < distance[j]:
                    distance[j], before[j] = reduced, current
                if distance[j] < step:
                    step, following = distance[j], j
            for j in range(columns + 1):
                if done[j]:
                    row_price[owner[j]] += step
                    column_price[j] -= step
                elif j < columns:
                    distance[j] -= step
            current = following
        while current != columns:
            owner[current] = owner[before[current]]
            current = before[current]
    return sorted((owner[j], j) for j in range(columns) if owner[j] >= 0)
