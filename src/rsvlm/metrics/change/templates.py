"""The sentences by which change captioning data sets say that nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence

from rsvlm.data.scenes.change_words import HELD_OUT_SAME, SAME
from rsvlm.errors import UserError, near

_COMMON = (
    "the scene is the same as before",
    "there is no difference",
    "the two scenes seem identical",
)

#: Data set -> its five sentences. DeltaVLM's `test-cls.ipynb` (6c9bd60) and SECOND-CC's evaluation
#: loop (bac59aa) test captions for membership.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "levir_cc": (*_COMMON, "no change has occurred", "almost nothing has changed"),
    "second_cc": (*_COMMON, "no change is occurred", "almost nothing is changed"),
    "scenes": (*SAME, *HELD_OUT_SAME),
}


def templates_of(data: str, templates: Sequence[str] | None = None) -> frozenset[str]:
    """The plain sentences of a data set, or the given ones.

    Args:
        data: one of `TEMPLATES`; of no account where `templates` are given.
        templates: sentences of your own.

    Raises:
        UserError: an unknown data set, or no sentences.
    """
    if templates is None:
        if data not in TEMPLATES:
            raise UserError(
                f"{data!r} has no list of sentences for unchanged pairs. {near(data, TEMPLATES)} "
                "Or give templates=[...] of your own."
            )
        templates = TEMPLATES[data]
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
