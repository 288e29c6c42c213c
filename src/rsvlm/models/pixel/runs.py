"""Where an answer points at objects: whole runs of [SEG] tokens, and what image they lie in."""

from __future__ import annotations

from collections.abc import Sequence


def whole_runs(ids: Sequence[int], tokens: Sequence[int]) -> tuple[list[list[int]], int]:
    """Places of the tokens of each object, and the number of runs that are not whole.

    A run is all of an object's tokens in their order, with other ids between them or not, as
    spaces stand there in some systems.

    Args:
        ids: of an answer.
        tokens: ids of one object, in order.
    """
    found: list[list[int]] = []
    run: list[int] = []
    broken, stray = 0, False
    for place, word in enumerate(ids):
        if word not in tokens:
            continue
        if word == tokens[len(run)]:
            run.append(place)
            stray = False
        elif word == tokens[0]:
            broken += 1
            run = [place]
        else:
            # What follows a break is of the same object, until a first token comes.
            broken += not stray
            run, stray = [], True
        if len(run) == len(tokens):
            found.append(run)
            run = []
    return found, broken + bool(run)
