"""What two answers must have in common to be the same, by name."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

_LETTERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NUMBERS = {"none": "0"} | {word: str(n) for n, word in enumerate(_LETTERS)}
_ARTICLES = ("a", "an", "the")
_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"(?<=\d),+(?=\d)")
_FULL_STOP = re.compile(r"\.(?!\d)")
# Words that lose their apostrophe in writing. The second list is only mended where one apostrophe
# is left, because without any the word is another one ("shed", "hell").
_SHORT = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't "
    "haven't how'd how'll how's i'm i've isn't it'd it'd've it'll ma'am might've mightn't "
    "mightn't've must've mustn't needn't not've o'clock oughtn't shan't should've shouldn't "
    "shouldn't've somebody'd somebody'd've somebody'll someone'd someone'd've someone'll "
    "something'd something'd've something'll that's there'd there'd've there're they'd they'd've "
    "they'll they're they've wasn't we've weren't what'll what're what's what've when's where'd "
    "where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't "
    "wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've"
)
_PARTLY = "he'd've i'd've she'd've we'd've"


def _without(word: str, least: int) -> list[str]:
    """Writings of a word with some of its apostrophes left out, at least `least` staying."""
    parts = word.split("'")
    found = []
    for marks in itertools.product(("", "'"), repeat=len(parts) - 1):
        if marks.count("'") >= least:
            joined = itertools.zip_longest(parts, marks, fillvalue="")
            found.append("".join(part for pair in joined for part in pair))
    return found


_CONTRACTIONS = {
    writing: word
    for words, least in ((_SHORT, 0), (_PARTLY, 1))
    for word in words.split(" ")
    for writing in _without(word, least)
}


def exact(answer: str) -> str:
    """Lower case, without spaces around."""
    return answer.strip().lower()


def squeezed(answer: str) -> str:
    """Lower case without any spaces (RSEvalKit, EarthDial)."""
    return "".join(answer.lower().split())


def evalai(answer: str) -> str:
    """VQA's normalisation as the EvalAI server and TextVQA apply it.

    Lower case; possessive 's set apart; punctuation removed beside a space, otherwise a space;
    full stops removed but within numbers; number words to ten in digits ("none" is 0); articles
    dropped; apostrophes of contractions put back.
    """
    text = answer.lower().replace(",", "").replace("?", "").replace("'s", " 's")
    text = " ".join(text.split())
    joined = _DIGIT_COMMA.search(text) is not None
    found = text
    for mark in _MARKS:
        beside = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside or joined else " ")
    words = [NUMBERS.get(word, word) for word in _FULL_STOP.sub("", found).split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


# RSVQA's classes -----------------------------------------------------------------------------

_EDGES = (10, 100, 1000)
_COUNT = re.compile(r"\d+(\.\d+)?")
_AREA = re.compile(r"(\d+(?:\.\d+)?) ?m(?:2|²)")


def bin_of(number: float, unit: str = "") -> str:
    """The class of a number: 0, to 10, to 100, to 1000, more; upper ends included.

    Lobry et al. (TGRS 2020), `VocabEncoder.py` of syvlo/RSVQA.
    """
    if number == 0:
        return f"0{unit}"
    low = 0
    for high in _EDGES:
        if number <= high:
            return f"between {low}{unit} and {high}{unit}"
        low = high
    return f"more than {low}{unit}"


def low_resolution(answer: str) -> str:
    """RSVQA-LR's class of an answer: numbers become bins."""
    text = _plain(answer)
    return bin_of(float(text)) if _COUNT.fullmatch(text) else text


def high_resolution(answer: str) -> str:
    """RSVQA-HR's class of an answer: areas in m2 become bins, counts stay."""
    text = _plain(answer)
    found = _AREA.fullmatch(text)
    return text if found is None else bin_of(float(found.group(1)), "m2")


def _plain(answer: str) -> str:
    """Lower case, single spaces, without a mark at the end."""
    return " ".join(answer.lower().split()).rstrip("?.")


def is_number(answer: str) -> bool:
    """Whether an answer is a number, in digits or as a word to ten."""
    text = _plain(answer)
    return _COUNT.fullmatch(text) is not None or text in _LETTERS


#: Protocol -> the form in which answers are compared; `published` is the data set's own.
NORMALISE: dict[str, Callable[[str], str]] = {
    "exact": exact,
    "evalai": evalai,
    "published": _plain,
    "lhrs": evalai,
    "vhm": squeezed,
}
#: Data set -> its own classes, under `published`.
PUBLISHED: dict[str, Callable[[str], str]] = {
    "rsvqa_lr": low_resolution,
    "rsvqa_hr": high_resolution,
    "rsvqa_hr_phili": high_resolution,
}


def right(answer: str, truth: str, form: Callable[[str], str]) -> bool:
    """Whether an answer is the true one in this form.

    They must be equal; a part of the true answer is not. An answer that says nothing is wrong, and
    a truth of which the form leaves nothing ("the" without articles) is compared as it is.
    """
    if not answer.strip():
        return False
    target = form(truth)
    return form(answer) == target if target else exact(answer) == exact(truth)
