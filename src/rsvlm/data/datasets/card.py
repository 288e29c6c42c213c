"""A data set that is nothing but facts over a reader, and the class that is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rsvlm.data.datasets.base import FileDataset


@dataclass(frozen=True, slots=True)
class Card:
    """A data set as facts.

    Attributes:
        cls: name of its class.
        reader: what knows its format; the class's base.
        name: its word in metric names.
        title: its name in messages.
        doc: what is to be known about it, for the class's docstring.
        layout: the files below `root`, one a line.
        licence: terms of images and annotations.
        paper: where it was published.
        homepage: where it can be had.
        counts: split → samples, as published.
        words: further class attributes that the reader has, as names of files and folders.
        module: where the class can be found again, for pickles.
    """

    cls: str
    reader: type[FileDataset]
    name: str
    title: str
    doc: str
    layout: tuple[str, ...]
    licence: str
    paper: str
    homepage: str
    counts: Mapping[str, int] = field(default_factory=dict)
    words: Mapping[str, Any] = field(default_factory=dict)
    module: str = "rsvlm.data.datasets.cards"

    def build(self) -> Any:
        """The class.

        Raises:
            AttributeError: the reader has no such word.
        """
        for word in self.words:
            getattr(self.reader, word)
        facts = {
            "name": self.name,
            "title": self.title,
            "layout": "\n".join(["  {root}/", *(f"    {line}" for line in self.layout)]),
            "licence": self.licence,
            "paper": self.paper,
            "homepage": self.homepage,
            "published_counts": dict(self.counts),
            **self.words,
            "__doc__": f"{self.doc}\n\nArguments and errors: see `{self.reader.__name__}`.",
            "__module__": self.module,
            "__qualname__": self.cls,
        }
        return type(self.cls, (self.reader,), facts)
