"""The errors that are the user's to mend: entry points print their text without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Something in the command, the configuration or the files; the text says what to do.

    Args:
        text: one message for the user.
        code: a stable word for programs, where the class's own is too wide.
    """

    code: str = "user_error"

    def __init__(self, text: str = "", *, code: str | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code


#: Words that an error lists at most; records of a base are thousands.
_LISTED = 200


def near(word: str, known: Iterable[str], n: int = 3) -> str:
    """A phrase that offers the nearest known words, for the end of an error."""
    known = sorted(map(str, known))
    close = difflib.get_close_matches(word, known, n=n, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(close) + "?"
    more = f", and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return "Known: " + ", ".join(known[:_LISTED]) + more + "." if known else ""


@contextmanager
def extra(name: str, instead: str = "") -> Iterator[None]:
    """Around each import of a package that only an extra of rsvlm brings.

        with extra("peft"):
            from peft import LoraConfig

    Args:
        name: the extra, as pyproject.toml has it.
        instead: a sentence about what else would do.

    Raises:
        UserError: a package is not there; names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise needs_extra(name, _top(error), instead=instead) from error


def _top(error: ModuleNotFoundError) -> str:
    return (error.name or "a package").partition(".")[0]


def needs_extra(name: str, *packages: str, instead: str = "") -> UserError:
    """The error of packages that are not installed.

    Args:
        name: the extra that brings them, as pyproject.toml has it.
        *packages: those that are missing.
        instead: a sentence about what else would do.
    """
    missing = " and ".join(packages)
    verb = "are" if len(packages) > 1 else "is"
    text = f"{missing} {verb} not installed: {pip_install(name)}. {instead}".rstrip()
    return UserError(text, code="missing_extra")


def pip_install(name: str) -> str:
    """The command that installs an extra; quoted, as shells read the brackets themselves."""
    return f"pip install 'rsvlm[{name}]'"
