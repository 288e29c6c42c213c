"""CIDEr-D as COCO's caption evaluation computes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsvlm.metrics.captions.counts import ORDERS, Floats, Ints, Table

_SIGMA = 6.0


def cider_d(
    predictions: Sequence[str], references: Sequence[Sequence[str]], table: Table | None = None
) -> Floats:
    """CIDEr-D: how alike prediction and references are in n-grams that few images share.

    Each sentence is, for n = 1..4, a vector of `count * log(N / images whose references have the
    n-gram)`. Per reference `exp(-d^2 / 72)` times the cosine of the vectors, the prediction's cut
    at the reference's entries; the mean over references and n, times 10. `d` is the difference of
    the numbers of *bigrams*, as published, and document frequencies come from the references that
    are evaluated: a score depends on the set, and that of a single image is 0. The corpus score is
    the mean. Range: 0 to 10. Higher is better. Vedantam et al. (CVPR 2015); pycocoevalcap 1.2 (its
    `Cider`; no stemming).

    Protocols: coco, token_ids; rs_rag on raw text. Used in: SkyEyeGPT's tables for UCM, Sydney and
    RSICD, VRSBench's caption table, and RSCaMa's table I for LEVIR-CC (token_ids).

    Args:
        predictions: tokens of N sentences, separated by spaces.
        references: for each its references, at least one.
        table: the same, already counted.

    Returns:
        [N] scores.
    """
    table = table or Table(predictions, references)
    grams = table.grams
    weight = np.log(max(1, len(table))) - np.log(np.maximum(1, _images_with(table)))
    value = grams.count * weight[grams.gram]
    sentence = np.repeat(np.arange(len(grams.words)), np.diff(grams.start))
    slot = sentence * ORDERS + grams.order[grams.gram]
    norms = np.sqrt(np.bincount(slot, value**2, len(grams.words) * ORDERS)).reshape(-1, ORDERS)

    dots = np.zeros((len(table.image), ORDERS))
    for block in table.matches():
        gram = grams.gram[block.entry]
        other = block.found * weight[gram]
        product = np.minimum(value[block.entry], other) * other
        np.add.at(dots, (block.pair, grams.order[gram]), product)

    guess = table.guess[table.image]
    scale = norms[guess] * norms[table.reference]
    # A vector without length has no n-gram in common with anything.
    cosines = np.divide(dots, scale, out=np.zeros_like(dots), where=scale > 0)
    bigrams = np.maximum(0, grams.words - 1)
    apart = bigrams[guess] - bigrams[table.reference]
    alike = cosines.sum(1) / ORDERS * np.exp(-(apart**2) / (2 * _SIGMA**2))
    total = np.bincount(table.image, alike * table.times, len(table))
    return 10 * total / np.bincount(table.image, table.times, len(table))


def _images_with(table: Table) -> Ints:
    """[G] images of which some reference has the n-gram."""
    grams = table.grams
    number = np.zeros(len(grams.order), np.int64)
    for low, high in table.blocks():
        entry, sizes = grams.entries(table.reference[low:high])
        image = np.repeat(table.image[low:high], sizes)
        # Sorted and compared: since NumPy 2.3 `unique` hashes, which takes fifty times as long.
        key = np.sort(image * len(grams.order) + grams.gram[entry])
        key = key[np.diff(key, prepend=-1) != 0]
        number += np.bincount(key % max(1, len(grams.order)), minlength=len(number))
    return number
