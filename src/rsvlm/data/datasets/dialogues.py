"""What data sets of dialogues share: packed turns, their images, and what was wrong, counted."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from rsvlm.data.columnar import is_reference
from rsvlm.data.datasets.base import Entry, FileDataset, listed
from rsvlm.data.datasets.locate import locate
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.datasets.packed import Strings
from rsvlm.data.sample import Layout, Sample, Turn
from rsvlm.errors import UserError, near


class Faults:
    """Faults by what they are, with the first that have them."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, who: str) -> None:
        """Notes that `who` has the fault `what`, a sentence that follows a number."""
        self._found.setdefault(what, []).append(who)

    def __bool__(self) -> bool:
        return bool(self._found)

    def sentences(self) -> list[str]:
        """One sentence a fault: how many, what, and the first three."""
        return [f"{len(who)} {what}: {listed(who, 3)}." for what, who in self._found.items()]


#: `question`: a sample is a question and its answer, which is what an evaluation needs. `image`: a
#: sample is an image with its questions side by side, in the source's order; each shows the image,
#: so that none sees the answers of the others. An epoch then reads each image once.
Group = Literal["question", "image"]


class DialogueDataset(FileDataset):
    """Images and what is said about them.

    Subclasses call `add` for each sample, or `ask` for each question about an image, then `close`.
    Of questions, `Turn.kind` is the published type, and `meta["image"]` the image's name, by which
    an evaluation can encode it once for all its questions.

    Turns are kept packed, since a list of a million Python objects costs gigabytes in each worker.
    A sample of one image has the layout `single`, one of several `interleaved`.

    Args:
        root: the data set's folder.
        split: the part to read.
        group: see `Group`.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        faults: what `close` tells in `problems`.
    """

    sample_layout: ClassVar[Layout] = "interleaved"

    def __init__(
        self, root: str | Path, split: str, *, group: Group = "question", convert: bool = False
    ) -> None:
        super().__init__(root, split, convert=convert)
        if group not in get_args(Group):
            raise UserError(f"group={group!r} is not known. {near(group, get_args(Group))}")
        self.group = group
        self._grouped: dict[tuple[str, str], list[tuple[str, str | None, str | None]]] = {}
        if group == "image":
            # Published are counts of questions.
            self.published_counts = {}  # type: ignore[misc]
        self.faults = Faults()
        self._rows = _Rows()

    def add(
        self,
        id: str,
        images: Sequence[str],
        turns: Sequence[Turn],
        *,
        place: str = "",
        texts: Sequence[str] = (),
        label: int | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Notes a sample.

        Args:
            id: its name; one that was used before gets its position added, and is told.
            images: its images as the annotations name them, at least one.
            turns: its dialogue; `image_ids` are positions in `images`.
            place: which of the places of `close` holds its images.
            texts: captions.
            label: index of its class.
            meta: what else the source says.
        """
        if not self._rows.append(id, images, turns, place, texts, label, dict(meta or {})):
            self.faults.add("id(s) repeat and got their position added", id)

    def ask(
        self,
        id: str,
        image: str,
        question: str,
        answer: str | None,
        kind: str | None,
        *,
        place: str = "",
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Notes a question.

        Args:
            id: its name within the data set.
            image: its image as the source names it.
            question: its words.
            answer: None where the source withholds it.
            kind: its type, as published.
            place: which of the places of `close` holds the image.
            meta: what else the source says; kept where a sample is a question.
        """
        if self.group == "question":
            turns = asked(question, answer, kind)
            self.add(id, [image], turns, place=place, meta={"image": image, **(meta or {})})
        else:
            self._grouped.setdefault((place, image), []).append((question, answer, kind))

    def close(self, places: Mapping[str, Sequence[Path]], missing: Missing) -> None:
        """Finds the images and fills `entries` and `problems`.

        Args:
            places: the folders in which the images of a place lie, by its word.
            missing: what becomes of samples whose images are not there.

        Raises:
            UserError: images are missing and `missing` is `error`; no sample is left.
        """
        check_missing(missing)
        for (place, image), questions in self._grouped.items():
            turns = [turn for question in questions for turn in asked(*question)]
            id = f"{place}/{image}" if place else image
            self.add(id, [image], turns, place=place, meta={"image": image})
        self._grouped.clear()
        rows = self._rows
        if not len(rows):
            detail = " ".join(self.faults.sentences())
            raise UserError(f"{self.title}, split {self.split!r}: no sample is left. {detail}")
        paths = [""] * len(rows.names)
        lost: list[str] = []
        looked: dict[str, None] = {}
        for place, numbers in rows.by_place().items():
            folders = list(places[place])
            outside = [i for i in numbers if not is_reference(rows.names[i])]
            at = dict(zip(outside, locate(folders, (rows.names[i] for i in outside)), strict=True))
            for number in numbers:
                path = at.get(number, rows.names[number])  # a reference is its own path
                if not path:
                    lost.append(rows.names[number])
                    looked |= dict.fromkeys(map(str, folders))
                    path = str(folders[0] / rows.names[number])
                    rows.lost.add(number)
                paths[number] = path
        problem = report_missing(lost, len(rows.names), listed(looked, 4), missing)
        entries = rows.entries(paths, without_lost=missing == "skip")
        if not len(entries):
            raise self.not_found(f"no image of split {self.split!r} is there.")
        self.entries = entries  # type: ignore[assignment]
        self.problems += self.faults.sentences()
        if problem:
            self.problems.append(problem.replace("captions were kept", "dialogues were kept"))
        self._rows = _Rows()

    def turns(self, index: int) -> list[Turn]:
        """The dialogue of a sample, without reading its images."""
        return self.entries.turns(index)  # type: ignore[attr-defined]

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the dialogue."""
        sample.turns = self.turns(index)
        if len(sample.images) == 1:
            sample.layout = "single"


def asked(question: str, answer: str | None, kind: str | None) -> list[Turn]:
    """A question about the image and its answer, as two turns; as one where there is no answer."""
    turns = [Turn("user", question, (0,), kind=kind)]
    if answer is not None:
        turns.append(Turn("assistant", answer, kind=kind))
    return turns


class _Rows:
    """Samples as they come, packed."""

    def __init__(self) -> None:
        self.names = Strings()
        self.lost: set[int] = set()
        self._known: dict[tuple[str, str], int] = {}
        self._place: list[str] = []
        self._ids: set[str] = set()
        self._facts = Strings()
        self._dialogues = Strings()
        self._images = array("q")
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._facts)

    def append(
        self,
        id: str,
        images: Sequence[str],
        turns: Sequence[Turn],
        place: str,
        texts: Sequence[str],
        label: int | None,
        meta: dict[str, Any],
    ) -> bool:
        """Whether the id was new."""
        new = id not in self._ids
        if not new:
            id = f"{id}#{len(self)}"
        self._ids.add(id)
        for name in images:
            number = self._known.setdefault((place, name), len(self.names))
            if number == len(self.names):
                self.names.append(name)
                self._place.append(place)
            self._images.append(number)
        self._ends.append(len(self._images))
        self._facts.append(json.dumps([id, list(texts), label, meta]))
        self._dialogues.append(
            json.dumps([[t.role, t.text, list(t.image_ids), t.kind] for t in turns])
        )
        return new

    def by_place(self) -> dict[str, list[int]]:
        """The numbers of the images of each place."""
        out: dict[str, list[int]] = {}
        for number, place in enumerate(self._place):
            out.setdefault(place, []).append(number)
        return out

    def entries(self, paths: list[str], *, without_lost: bool) -> _Entries:
        """The samples with the paths of their images."""
        chosen = array("q", range(len(self)))
        if without_lost and self.lost:
            ends, images = self._ends, self._images
            kept = (i for i in chosen if not self.lost.intersection(images[ends[i] : ends[i + 1]]))
            chosen = array("q", kept)
        return _Entries(
            self._facts, self._dialogues, self._images, self._ends, Strings(paths), chosen
        )


class _Entries(Sequence[Entry]):
    """Entries that are put together when they are asked for."""

    def __init__(
        self,
        facts: Strings,
        dialogues: Strings,
        images: array[int],
        ends: array[int],
        paths: Strings,
        chosen: array[int],
    ) -> None:
        self._facts, self._dialogues, self._images = facts, dialogues, images
        self._ends, self._paths, self._chosen = ends, paths, chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._chosen[index]
        id, texts, label, meta = json.loads(self._facts[row])
        numbers = self._images[self._ends[row] : self._ends[row + 1]]
        path, *more = (self._paths[number] for number in numbers)
        return Entry(id=id, path=path, texts=tuple(texts), label=label, meta=meta, more=tuple(more))

    def turns(self, index: int) -> list[Turn]:
        return [
            Turn(role, text, tuple(image_ids), kind=kind)
            for role, text, image_ids, kind in json.loads(self._dialogues[self._chosen[index]])
        ]
