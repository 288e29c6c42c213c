"""One face for tokenizers: ids of a text, where each token starts, and the ids of marks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rsvlm.data.sample import SampleError
from rsvlm.data.text.prompt_formats import Piece
from rsvlm.errors import UserError

IGNORE = -100
"""Label of a token that the loss does not look at."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Ids of a tokenizer's marks; None where it has none."""

    pad: int
    bos: int | None
    eos: int | None
    cls: int | None = None
    sep: int | None = None


class Encoder:
    """A transformers tokenizer, one of `tokenizers`, or anything with `encode(text) -> ids`.

    Args:
        tokenizer: see above.
        pad_id: id for padding; by default the tokenizer's, or its end mark.
        bos_id: id of {bos}; by default the tokenizer's; without one, {bos} writes nothing.
        eos_id: id of {eos}, likewise.

    Raises:
        UserError: no id for padding is known.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        pad_id: int | None = None,
        bos_id: int | None = None,
        eos_id: int | None = None,
    ) -> None:
        self.tokenizer = tokenizer

        def known(word: str, given: int | None = None) -> int | None:
            return given if given is not None else getattr(tokenizer, f"{word}_token_id", None)

        bos, eos = known("bos", bos_id), known("eos", eos_id)
        pad = known("pad", pad_id)
        if pad is None:
            pad = eos
        if pad is None:
            raise UserError(
                "this tokenizer names no id for padding: give pad_id= (and bos_id=, eos_id=)."
            )
        self.marks = Marks(pad, bos, eos, known("cls"), known("sep"))

    def encode(self, text: str) -> tuple[list[int], list[int] | None]:
        """Ids of a text without marks, and the character at which each token starts.

        The second is None where the tokenizer cannot say.
        """
        tokenizer = self.tokenizer
        if getattr(tokenizer, "is_fast", False):
            both = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            return list(both["input_ids"]), [start for start, _ in both["offset_mapping"]]
        if hasattr(tokenizer, "is_fast"):
            return list(tokenizer.encode(text, add_special_tokens=False)), None
        found = tokenizer.encode(text)
        if hasattr(found, "ids"):  # of the library `tokenizers`
            found = tokenizer.encode(text, add_special_tokens=False)
            return list(found.ids), [start for start, _ in found.offsets]
        return list(found), None

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return str(self.tokenizer.decode(list(ids)))


def token_ids(
    pieces: Sequence[Piece],
    encoder: Encoder,
    *,
    whole: bool,
    image_ids: dict[int, list[int]],
    forbidden: int | None = None,
) -> tuple[list[int], list[int]]:
    """Ids and labels of a written dialogue.

    Args:
        pieces: in order.
        encoder: the tokenizer.
        whole: take neighbouring texts in one go, where the tokenizer says at which character a
            token starts; otherwise supervised text apart from the rest.
        image_ids: what stands at the place of each image, by its position in the sample.
        forbidden: the image's own id, which no text may hold.

    Raises:
        SampleError: a text holds the image placeholder.
    """
    ids: list[int] = []
    labels: list[int] = []

    def add(new: Sequence[int], supervised: Sequence[bool]) -> None:
        ids.extend(new)
        labels.extend(i if s else IGNORE for i, s in zip(new, supervised, strict=True))

    for is_text, group in itertools.groupby(pieces, lambda piece: piece.kind == "text"):
        run = list(group)
        if is_text:
            for part in [run] if whole else _apart(run):
                found = _text(part, encoder)
                if forbidden is not None and forbidden in found[0]:
                    raise SampleError(
                        "its text holds the image placeholder itself; Turn.image_ids says where "
                        f"images are: {''.join(p.text for p in part)[:80]!r}."
                    )
                add(*found)
            continue
        for piece in run:
            if piece.kind == "image":
                new = image_ids.get(piece.image, [])
            else:
                mark = encoder.marks.bos if piece.kind == "bos" else encoder.marks.eos
                new = [] if mark is None else [mark]
            add(new, [piece.supervised] * len(new))
    return ids, labels


def _apart(run: Sequence[Piece]) -> list[list[Piece]]:
    return [list(group) for _, group in itertools.groupby(run, lambda piece: piece.supervised)]


def _text(run: Sequence[Piece], encoder: Encoder) -> tuple[list[int], list[bool]]:
    flags = {piece.supervised for piece in run}
    text = "".join(piece.text for piece in run)
    ids, starts = encoder.encode(text) if text else ([], [])
    if len(flags) == 1:
        return ids, [run[0].supervised] * len(ids)
    if starts is None:
        ids, marked = [], []
        for part in _apart(run):
            new, flag = _text(part, encoder)
            ids += new
            marked += flag
        return ids, marked
    ends = list(itertools.accumulate(len(piece.text) for piece in run))
    spans = [(e - len(p.text), e) for p, e in zip(run, ends, strict=True) if p.supervised]
    return ids, [any(a <= start < b for a, b in spans) for start in starts]
