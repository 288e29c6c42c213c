"""Scores of generated texts, without those of a whole vocabulary for every step.

Transformers gives scores only as [rows, vocabulary] of each step, 6.4 GB at 64 texts of 64 tokens
over 262,000 words. What stands here is a logits processor behind all others, which changes nothing
and keeps what the texts' own scores need: a number or two a row and step, and at most the latest
step's vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class ScoreKeeper(Protocol):
    """A logits processor that knows the texts' scores afterwards."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` [rows, V] as they are, of the next tokens behind `input_ids` [rows, T]."""

    def scores(self, found: Any, ends: Sequence[int], penalty: float) -> list[float]:
        """The texts' scores; see `encoders.generation.Generated`.

        Args:
            found: what transformers' `generate` gave, `sequences` without the prompt.
            ends: ids of the end tokens.
            penalty: power of the number of tokens that their sum is divided by.
        """


class Greedy:
    """The greatest log-probability of each step, which is that of the token that is chosen."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `ScoreKeeper`."""
        del input_ids
        self.steps.append(scores.float().amax(-1) - scores.float().logsumexp(-1))
        return scores

    def scores(self, found: Any, ends: Sequence[int], penalty: float) -> list[float]:
        """See `ScoreKeeper`."""
        return mean_scores(torch.stack(self.steps, -1), found.sequences, ends, penalty)


class Sampled:
    """The log-probability of each step's token, taken when the next step shows which it was."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []
        self.last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `ScoreKeeper`."""
        if self.last is not None:
            self._take(self.last, input_ids[:, -1])
        self.last = scores
        return scores

    def _take(self, last: Tensor, tokens: Tensor) -> None:
        logs = last.float()
        self.steps.append(logs.gather(-1, tokens[:, None])[:, 0] - logs.logsumexp(-1))

    def scores(self, found: Any, ends: Sequence[int], penalty: float) -> list[float]:
        """See `ScoreKeeper`."""
        assert self.last is not None
        self._take(self.last, found.sequences[:, len(self.steps)])
        return mean_scores(torch.stack(self.steps, -1), found.sequences, ends, penalty)


class Beams:
    """What each beam has summed up before a step, and the end tokens' scores in that step.

    A beam's parent is the one of the step before that had written the same; it is looked for, as
    transformers tells parents at the end alone. A text is a beam up to its last token, and this is
    an end token, or one of the last step of all.

    Args:
        beams: beams of a text.
        prompt: tokens of the prompt in `input_ids`.
        ends: ids of the end tokens.
    """

    def __init__(self, beams: int, prompt: int, ends: Sequence[int]) -> None:
        self.beams, self.prompt, self.ends = beams, prompt, list(ends)
        self.totals: list[Tensor] = []
        self.of_ends: list[Tensor] = []
        self.ids: Tensor | None = None
        self.last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """See `ScoreKeeper`."""
        ids = input_ids[:, self.prompt :]
        self.totals.append(self._totals(ids, scores))
        self.of_ends.append(scores[:, self.ends])
        self.ids, self.last = ids, scores
        return scores

    def _totals(self, ids: Tensor, scores: Tensor) -> Tensor:
        if self.ids is None or self.last is None:
            return scores.new_zeros(len(scores))
        now, before = (part.unflatten(0, (-1, self.beams)) for part in (ids, self.ids))
        same = (now[:, :, None, :-1] == before[:, None]).all(-1)
        first = torch.arange(len(now), device=ids.device)[:, None] * self.beams
        parents = (same.int().argmax(-1) + first).flatten()
        return self.last[parents, ids[:, -1]] + self.totals[-1][parents]

    def scores(self, found: Any, ends: Sequence[int], penalty: float) -> list[float]:
        """See `ScoreKeeper`; a text that never came to be scores -1e9, as in transformers."""
        assert self.last is not None
        counts = (found.beam_indices >= 0).sum(1)
        step = (counts - 1).clamp(min=0)
        row = found.beam_indices.gather(1, step[:, None])[:, 0].clamp(min=0).long()
        token = found.sequences.gather(1, step[:, None])[:, 0]
        is_end = token[:, None] == torch.tensor(list(ends), device=token.device)
        of_end = torch.stack(self.of_ends)[step, row, is_end.int().argmax(1)]
        last = torch.where(is_end.any(1), of_end, self.last[row, token])
        total = last + torch.stack(self.totals)[step, row]
        lengths = [max(1, count) ** penalty for count in counts.tolist()]
        total = total / torch.tensor(lengths, dtype=total.dtype, device=total.device)
        return total.masked_fill(counts == 0, -1e9).float().tolist()


def mean_scores(
    steps: Tensor, sequences: Tensor, ends: Sequence[int], penalty: float
) -> list[float]:
    """Scores of texts from their tokens' log-probabilities.

    Args:
        steps: [rows, T]; what stands behind an end token is not read.
        sequences: [rows, T] ids.
        ends: see `ScoreKeeper`, as the other.
        penalty: see there.
    """
    ended = torch.isin(sequences, torch.tensor(list(ends), device=sequences.device))
    over = ended.long().cumsum(-1)
    counted = (over == 0) | ((over == 1) & ended)
    total = steps.masked_fill(~counted, 0.0).sum(-1)
    return (total / counted.sum(-1).clamp(min=1).float() ** penalty).tolist()
