"""Descriptions parted into theme, objects, positions and relations; what a question asks for.

RS-MoE trains an expert for each part, from files that are not published (its repository names
`RSICap_split/themes.json`). Where only captions are given, the rule here parts them. It is ours:

1. A text is cut into sentences; a sentence is never cut.
2. A first sentence that speaks of the image as a whole (image, picture, scene, ...) is theme.
3. Of the others, one that says in which part of the image something lies (in the upper left, at
   the bottom, in the middle) is position; one that places things against each other (next to,
   surrounds, along, between, ...) is relation; one that speaks of the image as a whole or of its
   ground ("in the image" does not) is theme; the rest is objects.
4. Where no sentence of several is theme, the first one is.

So each sentence is in exactly one part, parts keep the order of the text, and a part may be empty.
Where nobody is asked for positions they belong to the relations, and relations to the objects.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The parts, in the order in which a description gives them.
ASPECTS = ("theme", "objects", "positions", "relations")

_WHOLE = re.compile(
    r"\b(images?|pictures?|photos?|photograph|scenes?|view|overall|resolution|background|theme|"
    r"the ground|(?:open|surrounding) land|landscape)\b",
    re.IGNORECASE,
)
_WITHIN = re.compile(
    r"\b(?:in|on|from|within) (?:the|this) (?:image|picture|photo|photograph|scene|view)\b",
    re.IGNORECASE,
)
_SIDE = r"(?:top|bottom|upper|lower|left|right|middle|cent(?:re|er)|central|corner|edge)"
_POSITION = re.compile(
    rf"\b(?:in|at|on|near|from|towards?|to) (?:the |its )?(?:very |far )?{_SIDE}\b", re.IGNORECASE
)
_RELATION = re.compile(
    r"\b(next to|near(?:by)?|beside|besides|close to|right by|adjacent|along(?:side)?|around|"
    r"surround\w*|encircl\w*|ringed|lin(?:e|es|ed) (?:the|a|an|with|both)|lines?|border\w*|between|"
    r"separat\w*|behind|in front of|opposite|parallel\w*|connect\w*|through|across|"
    r"cross(?:es|ing)?|span(?:s|ning)?|over|above|under|beneath|inside|within|contains?|"
    r"enclosed|among|amid|"
    r"on (?:the|a|an|both|either|one)|(?:left|right|north|south|east|west) of|leads?|"
    r"occup(?:y|ies)|follows?|passes|rests?|dock(?:ed|s)? (?:at|in|by)|parked (?:at|in|on|by))\b",
    re.IGNORECASE,
)
_DESCRIBE = re.compile(
    r"\b(descri\w+|caption\w*|summari\w+|contents? of|tell me about|what you (?:notice|see))\b",
    re.IGNORECASE,
)
_ASKS_THEME = re.compile(
    r"\b(theme|kind of (?:place|scene|area)|type of (?:place|scene|area)|which (?:scene|place)|"
    r"what (?:scene|place|is this place|land ?use)|rural|urban|scene type|overall)\b",
    re.IGNORECASE,
)
_ASKS_POSITION = re.compile(r"\b(where|which part|locate|position|location)\b", re.IGNORECASE)
_ASKS_RELATION = re.compile(
    r"\b(next to|near|beside|between|around|surround\w*|along|behind|adjacent|more|fewer|less|"
    r"outnumber|as many|greater|relation\w*|compared?|closest|nearest)\b",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with its end; a number is whole."""
    found = re.split(r"(?<=[.!?;])\s+(?=[^\W\d_]|\d)", text.strip())
    return [sentence.strip() for sentence in found if re.search(r"\w", sentence)]


def split(text: str) -> dict[str, str]:
    """The parts of a description by the rule above; all of `ASPECTS`, empty where there is none."""
    said, kinds = _aspects(text)
    return {
        aspect: " ".join(s for s, kind in zip(said, kinds, strict=True) if kind == aspect)
        for aspect in ASPECTS
    }


def part(text: str, task: str, tasks: Sequence[str]) -> str:
    """What one of several experts has to say of a description.

    Args:
        text: the description.
        task: aspects joined by `+`, as `objects+relations`; `whole` is all of it.
        tasks: those of all experts; an aspect that none of them has goes to the next that has it,
            positions to relations, relations to objects, and anything else to the first.
    """
    if task == "whole":
        return text.strip()
    taken = {aspect for each in tasks for aspect in each.split("+")}
    own = task.split("+")
    said = zip(*_aspects(text), strict=True)
    return " ".join(sentence for sentence, kind in said if heir(kind, taken, tasks) in own)


def heir(aspect: str, taken: set[str], tasks: Sequence[str]) -> str:
    """The aspect that an aspect goes to where only some are taken; see `part`."""
    row = ("positions", "relations", "objects")
    line = row[row.index(aspect) :] if aspect in row else (aspect,)
    return next((each for each in line if each in taken), tasks[0].split("+")[0])


def is_description(instruction: str) -> bool:
    """Whether an instruction asks for a description; one without words does."""
    return not instruction.strip() or bool(_DESCRIBE.search(instruction))


def aspect_of(question: str) -> str:
    """The aspect that a question asks for, by its words."""
    for aspect, words in (
        ("theme", _ASKS_THEME),
        ("positions", _ASKS_POSITION),
        ("relations", _ASKS_RELATION),
    ):
        if words.search(question):
            return aspect
    return "objects"


def _aspects(text: str) -> tuple[list[str], list[str]]:
    """The sentences of a text and the aspect of each."""
    said = sentences(text)
    kinds = [_aspect(sentence, first=i == 0) for i, sentence in enumerate(said)]
    if len(said) > 1 and "theme" not in kinds:
        kinds[0] = "theme"
    return said, kinds


def _aspect(sentence: str, *, first: bool) -> str:
    if first and _WHOLE.search(_POSITION.sub(" ", sentence)):
        return "theme"
    if _POSITION.search(sentence):
        return "positions"
    # What is in the image is not said of the image.
    rest = _WITHIN.sub(" ", sentence)
    if _RELATION.search(rest):
        return "relations"
    return "theme" if _WHOLE.search(rest) else "objects"
