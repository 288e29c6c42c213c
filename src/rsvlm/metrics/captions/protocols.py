"""The protocols of caption evaluation: which words, which formula, which mean.

`names.PROTOCOLS["captions"]` says of each what it does differently; here it is done.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsvlm.errors import UserError, near
from rsvlm.metrics.captions import meteor, nltk_style, ptb, spice
from rsvlm.metrics.captions.bleu import counts_of
from rsvlm.metrics.captions.bleu import of_sums as bleu_of_sums
from rsvlm.metrics.captions.cider import cider_d
from rsvlm.metrics.captions.counts import Table
from rsvlm.metrics.captions.rouge import rouge_1, rouge_l, rouge_l_f1, rouge_words

Texts = Sequence[str]
References = Sequence[Sequence[str]]

_BLEU = ("bleu1", "bleu2", "bleu3", "bleu4")

#: protocol -> the metric words that it defines, in the order of a table.
WORDS: dict[str, tuple[str, ...]] = {
    "coco": (*_BLEU, "meteor", "rouge_l", "cider", "spice", "spider", "s_m"),
    "nltk": (*_BLEU, "meteor", "rouge_l"),
    "earthdial": ("rouge_1", "rouge_l", "meteor"),
    "rs_rag": (*_BLEU, "meteor", "rouge_l", "cider"),
    "token_ids": (*_BLEU, "meteor", "rouge_l", "cider", "s_m"),
    "open_questions": (*_BLEU, "meteor", "rouge_l", "cider", "s_m"),
}
#: Protocols that count word numbers, and so may take a vocabulary.
NUMBERED = ("token_ids", "open_questions")

#: A mean of other metrics -> what it is the mean of. SPIDEr: Liu et al. (ICCV 2017). S*m: of change
#: captioning (RSCaMa's table I; CCExpert picks its checkpoint by it). Both higher is better.
MEANS = {"spider": ("spice", "cider"), "s_m": ("bleu4", "meteor", "rouge_l", "cider")}


@dataclass
class Scores:
    """Values as the published code gives them, before they become per cent.

    Attributes:
        corpus: metric word -> value.
        per_image: metric word -> N values.
        skipped: metric word -> why it has no value here, and what to do.
    """

    corpus: dict[str, float] = field(default_factory=dict)
    per_image: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    #: Group of metrics whose corpus score is no mean -> [N, S] counts; see `statistics.py`.
    sums: dict[str, Any] = field(default_factory=dict)

    def add(self, word: str, values: Sequence[float], corpus: float | None = None) -> None:
        """Takes a metric; its corpus score is the mean unless it has another."""
        self.per_image[word] = [float(value) for value in values]
        self.corpus[word] = float(np.mean(values)) if corpus is None else float(corpus)


def score(
    protocol: str,
    predictions: Texts,
    references: References,
    *,
    metrics: Sequence[str] | None = None,
    vocabulary: Mapping[str, int] | None = None,
) -> Scores:
    """Scores predictions under a protocol.

    Args:
        protocol: one of `WORDS`.
        predictions: N answers as the model wrote them.
        references: for each its references, at least one.
        metrics: the words wanted; None takes all that can run, and says why others cannot.
        vocabulary: word -> id, of the protocols in `NUMBERED`; words outside become its `<unk>`.

    Raises:
        UserError: an unknown protocol or metric, no images, or a metric asked for by name that
            cannot run here.
    """
    check(protocol, metrics, vocabulary)
    if not predictions:
        raise UserError(
            "no image with a caption was given, so there is nothing to measure: does this data set "
            "have captions?"
        )
    wanted = set(WORDS[protocol] if metrics is None else metrics)
    for word in list(wanted):
        wanted.update(MEANS.get(word, ()))
    options: dict[str, Any] = {"vocabulary": vocabulary} if protocol in NUMBERED else {}
    found = _RUN[protocol](predictions, references, wanted, **options)
    for word, parts in MEANS.items():
        if word in wanted:
            _mean(found, word, parts)
    shown = WORDS[protocol] if metrics is None else [w for w in WORDS[protocol] if w in metrics]
    for word in metrics or ():
        if word in found.skipped:
            causes = [found.skipped[part] for part in MEANS.get(word, ()) if part in found.skipped]
            raise UserError(f"{word}: {'; '.join(causes) or found.skipped[word]}.")
    return Scores(
        {word: found.corpus[word] for word in shown if word in found.corpus},
        {word: found.per_image[word] for word in shown if word in found.per_image},
        {word: found.skipped[word] for word in shown if word in found.skipped},
        found.sums,
    )


def check(
    protocol: str, metrics: Sequence[str] | None, vocabulary: Mapping[str, int] | None
) -> None:
    """Refuses what `score` would refuse, before there is anything to score.

    Raises:
        UserError: an unknown protocol or metric, or a vocabulary that does not fit.
    """
    if protocol not in WORDS:
        raise UserError(f"caption protocol {protocol!r} is unknown. {near(protocol, WORDS)}")
    for word in metrics or ():
        if word not in WORDS[protocol]:
            raise UserError(
                f"protocol {protocol} has no metric {word!r}. {near(word, WORDS[protocol])}"
            )
    if vocabulary is not None:
        if protocol not in NUMBERED:
            raise UserError(
                f"protocol {protocol} takes no vocabulary; only {' and '.join(NUMBERED)} do."
            )
        _Ids(vocabulary)


def _mean(found: Scores, word: str, parts: Sequence[str]) -> None:
    absent = [part for part in parts if part not in found.corpus]
    if absent:
        found.skipped[word] = f"it needs {' and '.join(absent)}, which did not run"
        return
    found.add(
        word,
        np.mean([found.per_image[part] for part in parts], axis=0).tolist(),
        float(np.mean([found.corpus[part] for part in parts])),
    )


# COCO and what shares its formulas -------------------------------------------------------------


def _coco(predictions: Texts, references: References, wanted: set[str]) -> Scores:
    """PTB tokens; the references in one file, the predictions in another, as published."""
    guesses = ptb.tokenize(predictions)
    flat = iter(ptb.tokenize([ref for refs in references for ref in refs]))
    return _coco_scores(guesses, [[next(flat) for _ in refs] for refs in references], wanted)


def _token_ids(
    predictions: Texts,
    references: References,
    wanted: set[str],
    vocabulary: Mapping[str, int] | None,
    *,
    clean: bool = True,
) -> Scores:
    """Words become numbers before anything is counted."""
    ids = _Ids(vocabulary)
    refs = [[ids(ref.replace(" .", "") if clean else ref) for ref in some] for some in references]
    return _coco_scores([ids(guess.replace(".", "")) for guess in predictions], refs, wanted)


class _Ids:
    """Sentences to strings of ids; without a vocabulary each new word gets the next number."""

    def __init__(self, vocabulary: Mapping[str, int] | None) -> None:
        self.grows = vocabulary is None
        self.ids = dict(vocabulary or {})
        self.unknown = next((i for word, i in self.ids.items() if word.lower() == "<unk>"), None)
        if vocabulary is not None and self.unknown is None:
            raise UserError("the vocabulary has no '<unk>', which unknown words would become.")

    def __call__(self, text: str) -> str:
        words = text.split()
        if self.grows:
            for word in words:
                self.ids.setdefault(word, len(self.ids))
        return " ".join(str(self.ids.get(word, self.unknown)) for word in words)


def _coco_scores(guesses: Texts, references: References, wanted: set[str]) -> Scores:
    found = Scores()
    table = Table(guesses, references)
    if wanted.intersection(_BLEU):
        counts = counts_of(table)
        found.sums["bleu"] = counts
        corpus, each = bleu_of_sums(counts.sum(0)), bleu_of_sums(counts)
        for word, value, values in zip(_BLEU, corpus, each, strict=True):
            found.add(word, values.tolist(), float(value))
    if "rouge_l" in wanted:
        found.add("rouge_l", rouge_l(guesses, references))
    if "cider" in wanted:
        found.add("cider", cider_d(guesses, references, table).tolist())
    if "meteor" in wanted:
        why = meteor.missing()
        if why:
            found.skipped["meteor"] = why
        else:
            corpus_score, scores, found.sums["meteor"] = meteor.shared().measure(
                guesses, references
            )
            found.add("meteor", scores, corpus_score)
    if "spice" in wanted:
        why = spice.missing()
        if why:
            found.skipped["spice"] = why
        else:
            found.add("spice", spice.spice(guesses, references))
    return found


# NLTK and rouge_score --------------------------------------------------------------------------


def _nltk(predictions: Texts, references: References, wanted: set[str]) -> Scores:
    guesses = [guess.lower().split() for guess in predictions]
    targets = [[ref.lower().split() for ref in refs] for refs in references]
    found = Scores()
    if wanted.intersection(_BLEU):
        _add_bleu(found, guesses, targets, nltk_style.EVEN, epsilon=0.0, corpus=True)
    if "rouge_l" in wanted:
        found.add("rouge_l", _rouge(rouge_l_f1, predictions, references, max, stemming=False))
    if "meteor" in wanted:
        _add_meteor(found, predictions, references, str.split)
    return found


def _earthdial(predictions: Texts, references: References, wanted: set[str]) -> Scores:
    guesses = [nltk_style.split_contractions(guess) for guess in predictions]
    targets = [[nltk_style.split_contractions(ref) for ref in refs] for refs in references]
    found = Scores()
    for word, measure in (("rouge_1", rouge_1), ("rouge_l", rouge_l_f1)):
        if word in wanted:
            found.add(word, _rouge(measure, guesses, targets, _average, stemming=True))
    if "meteor" in wanted:
        tokenize, data = nltk_style.word_tokenize, ("tokenizers/punkt_tab",)
        _add_meteor(found, predictions, references, tokenize, *data)
    return found


def _rs_rag(predictions: Texts, references: References, wanted: set[str]) -> Scores:
    found = Scores()
    guesses = [guess.split() for guess in predictions]
    targets = [[ref.split() for ref in refs] for refs in references]
    if wanted.intersection(_BLEU):
        _add_bleu(found, guesses, targets, nltk_style.RS_RAG, epsilon=0.1, corpus=False)
    if "rouge_l" in wanted:
        found.add("rouge_l", _rouge(rouge_l_f1, predictions, references, max, stemming=True))
    if "cider" in wanted:
        found.add("cider", cider_d(predictions, references).tolist())
    if "meteor" in wanted:
        _add_meteor(found, predictions, references, str.split)
    return found


def _add_bleu(
    found: Scores,
    guesses: Sequence[list[str]],
    targets: Sequence[Sequence[list[str]]],
    weights: Sequence[Sequence[float]],
    *,
    epsilon: float,
    corpus: bool,
) -> None:
    each = [
        nltk_style.sentence_counts(guess, refs)
        for guess, refs in zip(guesses, targets, strict=True)
    ]
    sizes = [len(guess) for guess in guesses]
    hits, tries, nearest = (np.array(column) for column in zip(*each, strict=True))
    bleu_of = functools.partial(nltk_style.weighted_bleu, epsilon=epsilon)
    for word, weight in zip(_BLEU, weights, strict=True):
        values = [
            bleu_of(*counts[:2], n, counts[2], weight)
            for counts, n in zip(each, sizes, strict=True)
        ]
        total = None
        if corpus:
            found.sums["nltk_bleu"] = np.column_stack([hits, tries, sizes, nearest])
            sums = hits.sum(0).tolist(), tries.sum(0).tolist(), sum(sizes), int(nearest.sum())
            total = bleu_of(*sums, weight)
        found.add(word, values, total)


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rouge(
    measure: Callable[[Texts, Texts], float],
    predictions: Texts,
    references: References,
    over: Callable[[list[float]], float],
    *,
    stemming: bool,
) -> list[float]:
    @functools.cache
    def words(text: str) -> list[str]:
        return rouge_words(text, stemming=stemming)

    return [
        over([measure(words(guess), words(ref)) for ref in refs])
        for guess, refs in zip(predictions, references, strict=True)
    ]


def _add_meteor(
    found: Scores,
    predictions: Texts,
    references: References,
    split: Callable[[str], list[str]],
    *data: str,
) -> None:
    why = nltk_style.missing_meteor(*data)
    if why:
        found.skipped["meteor"] = why
    else:
        found.add("meteor", nltk_style.nltk_meteor(predictions, references, split))


_RUN: dict[str, Callable[..., Scores]] = {
    "coco": _coco,
    "nltk": _nltk,
    "earthdial": _earthdial,
    "rs_rag": _rs_rag,
    "token_ids": _token_ids,
    "open_questions": functools.partial(_token_ids, clean=False),
}
