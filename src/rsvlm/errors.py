"""The errors that are the user's to mend: entry points print their text without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something in the command, the configuration or the files; the text says what to do."""


def near(word: str, known: Iterable[str], n: int = 3) -> str:
    """A phrase that offers the nearest known words, for the end of an error."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(word, known, n=n, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    return "Known: " + ", ".join(known) + "." if known else ""
