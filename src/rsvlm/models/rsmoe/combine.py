"""How the experts' parts become one answer; the paper does not say, so all of it is ours.

- `concatenated`: parts in the tasks' order, a sentence that was said already left out; of several
  whole answers the one with the best score.
- `summarised`: the LLM block reads the parts behind the instruction and writes the answer; it
  learns to from right parts in the first stage.
- `logits`: all experts write one text; at each step their probabilities are averaged by weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rsvlm.data.sample import Answer, Part
from rsvlm.data.text.subtasks import sentences

COMBINE = ("concatenated", "summarised", "logits")


def concatenated(parts: Sequence[str]) -> str:
    """One text of parts; an empty one is left out, and so is a sentence that stands already."""
    said: dict[str, str] = {}
    for part in parts:
        for sentence in sentences(part):
            said.setdefault(sentence.casefold(), sentence)
    return " ".join(said.values())


def best(parts: Sequence[Part]) -> Part:
    """The part with the best score, of those that say something."""
    told = [part for part in parts if part.text.strip()] or list(parts)
    return max(told, key=lambda part: part.score if part.score is not None else 0.0)


def answer_of(parts: list[Part], *, whole: bool, finished: bool) -> Answer:
    """The answer of what several experts said.

    Args:
        parts: theirs.
        whole: each is the whole answer, one that all wrote or several to choose from.
        finished: none was cut.
    """
    if whole:
        one = best(parts)
        return Answer(one.text, one.score, finished=finished, parts=parts)
    told = [part.score for part in parts if part.text.strip() and part.score is not None]
    score = sum(told) / len(told) if told else None
    return Answer(concatenated([p.text for p in parts]), score, finished=finished, parts=parts)


def summary_prompt(instruction: str, parts: Sequence[tuple[str, str]]) -> str:
    """What the LLM block is asked to make one answer of.

    Args:
        instruction: the user's.
        parts: tasks with what was said; empty ones are left out.
    """
    told = " ".join(f"{task.replace('+', ' and ')}: {text}" for task, text in parts if text.strip())
    return " ".join(f"{instruction} {told}".split())


class MixExperts:
    """A logits processor of transformers that lets several rows write one text.

    Args:
        weights: [R], all dialogues of the first expert, then of the next; those of a dialogue sum
            to 1.
        experts: how many.
    """

    def __init__(self, weights: Tensor, experts: int) -> None:
        self.logs, self.experts = weights.float().log().unflatten(0, (experts, -1)), experts

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores [R * beams, V] to those of the mixture, the same for each expert."""
        del input_ids
        logs = scores.float().log_softmax(-1).unflatten(0, (self.experts, -1))
        weights = self.logs.repeat_interleave(logs.shape[1] // self.logs.shape[1], 1)
        mixed = torch.logsumexp(logs + weights[..., None], 0)
        return mixed.repeat(self.experts, 1).to(scores.dtype)
