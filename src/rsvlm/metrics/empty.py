"""Answers that say nothing, and answers of another form than the true one."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsvlm.data.prediction_records import Id, image_of
from rsvlm.metrics.intervals import Statistics, means
from rsvlm.metrics.vqa.normalise import evalai, is_number

_YES_NO = re.compile(r"\b(yes|no)\b")


def empty_answers(word: str, answers: Sequence[tuple[Id, str]]) -> tuple[float, Statistics]:
    """Per cent of answers without a word.

    Args:
        word: the metric word that the statistics are of.
        answers: (id, answer), at least one.
    """
    return _share(word, [(id, not answer.strip()) for id, answer in answers])


def unreadable(word: str, answers: Sequence[tuple[Id, str, str]]) -> tuple[float, Statistics]:
    """Per cent of answers of another form than the true one.

    These say neither yes nor no where one of them is true, hold no number where a number is true,
    or are empty. Numbers are digits or number words, as VQA's EvalAI normalisation reads them.

    Args:
        word: the metric word that the statistics are of.
        answers: (id, answer, true answer), at least one.
    """
    return _share(word, [(id, _misses(answer, truth)) for id, answer, truth in answers])


def _misses(answer: str, truth: str) -> bool:
    said, true = evalai(answer), evalai(truth)
    if not said:
        return True
    if true in ("yes", "no"):
        return _YES_NO.search(said) is None
    if is_number(true):
        return not any(is_number(part) for part in said.split())
    return False


def _share(word: str, rows: Sequence[tuple[Id, bool]]) -> tuple[float, Statistics]:
    flags = [float(flag) for _, flag in rows]
    statistics = means([image_of(id) for id, _ in rows], {word: flags})
    return 100 * sum(flags) / len(flags), statistics
