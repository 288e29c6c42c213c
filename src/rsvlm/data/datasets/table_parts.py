"""Releases of several tables, each with its own folder of images: a row a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.pairs import PairsTable
from rsvlm.errors import UserError, near


@dataclass(frozen=True, slots=True)
class Part:
    """One table of a release.

    Attributes:
        table: its path below the root.
        images: folders that may hold its images, in the order in which they are looked at.
        name: word for metric names, where it is a data set of its own.
        count: images, as published; 0 where that is not.
    """

    table: str
    images: tuple[str, ...]
    name: str = ""
    count: int = 0


class TableParts(PairsTable):
    """A release of several tables. A split is a part, or several joined with `+`.

    Args:
        root: folder of the release.
        split: see above; by default the first.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: an unknown part, or see `PairsTable`.
    """

    parts: ClassVar[dict[str, Part]] = {}
    #: Splits that stand for several parts.
    aliases: ClassVar[dict[str, Sequence[str]]] = {}

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        *,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        split = split or next(iter({**self.aliases, **self.parts}))
        chosen: list[Part] = []
        for word in split.split("+"):
            for name in self.aliases.get(word, (word,)):
                if name not in self.parts:
                    known = [*self.aliases, *self.parts]
                    raise UserError(
                        f"{self.title} has no split {name!r}; it has {', '.join(known)}, and "
                        f"several joined with +. {near(name, known)}"
                    )
                chosen.append(self.parts[name])
        super().__init__(
            root,
            split,
            table=[part.table for part in chosen],
            images=list(dict.fromkeys(folder for part in chosen for folder in part.images)),
            missing=missing,
            name=chosen[0].name if len(chosen) == 1 and chosen[0].name else self.name,
            convert=convert,
        )
