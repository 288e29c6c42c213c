"""What data sets of visual questions share: a sample a question, or a sample an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from rsvlm.data.datasets.dialogues import DialogueDataset
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.sample import Turn
from rsvlm.errors import UserError, near

#: `question`: a sample is a question and its answer, which is what an evaluation needs. `image`: a
#: sample is an image with its questions side by side, in the source's order; each shows the image,
#: so that none sees the answers of the others. An epoch then reads each image once.
Group = Literal["question", "image"]


class Questions(DialogueDataset):
    """Questions about images. Subclasses call `ask` for each, then `close`.

    `Turn.kind` is the published type of question. `meta["image"]` is the image's name, by which an
    evaluation can encode it once for all its questions.

    Args:
        root: the data set's folder.
        split: the part to read.
        group: see `Group`.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: an unknown option.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        *,
        group: Group = "question",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        if group not in get_args(Group):
            raise UserError(f"group={group!r} is not known. {near(group, get_args(Group))}")
        self.group = group
        self._grouped: dict[tuple[str, str], list[tuple[str, str | None, str | None]]] = {}
        if group == "image":
            # Published are counts of questions.
            self.published_counts = {}  # type: ignore[misc]

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
        """Finds the images and fills `entries` and `problems`; see `DialogueDataset.close`."""
        for (place, image), questions in self._grouped.items():
            turns = [
                turn
                for question, answer, kind in questions
                for turn in asked(question, answer, kind)
            ]
            id = f"{place}/{image}" if place else image
            self.add(id, [image], turns, place=place, meta={"image": image})
        self._grouped.clear()
        super().close(places, missing)


def asked(question: str, answer: str | None, kind: str | None) -> list[Turn]:
    """A question about the image and its answer, as two turns; as one where there is no answer."""
    turns = [Turn("user", question, (0,), kind=kind)]
    if answer is not None:
        turns.append(Turn("assistant", answer, kind=kind))
    return turns
