"""Captions judged by a language model that the user brings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence

from rsvlm.errors import UserError

#: (prediction, references) -> 0 to 1.
Judge = Callable[[str, Sequence[str]], float]

CLAIR = """\
You compare descriptions of images.

Description under test:
{prediction}

Descriptions of the image by people:
{references}

How likely is it that the description under test is of the same image as those by people? Answer
with one JSON object and nothing else: {{"score": <whole number from 0 to 100>, "reason": "<one
sentence>"}}
"""


def judge_captions(
    predictions: Sequence[str], references: Sequence[Sequence[str]], judge: Judge
) -> list[float]:
    """Asks a judge about each caption; the corpus score is the mean. Higher is better, 0 to 1.

    Args:
        predictions: N captions; an empty one is worth 0 and is not shown to the judge.
        references: for each its references, at least one.
        judge: any callable, `clair(ask)` for one.

    Returns:
        N scores.

    Raises:
        UserError: no captions, or a verdict that is not a number from 0 to 1, NaN for one.
    """
    if not predictions:
        raise UserError("no captions were given to the judge.")
    scores = []
    for number, (guess, refs) in enumerate(zip(predictions, references, strict=True)):
        if not refs:
            raise UserError(f"caption {number} has no references; a judge needs at least one.")
        verdict = float(judge(guess, refs)) if guess.strip() else 0.0
        if not 0 <= verdict <= 1:
            raise UserError(
                f"the judge gave {verdict} for caption {number} ({guess[:60]!r}); expected 0 to 1."
            )
        scores.append(verdict)
    return scores


def clair(ask: Callable[[str], str], *, prompt: str = CLAIR, tries: int = 3) -> Judge:
    """A judge in the manner of CLAIR (Chan et al., EMNLP 2023), in wording of our own.

    The language model says from 0 to 100 how likely caption and references are of one image; that
    by 100. Range: 0 to 1. Higher is better. Protocol: clair. Used in: VRSBench's caption table
    (GPT-4o, other wording). The value depends on the model behind `ask` and on the wording: state
    both beside it.

    Args:
        ask: sends a prompt to a language model and returns its reply.
        prompt: with `{prediction}` and `{references}`.
        tries: questions before a reply without a score is an error.

    Returns:
        The judge.
    """

    def judge(prediction: str, references: Sequence[str]) -> float:
        listed = "\n".join(f"- {ref}" for ref in references)
        question = prompt.format(prediction=f"- {prediction}", references=listed)
        reply = ""
        for _ in range(tries):
            reply = ask(question)
            score = read_score(reply)
            if score is not None:
                return score
        raise UserError(
            f"no score in {tries} replies of the judge; the last one was {reply[:200]!r}."
        )

    return judge


_OBJECT = re.compile(r"\{[^{}]*\}", re.DOTALL)
_NUMBER = re.compile(r"score\W{0,5}(\d+(?:\.\d+)?)", re.IGNORECASE)


def read_score(reply: str) -> float | None:
    """The score of a reply, 0 to 1; None without one.

    A JSON object with `score` counts first, a number behind the word next. A broken number below
    1 is taken for a share, as CLAIR's own script does.
    """
    value: object = None
    for candidate in _OBJECT.findall(reply):
        try:
            value = json.loads(candidate).get("score")
        except ValueError:
            continue
        if value is not None:
            break
    if value is None:
        match = _NUMBER.search(reply)
        value = match[1] if match else None
    try:
        score = float(str(value))
    except ValueError:
        return None
    if math.isnan(score) or not 0 <= score <= 100:
        return None
    return score if 0 < score < 1 else score / 100
