"""Beam search for decoders of this package, many images at a time.

The rule is the published one of the change captioners (MModalCC, RSICCformer): a sequence's score
is the sum of its log-probabilities, without length normalisation; the first step expands one beam;
a sequence that ends leaves the beam, which is one narrower from then on; the best ended sequence
wins, the first that ended where two are equal. An image none of whose beams ends within `steps`
words is dropped there; here its best unfinished sequence is given back and marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rsvlm.errors import UserError


class Stepwise(Protocol):
    """What a beam search drives; `nn.change_decoder.Decoding` is one."""

    def step(self, tokens: Tensor) -> Tensor:
        """Words [B, K] to logits [B, K, V] of the next ones."""
        ...

    def select(self, images: Tensor | None, beams: Tensor) -> None:
        """Goes on with images [B'] (None: all) and their beams [B', K']."""
        ...


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One generated sequence.

    Attributes:
        ids: its words, without start and end.
        score: sum of the words' log-probabilities, the end's included.
        finished: whether it ended by itself.
    """

    ids: tuple[int, ...]
    score: float
    finished: bool


@torch.no_grad()
def beam_search(
    decoding: Stepwise,
    images: int,
    *,
    start: int,
    end: int,
    beam_size: int = 4,
    steps: int = 51,
    exhaustive: bool = False,
    device: torch.device | None = None,
) -> list[list[Hypothesis]]:
    """Generate a caption for each image.

    Scores only fall, so an image is done as soon as no beam under way is better than its best
    ended sequence; what follows cannot change the winner.

    Args:
        decoding: B images, with one beam each to begin with.
        images: B.
        start: id of the first word.
        end: id of the last word.
        beam_size: beams; 1 is greedy.
        steps: most words after the start, the end included.
        exhaustive: go on until every beam has ended, for all candidates.
        device: where the ids live.

    Returns:
        For each image its ended sequences, best first (the order in which they ended where
        equal); where none has ended, the best unfinished one alone.

    Raises:
        UserError: a beam size or length below 1, or logits that are not numbers.
    """
    if beam_size < 1 or steps < 1:
        raise UserError(f"beam_size={beam_size} and steps={steps} must both be at least 1.")
    done: list[list[Hypothesis]] = [[] for _ in range(images)]
    if not images:
        return done
    owner = list(range(images))
    tokens = torch.full((images, 1), start, dtype=torch.long, device=device)
    scores = torch.zeros(images, 1, device=device)
    history = tokens.new_empty(images, 1, 0)
    width = torch.full((images, 1), beam_size, device=device)
    for step in range(1, steps + 1):
        logp = decoding.step(tokens).float().log_softmax(-1)
        vocabulary = logp.shape[-1]
        total = (scores.unsqueeze(-1) + logp).flatten(1)
        best, place = total.topk(min(beam_size, total.shape[1]))
        beams, tokens = place // vocabulary, place % vocabulary
        rank = torch.arange(best.shape[1], device=device)
        valid = (rank < width) & (best > -torch.inf)
        if not bool(valid.any(1).all()):
            raise UserError("the decoder's logits are not finite, so no caption can be chosen.")
        words = history.gather(1, beams.unsqueeze(-1).expand(-1, -1, history.shape[-1]))
        history = torch.cat([words, tokens.unsqueeze(-1)], dim=-1)
        ended = valid & (tokens == end)
        live = valid & ~ended
        rows, ranks = ended.nonzero(as_tuple=True)
        for row, ids, score in zip(
            rows.tolist(), history[rows, ranks].tolist(), best[rows, ranks].tolist(), strict=True
        ):
            done[owner[row]].append(Hypothesis(tuple(ids[:-1]), score, True))
        scores = best.masked_fill(~live, -torch.inf)
        top = scores.max(1)
        if step == steps:
            for row, each in enumerate(owner):
                if not done[each]:
                    ids = tuple(history[row, int(top.indices[row])].tolist())
                    done[each].append(Hypothesis(ids, float(top.values[row]), False))
            break
        width = live.sum(1, keepdim=True)
        keep = [
            row
            for row, (each, score) in enumerate(zip(owner, top.values.tolist(), strict=True))
            if score > -torch.inf
            and (exhaustive or score > max((h.score for h in done[each]), default=-torch.inf))
        ]
        if not keep:
            break
        chosen = None
        if len(keep) < len(owner):
            chosen = torch.tensor(keep, device=device)
            owner = [owner[row] for row in keep]
            beams, tokens, scores = beams[chosen], tokens[chosen], scores[chosen]
            history, live, width = history[chosen], live[chosen], width[chosen]
        # Beams under way first, in their order, and no more columns than the widest image needs.
        front = live.int().argsort(dim=1, descending=True, stable=True)[:, : int(width.max())]
        beams, tokens, scores = (x.gather(1, front) for x in (beams, tokens, scores))
        history = history.gather(1, front.unsqueeze(-1).expand(-1, -1, history.shape[-1]))
        decoding.select(chosen, beams)
    return [sorted(each, key=lambda h: -h.score) for each in done]
