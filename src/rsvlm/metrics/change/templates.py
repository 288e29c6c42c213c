"""The sentences by which change captioning data sets say that nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.errors import UserError, near


def templates_of(data: str, templates: Sequence[str] | None = None) -> frozenset[str]:
    """The plain sentences of a data set, or the given ones.

    Args:
        data: one of `NO_CHANGE`; of no account where `templates` are given.
        templates: sentences of your own.

    Raises:
        UserError: an unknown data set, or no sentences.
    """
    if templates is None:
        if data not in NO_CHANGE:
            raise UserError(
                f"{data!r} has no list of sentences for unchanged pairs. {near(data, NO_CHANGE)} "
                "Or give templates=[...] of your own."
            )
        templates = NO_CHANGE[data]
    if not templates or isinstance(templates, str):
        raise UserError("templates must be a list of at least one sentence.")
    return frozenset(map(plain, templates))


def plain(sentence: str) -> str:
    """Lower case, single spaces, no full stops: captions end with ' .', '.' or nothing."""
    return " ".join(sentence.lower().replace(".", " ").split())


def unchanged(references: Sequence[str], sentences: frozenset[str]) -> bool:
    """Whether a pair's references say that nothing has changed.

    The published evaluation loops look at the second reference; so does this, and at the only one
    where there is one.
    """
    return plain(references[min(1, len(references) - 1)]) in sentences
