"""ROUGE-L as COCO's caption evaluation computes it, and as the `rouge_score` package does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rsvlm.metrics.captions.stem import stem

_BETA = 1.2


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence of two lists of words.

    One row of the usual table is one integer: bit i stands for word i of `first`, and is cleared
    where the row rises (Hyyrö, "Bit-parallel LCS-length computation revisited", 2004).
    """
    return _common_length(_positions(first), len(first), second)


def _positions(words: Sequence[str]) -> dict[str, int]:
    where: dict[str, int] = {}
    for place, word in enumerate(words):
        where[word] = where.get(word, 0) | 1 << place
    return where


def _common_length(where: dict[str, int], length: int, words: Sequence[str]) -> int:
    row = full = (1 << length) - 1
    for word in words:
        hit = row & where.get(word, 0)
        row = ((row + hit) | (row - hit)) & full
    return length - row.bit_count()


def rouge_l(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """COCO's ROUGE-L: an F-measure of the longest common subsequence.

    `(1 + b^2) P R / (R + b^2 P)` with `b` = 1.2, where `P` is the best share of the prediction's
    words in a common subsequence with any reference and `R` the best share of a reference's; the
    two may come from different references. The corpus score is the mean. Range: 0 to 1. Higher is
    better. Lin (2004); pycocoevalcap 1.2, which splits at single spaces, so that an empty sentence
    is one empty word.

    Protocols: coco, token_ids. Used in: SkyEyeGPT's tables for UCM, Sydney and RSICD, VRSBench's
    caption table, and RSCaMa's table I for LEVIR-CC (token_ids).

    Args:
        predictions: tokens of N sentences, separated by spaces.
        references: for each its references, at least one.

    Returns:
        N scores.
    """
    scores = []
    for prediction, refs in zip(predictions, references, strict=True):
        words = prediction.split(" ")
        where = _positions(words)
        precision = recall = 0.0
        for ref in dict.fromkeys(refs):
            target = ref.split(" ")
            common = _common_length(where, len(words), target)
            precision = max(precision, common / len(words))
            recall = max(recall, common / len(target))
        top = (1 + _BETA**2) * precision * recall
        scores.append(top / (recall + _BETA**2 * precision) if top else 0.0)
    return scores


# rouge_score --------------------------------------------------------------------------------

_OTHER = re.compile("[^a-z0-9]+")


def rouge_words(text: str, *, stemming: bool) -> list[str]:
    """Words as `rouge_score` takes them: runs of lower-case letters and digits.

    Args:
        text: one sentence.
        stemming: replaces words of four and more characters by their stems.
    """
    words = _OTHER.sub(" ", text.lower()).split()
    return [stem(word) if stemming and len(word) > 3 else word for word in words]


def rouge_1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-1 of `rouge_score`: F1 of the words in common, each as often as both have it.

    `2 P R / (P + R)` of the shares of words in common. Range: 0 to 1. Higher is better. Protocol:
    earthdial. Used in: EarthDial's caption tables.
    """
    common = (Counter(prediction) & Counter(reference)).total()
    return 2 * common / (len(prediction) + len(reference)) if common else 0.0


def rouge_l_f1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    """ROUGE-L of `rouge_score`: F1 of the longest common subsequence.

    `2 P R / (P + R)` of the subsequence's shares of both. Range: 0 to 1. Higher is better.
    Protocols: nltk, rs_rag (best reference), earthdial (mean over references). Used in: RS-RAG's
    caption and VQA tables (rs_rag), EarthDial's caption tables (earthdial).
    """
    common = common_length(prediction, reference)
    return 2 * common / (len(prediction) + len(reference)) if common else 0.0
