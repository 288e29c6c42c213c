"""Scores as scripts around NLTK and `rouge_score` compute them: sentence by sentence, then a mean.

Formulas are NLTK 3.10's and rouge_score 0.1.2's, written anew; only its METEOR is NLTK's own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from rsvlm.errors import UserError, extra
from rsvlm.metrics.captions import wordnet as wordnet_files

Words = Sequence[str]

_ORDERS = 4
#: Weights that scripts give to BLEU-1 to 4.
EVEN = ((1.0,), (1 / 2,) * 2, (1 / 3,) * 3, (1 / 4,) * 4)
#: RS-RAG's: its BLEU-3 has 0.33 three times.
RS_RAG = ((1.0,), (0.5,) * 2, (0.33,) * 3, (0.25,) * 4)


def sentence_counts(
    prediction: Words, references: Sequence[Words]
) -> tuple[list[int], list[int], int]:
    """Found and tried n-grams for n = 1..4, and the nearest reference length.

    As `nltk.translate.bleu_score.modified_precision`, which counts one try where a sentence is
    shorter than n.
    """
    found, tried = [], []
    for n in range(1, _ORDERS + 1):
        grams = _grams(prediction, n)
        most: dict[tuple[str, ...], int] = {}
        for reference in references:
            for gram, count in _grams(reference, n).items():
                most[gram] = max(count, most.get(gram, 0))
        found.append(sum(min(count, most.get(gram, 0)) for gram, count in grams.items()))
        tried.append(max(1, sum(grams.values())))
    size = len(prediction)
    nearest = min((abs(len(ref) - size), len(ref)) for ref in references)[1]
    return found, tried, nearest


def _grams(words: Words, n: int) -> dict[tuple[str, ...], int]:
    counts: dict[tuple[str, ...], int] = {}
    for gram in zip(*(words[i:] for i in range(n)), strict=False):
        counts[gram] = counts.get(gram, 0) + 1
    return counts


def weighted_bleu(
    found: Sequence[int],
    tried: Sequence[int],
    size: int,
    target: int,
    weights: Sequence[float],
    *,
    epsilon: float = 0.0,
) -> float:
    """NLTK's BLEU: `exp(sum of w_n log p_n)` times the brevity penalty; 0 to 1, higher is better.

    Protocols nltk (over the corpus) and rs_rag (mean of sentences; its caption and VQA tables).

    Args:
        found: n-grams found, for n = 1, 2, ...
        tried: n-grams tried.
        size: predicted words.
        target: nearest reference length, or their sum.
        weights: of log p_1, log p_2, ...
        epsilon: NLTK's smoothing `method1` puts it in place of no hit; at 0 no hit is hardly more
            than none (`method0` takes the smallest float).
    """
    if not size or not found[0]:
        return 0.0
    smallest = 2.2250738585072014e-308
    logs = []
    for hit, tries in zip(found, tried, strict=True):
        logs.append(math.log(hit / tries if hit else (epsilon / tries or smallest)))
    total = math.fsum(w * value for w, value in zip(weights, logs, strict=False))
    return math.exp(total) * (1.0 if size > target else math.exp(1 - target / size))


_NEGATION = re.compile(r"([^\s'])(n't|N'T)(?![\w/-]|\.\w)")
_JOINED = re.compile(
    r"(?i)\b(can)(not)\b|\b(d)('ye)\b|\b(gim)(me)\b|\b(gon)(na)\b|\b(got)(ta)\b|\b(lem)(me)\b"
    r"|\b(more)('n)\b|\b(wan)(na)(?=[\s,;:!?)\"]|\.\s*$)"
)


def split_contractions(text: str) -> str:
    """NLTK's `word_tokenize` as far as `rouge_score` sees it.

    All else that it does is to part punctuation from words, which `rouge_score` drops.
    """
    text = _NEGATION.sub(r"\1 \2", f" {text} ")
    return _JOINED.sub(lambda m: " ".join(filter(None, m.groups())), text)


# NLTK's METEOR -------------------------------------------------------------------------------


def missing_meteor(*resources: str) -> str | None:
    """Why NLTK's METEOR cannot run here and what to do; None where it can.

    Args:
        resources: what it needs of NLTK's data beside WordNet.
    """
    try:
        with extra("nltk", f"Then get its WordNet: {_DOWNLOAD}"):
            import nltk  # noqa: F401
        if not _of_nltk("corpora/wordnet") and wordnet_files.folder() is None:
            return (
                f"NLTK's METEOR needs WordNet: {_DOWNLOAD}; or, on Debian and Ubuntu, apt-get "
                "install wordnet-base; or name a folder of its files by "
                f"{wordnet_files.VARIABLE}=<folder>"
            )
    except UserError as error:
        return str(error)
    for resource in resources:
        if not _of_nltk(resource):
            return f"NLTK's METEOR needs NLTK's {resource}: {_DOWNLOAD}"
    return None


_DOWNLOAD = "python -m nltk.downloader wordnet omw-1.4 punkt_tab"


def _of_nltk(resource: str) -> bool:
    """Whether NLTK's own folders hold it, packed or not."""
    with extra("nltk"):
        import nltk

    for name in (resource, f"{resource}.zip"):
        try:
            nltk.data.find(name)
        except LookupError:
            continue
        return True
    return False


def nltk_meteor(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    split: Callable[[str], list[str]],
    *,
    wordnet: Any = None,
) -> list[float]:
    """METEOR as `nltk.translate.meteor_score` has it: alpha 0.9, beta 3, gamma 0.5, no paraphrases.

    About twice METEOR 1.5 on the same captions; the best reference counts. 0 to 1, higher is
    better. Protocols nltk, earthdial and rs_rag, in the caption tables of the last two.

    Args:
        predictions: N sentences.
        references: for each its references.
        split: words of a sentence.
        wordnet: NLTK's reader, or what gives synsets as it does; None takes NLTK's where its data
            is installed, else WordNet's own files (see `wordnet`).

    Raises:
        UserError: nltk or WordNet is not there.
    """
    if wordnet is None:
        why = missing_meteor()
        if why:
            raise UserError(why)
        files = wordnet_files.folder()
        if _of_nltk("corpora/wordnet") or files is None:
            with extra("nltk"):
                from nltk.corpus import wordnet as installed
            wordnet = installed
        else:
            wordnet = wordnet_files.read(files)
    with extra("nltk"):
        from nltk.translate.meteor_score import meteor_score

    return [
        float(meteor_score([split(ref) for ref in refs], split(guess), wordnet=wordnet))
        for guess, refs in zip(predictions, references, strict=True)
    ]


def word_tokenize(text: str) -> list[str]:
    """NLTK's."""
    with extra("nltk"):
        from nltk.tokenize import word_tokenize

    return list(word_tokenize(text))
