"""BLEU-1 to 4 over a corpus, as COCO's caption evaluation computes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rsvlm.metrics.captions.counts import ORDERS, Floats, Ints, Table

# In place of smoothing, the published code keeps its fractions off zero with these.
_TINY = 1e-15
_SMALL = 1e-9


def bleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], table: Table | None = None
) -> tuple[Floats, Floats]:
    """BLEU: how many n-grams of the prediction stand in a reference, times a brevity penalty.

    `BLEU-n = min(1, exp(1 - r/c)) * (p_1 ... p_n)^(1/n)`, where `p_k` is the share of the corpus'
    predicted k-grams that a reference has, each at most as often as the reference that has it most
    often; `c` is the predicted length and `r` the sum of the reference lengths nearest to each
    prediction's, the shorter one of two. Range: 0 to 1. Higher is better. Papineni et al. (ACL
    2002); pycocoevalcap 1.2, option `closest`.

    Protocols: coco, token_ids (nltk and rs_rag have their own, in `nltk_style`). Used in:
    SkyEyeGPT's tables for UCM, Sydney and RSICD, and RSCaMa's table I for LEVIR-CC (token_ids).

    Args:
        predictions: tokens of N sentences, separated by spaces.
        references: for each its references, at least one.
        table: the same, already counted.

    Returns:
        [4] corpus scores and [4, N] sentence scores.
    """
    counts = counts_of(table or Table(predictions, references))
    return of_sums(counts.sum(0)), of_sums(counts)


def counts_of(table: Table) -> Ints:
    """[N, 10] of each prediction: n-grams found and tried for n = 1 to 4, words, nearest length."""
    words = table.grams.words[table.guess]
    tries = np.maximum(0, words - np.arange(ORDERS)[:, None])
    return np.concatenate([clipped(table), tries, [words, nearest_lengths(table)]]).T


def of_sums(sums: Ints | Floats) -> Floats:
    """[4, ...] BLEU-1 to 4 from [..., 10] sums of `counts_of`."""
    column = np.moveaxis(sums, -1, 0)
    return _scores(column[:ORDERS], column[ORDERS : 2 * ORDERS], *column[2 * ORDERS :])


def clipped(table: Table) -> Ints:
    """[4, N] predicted n-grams that count as found: each as often as the best reference has it."""
    hits = np.zeros((ORDERS, len(table)), np.int64)
    for block in table.matches():
        if not len(block.slot):
            continue
        best = np.zeros(int(block.slot.max()) + 1, np.int64)
        np.maximum.at(best, block.slot, block.found)
        # Any line of a slot tells its image and n-gram.
        slots, line = np.unique(block.slot, return_index=True)
        entry = block.entry[line]
        count = np.minimum(best[slots], table.grams.count[entry])
        order = table.grams.order[table.grams.gram[entry]]
        np.add.at(hits, (order, table.image[block.pair[line]]), count)
    return hits


def nearest_lengths(table: Table) -> Ints:
    """[N] words of the reference whose length is nearest to the prediction's, or the shorter."""
    length = table.grams.words[table.reference]
    apart = np.abs(length - table.grams.words[table.guess[table.image]])
    order = np.lexsort((length, apart, table.image))
    return length[order][np.searchsorted(table.image, np.arange(len(table)))]


def _scores(hits: Any, tries: Any, length: Any, target: Any) -> Floats:
    """[4, ...] from [4, ...] counts and [...] lengths."""
    ratio = (length + _TINY) / (target + _SMALL)
    penalty = np.exp(np.minimum(0.0, 1 - 1 / ratio))
    product = np.cumprod((hits + _TINY) / (tries + _SMALL), axis=0)
    root = 1 / np.arange(1, ORDERS + 1).reshape(-1, *[1] * (hits.ndim - 1))
    return product**root * penalty
