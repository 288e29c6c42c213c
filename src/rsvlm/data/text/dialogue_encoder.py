"""Writes one dialogue as ids and labels, within the window that a model has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rsvlm.data.sample import SampleError, Turn
from rsvlm.data.text.prompt_formats import Format, Piece
from rsvlm.data.text.tokenization import IGNORE, Encoder, token_ids

Pairs = Sequence[tuple[Turn, Turn | None]]


@dataclass(slots=True)
class Written:
    """One dialogue in ids.

    Attributes:
        pairs: what is left of its questions and answers.
        prompt: ids up to the last answer.
        prompt_labels: labels of these; earlier answers may count.
        answer: ids of the last answer; empty where a model is to write it.
        text: the prompt in words.
        truncated: history or words were cut.
    """

    pairs: Pairs
    prompt: list[int]
    prompt_labels: list[int]
    answer: list[int]
    text: str
    truncated: bool = False


def blip_text(text: str) -> str:
    """LAVIS' cleaning of questions and captions: lower case, `. ! " ( ) * # : ; ~` to spaces."""
    return re.sub(r"\s{2,}", " ", re.sub(r'[.!"()*#:;~]', " ", text.lower())).strip()


#: What stands in the prompt's text where it has marks.
_GAPS = {"bos": "", "eos": " ", "image": ""}


class Writer:
    """Writes dialogues in one format.

    Args:
        encoder: the language model's tokenizer.
        format: how the system writes.
        clean: `none`, or `blip` for LAVIS' cleaning.
        truncation: `question` cuts history first and never the question; `published` cuts as the
            published code does.
        image_token_id: what stands at an image's place; None for images as a prefix.
        max_length: longest row in tokens.
        max_prompt: longest prompt in tokens.
        max_answer: longest answer in tokens.
        max_words: longest prompt (or turn, as the format says) in words.
    """

    def __init__(
        self,
        encoder: Encoder,
        format: Format,
        *,
        clean: Literal["none", "blip"] = "none",
        truncation: Literal["question", "published"] = "question",
        image_token_id: int | None = None,
        max_length: int | None = None,
        max_prompt: int | None = None,
        max_answer: int | None = None,
        max_words: int | None = None,
    ) -> None:
        self.encoder, self.format = encoder, format
        self.clean: Callable[[str], str] = blip_text if clean == "blip" else str
        self.published = truncation == "published"
        self.image_token_id = image_token_id
        self.max_length, self.max_prompt = max_length, max_prompt
        self.max_answer, self.max_words = max_answer, max_words

    def write(
        self, pairs: Pairs, images: Mapping[int, int], *, system: str | None, open_end: bool
    ) -> Written:
        """One dialogue within the window.

        Args:
            pairs: questions and answers.
            images: position of an image → how many ids stand at its place.
            system: instead of the format's system text.
            open_end: leave the last answer to the model.

        Raises:
            SampleError: the question alone is too long, or a text holds the image placeholder.
        """
        if self.published:
            return self._cut(self._whole(pairs, images, system, open_end))
        dropped = False
        while True:
            out = self._whole(pairs, images, system, open_end)
            if len(pairs) == 1 or not self._over(out, len(out.answer)):
                break
            pairs, dropped = without_first(pairs), True
        # One place is enough for an answer that may be cut.
        if self._over(out, min(1, len(out.answer))):
            limits = ("max_words", "max_prompt", "max_length")
            window = [f"{word}={n}" for word in limits if (n := getattr(self, word)) is not None]
            raise SampleError(
                f"the question alone has {len(out.text.split())} words, and {len(out.prompt)} "
                f"tokens with its images; the window is {', '.join(window)}."
            )
        out.truncated |= dropped
        room = None if self.max_length is None else self.max_length - len(out.prompt)
        return _shorter(out, [n for n in (room, self.max_answer) if n is not None])

    def _over(self, out: Written, answer: int) -> bool:
        words = len(out.text.split()) if self.format.scope == "prompt" else 0
        return (
            (self.max_words is not None and words > self.max_words)
            or (self.max_prompt is not None and len(out.prompt) > self.max_prompt)
            or (self.max_length is not None and len(out.prompt) + answer > self.max_length)
        )

    def _cut(self, out: Written) -> Written:
        if self.max_prompt is not None and len(out.prompt) > self.max_prompt:
            left = self.format.cut == "left"
            keep = slice(-self.max_prompt, None) if left else slice(self.max_prompt)
            out.prompt, out.prompt_labels = out.prompt[keep], out.prompt_labels[keep]
            out.truncated = True
        limits = [] if self.max_answer is None else [self.max_answer]
        if self.max_length is not None:
            if len(out.prompt) > self.max_length:
                out.prompt = out.prompt[: self.max_length]
                out.prompt_labels = out.prompt_labels[: self.max_length]
                out.truncated = True
            limits.append(self.max_length - len(out.prompt))
        return _shorter(out, limits)

    def _whole(
        self, pairs: Pairs, images: Mapping[int, int], system: str | None, open_end: bool
    ) -> Written:
        """All of it, but for words that the published form cuts."""
        cut = False
        if self.format.scope == "turn":
            pairs, cut = self._turns(pairs)
        said = [(asked, None if answer is None else answer.text) for asked, answer in pairs]
        if open_end:
            said[-1] = (said[-1][0], None)
        mark = self.image_token_id
        pieces = self.format.write(said, system, inline=mark is not None)
        asked = _asked(pieces)
        text = "".join(p.text if p.kind == "text" else _GAPS[p.kind] for p in asked)
        text = re.sub(r"\s+", " ", text).strip()
        if self.format.scope == "prompt":
            whole = self.clean("".join(p.text for p in asked).strip())
            text, cut = self._words(whole)
            answer, shorter = self._words(self.clean(said[-1][1] or ""))
            cut |= shorter and not open_end
            marks = [p for p in pieces if p.kind == "bos"][:1]
            closing = [
                replace(p, text=answer) if p.kind == "text" else p for p in pieces if p.supervised
            ]
            pieces = [*marks, Piece("text", text), *closing]
        ids, labels = token_ids(
            pieces,
            self.encoder,
            whole=self.format.tokenise == "whole",
            image_ids={i: [] if mark is None else [mark] * n for i, n in images.items()},
            forbidden=mark,
        )
        end = len(ids)
        if said[-1][1] is not None:
            end = next((k for k in range(len(ids), 0, -1) if labels[k - 1] == IGNORE), 0)
        if open_end:
            labels = [IGNORE] * len(ids)
        return Written(pairs, ids[:end], labels[:end], ids[end:], text, cut)

    def _turns(self, pairs: Pairs) -> tuple[Pairs, bool]:
        cut = False
        out: list[tuple[Turn, Turn | None]] = []
        for pair in pairs:
            new: list[Turn | None] = []
            for turn in pair:
                text, shorter = self._words(self.clean(turn.text)) if turn else ("", False)
                cut |= shorter
                new.append(turn and replace(turn, text=text))
            assert new[0] is not None
            out.append((new[0], new[1]))
        return out, cut

    def _words(self, text: str) -> tuple[str, bool]:
        """The first words, where the published form cuts them."""
        words = text.split()
        if not self.published or self.max_words is None or len(words) <= self.max_words:
            return text, False
        return " ".join(words[: self.max_words]), True


def without_first(pairs: Pairs) -> Pairs:
    """A dialogue without its first question and answer; images move to the question behind."""
    (gone, _), (asked, answer), *rest = pairs
    moved = replace(asked, image_ids=(*gone.image_ids, *asked.image_ids))
    return [(moved, answer), *rest]


def _asked(pieces: Sequence[Piece]) -> list[Piece]:
    # Up to the last answer, earlier answers included.
    last = max((i for i, p in enumerate(pieces) if not p.supervised), default=-1)
    return list(pieces[: last + 1])


def _shorter(out: Written, limits: Sequence[int]) -> Written:
    if limits and len(out.answer) > min(limits):
        out.answer, out.truncated = out.answer[: max(0, min(limits))], True
    return out
