"""Rows of a caption model before the language model reads them: front, text, pairs in one row."""

from __future__ import annotations

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
