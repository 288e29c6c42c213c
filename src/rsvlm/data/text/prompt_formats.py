"""Prompt formats as data: how each system writes a dialogue (data/prompts/formats.json)."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

from rsvlm.data.sample import Sample, SampleError, Turn
from rsvlm.errors import UserError, near

Dialogue = list[Turn]

#: The word in an answer for "here a mask": one for each of the turn's instances, in order.
SEG = "[SEG]"

#: In `Turn.instance_ids`: an object that the text speaks of and a transform has cut away.
LOST = -1


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a written dialogue.

    Attributes:
        kind: text, the place of an image, or a mark of the tokenizer.
        text: of a text.
        image: position in the sample's images, of a place.
        supervised: whether the loss looks at it.
    """

    kind: Literal["text", "image", "bos", "eos"]
    text: str = ""
    image: int = -1
    supervised: bool = False


@dataclass(frozen=True, slots=True)
class Format:
    """How a system writes a dialogue. Templates hold {bos} {eos} {system} {images} {text}.

    Attributes:
        name: its word.
        user: the first question, where there is no system text.
        first: the first question with a system text.
        next: a later question.
        answer: an answer that the loss looks at or that closes a turn.
        past: an answer of the history, where it is written in another way.
        bare: an answer behind an empty question, likewise; without it, a question must be asked.
        image: one image; {image} is its place. Without it, images go before the text as a prefix.
        numbered: one of several images, with {k} from 1.
        system: the system text, unless a dialogue brings its own.
        tokenise: `whole` takes the text between two marks or images in one go, `parts` question and
            answer apart.
        supervise: the loss looks at `all` answers or the `last`.
        instruction: what a Q-Former reads: the last `question` or the whole `prompt`.
        scope: whether texts are cleaned and counted in words by `turn` or as a whole `prompt`.
        cut: the side on which the published code cuts a prompt's tokens.
        source: where it comes from.
    """

    name: str
    user: str
    first: str
    next: str
    answer: str
    past: str = ""
    bare: str = ""
    image: str = "{image}\n"
    numbered: str = ""
    system: str = ""
    tokenise: Literal["whole", "parts"] = "whole"
    supervise: Literal["all", "last"] = "all"
    instruction: Literal["question", "prompt"] = "question"
    scope: Literal["turn", "prompt"] = "turn"
    cut: Literal["left", "right"] = "right"
    source: str = ""

    def write(
        self,
        pairs: Sequence[tuple[Turn, str | None]],
        system: str | None = None,
        *,
        inline: bool = True,
    ) -> list[Piece]:
        """Writes questions and answers.

        Args:
            pairs: question and answer, the last answer None to let a model write it.
            system: instead of the format's own; "" leaves it out.
            inline: images have their place in the text; otherwise they come before all of it.
        """
        system = self.system if system is None else system
        pieces: list[Piece] = []
        for i, (asked, answer) in enumerate(pairs):
            last = i == len(pairs) - 1
            template = self.next if i else (self.first if system else self.user)
            self._fill(pieces, template, asked.text, asked.image_ids if inline else (), system)
            if answer is None:
                continue
            template = self.past if self.past and not last else self.answer
            if self.bare and last and not asked.text:
                template = self.bare
            loss = last or self.supervise == "all"
            self._fill(pieces, template, answer, (), "", supervised=loss)
        return pieces

    def _fill(
        self,
        pieces: list[Piece],
        template: str,
        text: str,
        images: Sequence[int],
        system: str,
        supervised: bool = False,
    ) -> None:
        for part in re.split(r"(\{(?:bos|eos|system|images|text)\})", template):
            if part == "{bos}":
                pieces.append(Piece("bos", supervised=supervised))
            elif part == "{eos}":
                pieces.append(Piece("eos", supervised=supervised))
            elif part == "{images}":
                self._images(pieces, images)
            elif part:
                filled = {"{text}": text, "{system}": system}.get(part, part)
                pieces.append(Piece("text", filled, supervised=supervised))

    def _images(self, pieces: list[Piece], images: Sequence[int]) -> None:
        form = self.numbered if self.numbered and len(images) > 1 else self.image
        if "{image}" not in form:
            return
        before, after = form.split("{image}")
        for k, image in enumerate(images, 1):
            pieces.append(Piece("text", before.replace("{k}", str(k))))
            pieces.append(Piece("image", image=image))
            pieces.append(Piece("text", after.replace("{k}", str(k))))


@cache
def formats() -> dict[str, Format]:
    """All formats by name."""
    text = files("rsvlm.data").joinpath("prompts/formats.json").read_text(encoding="utf-8")
    return {name: Format(name=name, **row) for name, row in json.loads(text).items()}


def prompt_format(name: str) -> Format:
    """The format of this name.

    Raises:
        UserError: there is none.
    """
    if name not in formats():
        raise UserError(f"there is no prompt format {name!r}. {near(name, formats())}")
    return formats()[name]


def dialogues(sample: Sample) -> list[Dialogue]:
    """A sample's turns, parted where a question shows an image that was shown already.

    Data sets put several questions on one image side by side: each shows the image again. Later
    questions of one dialogue do not. Answers before the first question are left out, as LLaVA
    leaves them out.
    """
    out: list[Dialogue] = []
    shown: set[int] = set()
    for turn in sample.turns:
        if turn.role == "user" and (not out or shown & set(turn.image_ids)):
            waiting = bool(out) and all(t.role == "system" for t in out[-1])
            if not waiting:
                out.append([])
            shown = set()
        if turn.role == "system" and (not out or out[-1][-1].role == "assistant"):
            out.append([])
            shown = set()
        if not out:
            continue
        shown |= set(turn.image_ids)
        out[-1].append(turn)
    return out


def paired(dialogue: Dialogue, who: str) -> tuple[str | None, list[tuple[Turn, Turn | None]]]:
    """System text and (question, answer) pairs of a dialogue; only the last answer may be missing.

    Raises:
        SampleError: roles do not take turns, or there is no question.
    """
    system = "\n".join(t.text for t in dialogue if t.role == "system") or None
    pairs: list[tuple[Turn, Turn | None]] = []
    for turn in dialogue:
        if turn.role == "user":
            if pairs and pairs[-1][1] is None:
                raise SampleError(f"{who}: two questions follow each other: {turn.text[:60]!r}.")
            pairs.append((turn, None))
        elif turn.role == "assistant":
            if not pairs or pairs[-1][1] is not None:
                raise SampleError(f"{who}: an answer without its question: {turn.text[:60]!r}.")
            pairs[-1] = (pairs[-1][0], turn)
    if not pairs:
        raise SampleError(f"{who}: a dialogue without a question.")
    return system, pairs
