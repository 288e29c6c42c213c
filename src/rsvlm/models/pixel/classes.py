"""Which class of the memory an object has: from its annotation, the user, the text, or none."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from rsvlm.errors import UserError, near

#: What data sets call an object that is of no class of theirs: the phrase says what it is.
UNNAMED = ("", "target", "object")


class ClassNames:
    """The memory's class list.

    Data sets write one class in several ways (`Ground Track Field`, `ground-track-field`,
    `groundtrackfield`): case, spaces, hyphens and underscores make no difference.

    Args:
        names: in the memory's order.
        fallback: the class of an object of which nothing says another; None takes the last, as the
            published inference does.

    Raises:
        UserError: a name twice, or a fallback that is none of them.
    """

    def __init__(self, names: Sequence[str], fallback: str | None = None) -> None:
        self.names = list(names)
        self._index = {_plain(name): i for i, name in enumerate(self.names)}
        if len(self._index) != len(self.names):
            raise UserError("model.classes: a name stands in it twice.")
        self.fallback = len(self.names) - 1 if fallback is None else self.index(fallback)
        # A longer name first: `ground track field` before `track`.
        words = sorted((_spaced(name) for name in self.names), key=len, reverse=True)
        known = "|".join(" ?".join(re.escape(w) for w in name.split()) for name in words)
        self._pattern = re.compile(rf"\b({known})(?:s|es)?\b")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """The place of a class.

        Raises:
            UserError: the memory has no such class; names the near ones.
        """
        found = self._index.get(_plain(name))
        if found is None:
            raise UserError(
                f"the class memory has no class {name!r}. {near(name, self.names)} Name the "
                "classes of the data in model.classes, or leave the memory out with "
                "model.memory.variant=none."
            )
        return found

    def mentioned(self, text: str) -> list[int]:
        """The classes that a text names, in its order."""
        return [self._index[_plain(found[1])] for found in self._pattern.finditer(_spaced(text))]

    def annotated(self, name: str, phrase: str = "") -> int:
        """The class of an object of a data set: by its class there, else by its phrase.

        Args:
            name: its class; a word of `UNNAMED` says nothing.
            phrase: what it is called.

        Raises:
            UserError: a class that the memory does not have.
        """
        if name.strip().lower() not in UNNAMED or _plain(name) in self._index:
            return self.index(name)
        return next(iter(self._named(phrase)), self.fallback)

    def _named(self, text: str) -> list[int]:
        """Classes that a text names; `the other ship` is a ship, where `other` is the fallback."""
        found = self.mentioned(text)
        return [i for i in found if i != self.fallback] or found

    def choose(self, text: str, count: int, said: Sequence[str] = ()) -> list[tuple[int, str]]:
        """Class and where it is from (`user`, `text`, `fallback`) of each object of an answer.

        Args:
            text: the question.
            count: number of objects.
            said: by the user: one for all of them, or one for each.

        Raises:
            UserError: another number of classes than of objects, or an unknown one.
        """
        if said:
            if len(said) not in (1, count):
                raise UserError(
                    f"{len(said)} classes were given for an answer of {count} objects: give one, "
                    "or one for each."
                )
            given = [self.index(name) for name in said]
            return [(i, "user") for i in (given * count if len(given) == 1 else given)]
        found = self._named(text)
        if not found:
            return [(self.fallback, "fallback")] * count
        if len(found) == count:
            return [(i, "text") for i in found]
        return [(found[0], "text")] * count


def memory_mismatch(state: Mapping[str, Tensor], memory: Any) -> str:
    """What a state dict of another memory was trained with; empty of the same, or of none.

    Args:
        state: in our names.
        memory: the model's `ClassMemory`, or None.
    """
    theirs, ours = state.get("masks.memory.memory"), getattr(memory, "memory", None)
    if theirs is None:
        return ""
    if ours is None:
        return "It was trained with a class memory: say model.memory.variant=paper (or released)."
    if theirs.shape != ours.shape:
        words = ("classes", "levels", "length", "memory_dim", "grid")
        said = " ".join(f"model.memory.{w}={n}" for w, n in zip(words, theirs.shape, strict=False))
        return f"Its class memory is of another size: say {said}."
    return ""


def _spaced(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).strip().lower()


def _plain(name: str) -> str:
    return _spaced(name).replace(" ", "")
