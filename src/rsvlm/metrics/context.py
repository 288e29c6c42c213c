"""Whether what was retrieved for an answer holds its facts, and whether it is of the right place.

No language model judges here: a fact is a number, a name, or a short answer as it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from rsvlm.data.prediction_records import Id, image_of
from rsvlm.metrics.intervals import Statistics, means

#: Most words of an answer that is one fact as a whole.
SHORT = 6
_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<!\w)[A-Z][^\W\d_]+(?:[ -][A-Z][^\W\d_]+)*")
_SAYS_NOTHING = frozenset({"yes", "no", "a", "an", "the"})

Words = tuple[str, ...]


def words_of(text: str) -> Words:
    """Lower-cased words and numbers; a unit behind a number is a word of its own (`12.51mm`)."""
    return tuple(_WORD.findall(text.casefold()))


def answer_facts(answer: str, question: str = "") -> list[Words]:
    """The facts that an answer states.

    An answer of at most `SHORT` words is one fact, unless it says yes or no alone. In a longer one
    they are its numbers, and its names: words with a capital that do not begin a sentence, or
    several in a row. What the question says already is no fact of the answer.
    """
    words = words_of(answer)
    if len(words) <= SHORT:
        found = [words] if set(words) - _SAYS_NOTHING else []
    else:
        named = [m[0] for m in _NAME.finditer(answer) if " " in m[0] or not _begins(answer, m)]
        found = [words_of(text) for text in (*_NUMBER.findall(answer), *named)]
    asked = words_of(question)
    return [fact for fact in dict.fromkeys(found) if fact and not within(fact, asked)]


def within(fact: Words, words: Words) -> bool:
    """Whether a fact's words stand in a row."""
    size = len(fact)
    return any(words[i : i + size] == fact for i in range(len(words) - size + 1))


def _begins(text: str, found: re.Match[str]) -> bool:
    before = text[: found.start()].rstrip(" \"'([")
    return not before or before[-1] in ".!?:;\n"


def answer_support(answer: str, passages: Sequence[str], question: str = "") -> float:
    """The share of an answer's facts that stand in the passages that it was given.

    Formula: facts whose words stand in a row in one passage, by facts. Range: 0 to 1, in tables
    100; NaN of an answer without a fact. Higher is better. Protocols: passages. Used in: ours;
    of a true answer it is open-domain question answering's "has answer" (Chen et al., DrQA, ACL
    2017; Karpukhin et al., DPR, EMNLP 2020).

    Args:
        answer: the model's, or the true one.
        passages: texts that it was given.
        question: what it says is no fact.
    """
    facts = answer_facts(answer, question)
    held = [words_of(text) for text in passages]
    hits = [any(within(fact, words) for words in held) for fact in facts]
    return sum(hits) / len(hits) if hits else float("nan")


@dataclass
class Given:
    """What an answer was given, in the order of its scores.

    Attributes:
        id: of the question.
        question: as asked.
        answer: the model's.
        truths: the true answer, or the references.
        records: of each passage, its record.
        passages: their texts.
        right: records that are of the question's place; none where the base lacks it.
    """

    id: Id
    question: str
    answer: str
    truths: list[str]
    records: list[str] = field(default_factory=list)
    passages: list[str] = field(default_factory=list)
    right: list[str] = field(default_factory=list)


def measure_context(given: Sequence[Given]) -> tuple[dict[str, float], dict[str, int], Statistics]:
    """What retrieval brought to a set of answers, in per cent.

    Formula: means over questions. context_known, the base holds a record of the question's place;
    context_recall and context_r1, of those, that such a record is among the passages, or is the
    first; context_none, nothing was given; has_answer, facts of the true answer (the best
    reference) in the passages; answer_support, facts of the model's answer in the passages;
    context_misled, answers whose facts are no facts of the true one and stand in a passage of
    another place. Range: 0 to 100. Higher is better but for context_none and context_misled.
    Protocols: passages. Used in: ours; RS-RAG gives no such numbers.

    Args:
        given: of each question, at least one.

    Returns:
        Metric word -> per cent (NaN where no question counts), word -> how many questions count,
        and what each image brings.
    """
    columns: dict[str, list[float]] = {word: [] for word in WORDS}
    for one in given:
        known = bool(one.right)
        hits = [record in one.right for record in one.records]
        nan = float("nan")
        truths = [answer_support(text, one.passages, one.question) for text in one.truths]
        columns["context_known"].append(float(known))
        columns["context_recall"].append(float(any(hits)) if known else nan)
        columns["context_r1"].append(float(hits[:1] == [True]) if known else nan)
        columns["context_none"].append(float(not one.passages))
        columns["has_answer"].append(max((v for v in truths if not math.isnan(v)), default=nan))
        columns["answer_support"].append(answer_support(one.answer, one.passages, one.question))
        columns["context_misled"].append(float(_misled(one, hits)))
    values = {word: np.array(column) for word, column in columns.items()}
    counts = {word: int((~np.isnan(column)).sum()) for word, column in values.items()}
    found = {w: 100 * float(np.nanmean(v)) if counts[w] else nan for w, v in values.items()}
    images = [image_of(one.id) for one in given]
    return found, counts, means(images, {w: v for w, v in values.items() if counts[w]})


#: Metric words of `measure_context`.
WORDS = (
    "context_known",
    "context_recall",
    "context_r1",
    "context_none",
    "has_answer",
    "answer_support",
    "context_misled",
)


def _misled(one: Given, hits: Sequence[bool]) -> bool:
    """Whether an answer that is not the true one repeats a passage of another place."""
    wrong = [words_of(text) for text, hit in zip(one.passages, hits, strict=True) if not hit]
    true = [words_of(text) for text in one.truths]
    facts = answer_facts(one.answer, one.question)
    if not facts or any(within(fact, words) for fact in facts for words in true):
        return False
    return any(within(fact, words) for fact in facts for words in wrong)
