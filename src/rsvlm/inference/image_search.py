"""Pictures found by a model that writes: for a text, behind a picture, in a dialogue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from rsvlm.data.folders import printable
from rsvlm.data.images import read_any
from rsvlm.data.item import TransformedSample
from rsvlm.data.loading.transformed import TransformedDataset
from rsvlm.data.sample import Answer, Picture, Sample, Turn
from rsvlm.errors import UserError
from rsvlm.retrieval.gallery import Gallery


@dataclass
class Talk:
    """A dialogue that alternates pictures and text.

    Attributes:
        model: a `models.protocols.Retriever`.
        gallery: where it looks; None only writes.
        root: the folder of the gallery's names; None leaves found pictures out of what is shown.
        pictures: all that were shown.
        turns: what was said.
        found: the last picture found, which the next question shows.
        seen: names that were found already and do not come again.
    """

    model: Any
    gallery: Gallery | None = None
    root: Path | None = None
    pictures: list[Picture] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    found: list[Picture] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)

    def ask(self, text: str, pictures: Sequence[Picture] = (), **options: Any) -> Answer:
        """The next question, with what was said and shown before it.

        The best picture found stands before the next question, as in training each picture stands
        before its caption.

        Args:
            text: the question; empty asks for a caption.
            pictures: shown with it.
            **options: of `model.generate`, such as `query`.

        Raises:
            UserError: nothing is asked and nothing shown, or more than the model's window holds.
        """
        if not text.strip() and not pictures:
            raise UserError('there is nothing to look for: give prompt="two runways", or image=.')
        new = [*self.found, *pictures]
        shown = [*self.pictures, *new]
        asked = Turn("user", text.strip(), tuple(range(len(self.pictures), len(shown))))
        answer = self._answer([*self.turns, asked], shown, **options)
        self.pictures, self.found = shown, []
        self.turns += [asked, Turn("assistant", answer.text)]
        if answer.retrieved and self.root is not None:
            best = answer.retrieved[0][0]
            self.seen.append(best)
            self.found = [read_any(self.root / best)[0]]  # the gallery has told what it made RGB
        return answer

    def _answer(self, turns: list[Turn], pictures: list[Picture], **options: Any) -> Answer:
        layout: Any = "single" if len(pictures) == 1 else "interleaved"
        sample = Sample(pictures, layout, turns=turns, meta={"id": "the question"})
        view = TransformedDataset([sample], self.model.preprocess, training=False, caption="all")
        item = view[(0, 0)]
        if not isinstance(item, TransformedSample):
            raise UserError(item.reason)
        batch = self.model.collate(training=False, kinds="all")([item])
        if not len(batch):
            raise UserError(f"the question cannot be asked: {'; '.join(batch.skipped)}")
        batch = batch.to(next(self.model.parameters()).device)
        if self.gallery is None:
            return self.model.generate(batch, **options)[0]
        return self.model.generate(batch, gallery=self.gallery, seen=[self.seen], **options)[0]


def find(
    model: Any,
    gallery: Gallery | str | Path,
    text: str,
    pictures: Sequence[Picture] = (),
    **options: Any,
) -> Answer:
    """Pictures of a gallery for a text, or for a text behind pictures.

    Args:
        model: a `models.protocols.Retriever`.
        gallery: a gallery, or what `Gallery.of` takes.
        text: what to look for.
        pictures: what is shown before it.
        **options: of `model.generate`, such as `query` and `found`.

    Returns:
        `retrieved`: (path within the folder, cosine), best first; `sources`: why other pictures of
        the folder could not be read.

    Raises:
        UserError: nothing to look for, or no such gallery.
    """
    with torch.no_grad():
        found = gallery if isinstance(gallery, Gallery) else Gallery.of(model, gallery)
        answer = Talk(model, found).ask(text, pictures, **options)
    answer.sources = found.broken
    return answer


def dialogue(model: Any, source: str | Path, pictures: Sequence[Picture] = ()) -> Answer | None:
    """Questions from standard input, one a line; each finds a picture that joins the dialogue."""
    found = Gallery.of(model, source)
    # An index may have come without its pictures; then what is found is named and not shown.
    talk = Talk(model, found, found.root if found.root and found.root.is_dir() else None)
    print("Ask for a picture; an empty line ends.")
    answer = None
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            text = ""
        if not text:
            return answer
        answer = talk.ask(text, () if talk.turns else pictures)
        for name, score in answer.retrieved[:3]:
            print(f"{score:8.4f}  {printable(name)}")
