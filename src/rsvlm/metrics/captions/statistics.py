"""What each image brings to a protocol's corpus scores, for intervals.

ROUGE-L, CIDEr-D and SPICE are means of the images' scores, in which CIDEr-D's document frequencies
are those of the whole set. BLEU and METEOR 1.5 come from sums of counts over the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rsvlm.metrics.captions import meteor, nltk_style
from rsvlm.metrics.captions.bleu import of_sums as bleu_of_sums
from rsvlm.metrics.captions.protocols import MEANS, Scores
from rsvlm.metrics.gather import Id
from rsvlm.metrics.intervals import Floats, Statistics, share

_BLEU = ("bleu1", "bleu2", "bleu3", "bleu4")
_ORDERS = len(_BLEU)


def _bleu(sums: Floats) -> dict[str, Floats]:
    return dict(zip(_BLEU, bleu_of_sums(sums), strict=True))


def _meteor(sums: Floats) -> dict[str, Floats]:
    return {"meteor": meteor.of_sums(sums)}


def _nltk_bleu(sums: Floats) -> dict[str, Floats]:
    """NLTK's BLEU of the corpus, one sample of the bootstrap after the other."""
    flat = np.rint(sums).astype(np.int64).reshape(-1, sums.shape[-1]).tolist()
    found = [
        [
            nltk_style.weighted_bleu(row[:_ORDERS], row[_ORDERS:-2], row[-2], row[-1], weights)
            for weights in nltk_style.EVEN
        ]
        for row in flat
    ]
    table = np.array(found, np.float64).reshape(*sums.shape[:-1], _ORDERS)
    return {word: table[..., n] for n, word in enumerate(_BLEU)}


#: Group of `Scores.sums` -> its metrics from summed counts.
GROUPS: dict[str, Callable[[Floats], dict[str, Floats]]] = {
    "bleu": _bleu,
    "meteor": _meteor,
    "nltk_bleu": _nltk_bleu,
}


def statistics(
    scores: Scores, images: Sequence[Id], *, prefix: str = "", rows: Sequence[int] | None = None
) -> Statistics:
    """What images bring to scores, in per cent.

    Args:
        scores: of `protocols.score`.
        images: [N] the image of each item.
        prefix: put before the words, of a part of the items.
        rows: the places in `images` that the scores are of; None takes all.
    """
    # A part's words are in the corpus scores of the whole, and are its own here.
    words = [word for word in scores.corpus if word in scores.per_image]
    count = len(images) if rows is None else len(rows)
    parts = [(GROUPS[name], np.asarray(table, np.float64)) for name, table in scores.sums.items()]
    summed = {word for value, table in parts for word in value(table.sum(0))}
    plain = [word for word in words if word not in summed and word not in MEANS]
    columns = [np.array(scores.per_image[word], np.float64)[:, None] for word in plain]
    table = np.concatenate([*columns, np.ones((count, 1)), *(part for _, part in parts)], axis=1)
    if rows is not None:
        wide = np.zeros((len(images), table.shape[1]))
        wide[list(rows)] = table
        table = wide

    def value(sums: Floats) -> dict[str, Floats]:
        top = len(plain)
        found: dict[str, Floats] = {
            word: share(sums[..., n], sums[..., top]) for n, word in enumerate(plain)
        }
        at = top + 1
        for function, part in parts:
            found |= function(sums[..., at : at + part.shape[1]])
            at += part.shape[1]
        found |= _means(found)
        return {f"{prefix}{word}": 100 * found[word] for word in words if word in found}

    return Statistics(images, table, value)


def _means(found: Mapping[str, Floats]) -> dict[str, Floats]:
    return {
        word: np.mean([found[part] for part in of], axis=0)
        for word, of in MEANS.items()
        if all(part in found for part in of)
    }
