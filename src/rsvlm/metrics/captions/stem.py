"""Porter's stemmer with NLTK's extensions, which `rouge_score` and NLTK's METEOR use."""

from __future__ import annotations

import re
from functools import lru_cache


def _table(text: str) -> dict[str, str]:
    """`"bli ble, ful"` -> `{"bli": "ble", "ful": ""}`."""
    pairs = (pair.partition(" ") for pair in text.split(", "))
    return {suffix: new for suffix, _, new in pairs}


_IRREGULAR = _table(
    "skies sky, sky sky, dying die, lying lie, tying tie, innings inning, outings outing, "
    "cannings canning, news news, inning inning, outing outing, canning canning, howe howe, "
    "proceed proceed, exceed exceed, succeed succeed"
)

# Suffix and replacement; the first that ends the word is the only one tried.
_STEP_2 = _table(
    "ational ate, tional tion, enci ence, anci ance, izer ize, bli ble, alli al, entli ent, eli e, "
    "ousli ous, ization ize, ation ate, ator ate, alism al, iveness ive, fulness ful, ousness ous, "
    "aliti al, iviti ive, biliti ble, fulli ful, logi log"
)
_STEP_3 = _table("icate ic, ative, alize al, iciti ic, ical ic, ful, ness")
_STEP_4 = _table(
    "al, ance, ence, er, ic, able, ible, ant, ement, ment, ent, ion, ou, ism, ate, iti, ous, ive, "
    "ize"
)


def _shape(word: str) -> str:
    """`c` for each consonant and `v` for each vowel; y is a vowel behind a consonant."""
    shape = ""
    for letter in word:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(word: str) -> int:
    return _shape(word).count("vc")


def _short(word: str) -> bool:
    """Ends like `hop`: consonant, vowel, consonant but w, x, y; or is like `at`."""
    shape = _shape(word)
    return shape == "vc" or (shape.endswith("cvc") and word[-1] not in "wxy")


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """The stem of a lower-case word (Porter, 1980; NLTK's default mode).

    Args:
        word: letters and digits.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 2:
        return word
    word = _past(_plural(word))
    if word.endswith("y") and len(word) > 2 and _shape(word[:-1]).endswith("c"):
        word = word[:-1] + "i"
    word = _step_2(word)
    word = _swap(word, _STEP_3)
    word = _step_4(word)
    if word.endswith("e"):
        left = word[:-1]
        if _measure(left) > 1 or (_measure(left) == 1 and not _short(left)):
            word = left
    if word.endswith("ll") and _measure(word[:-1]) > 1:
        word = word[:-1]
    return word


def _plural(word: str) -> str:
    if word.endswith("ies") and len(word) == 4:
        return word[:-1]
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if re.search("[^s]s$", word) or word == "s" else word


def _past(word: str) -> str:
    if word.endswith("ied"):
        return word[:-1] if len(word) == 4 else word[:-2]
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for suffix in ("ed", "ing"):
        left = word.removesuffix(suffix)
        if left != word and "v" in _shape(left):
            break
    else:
        return word
    if left.endswith(("at", "bl", "iz")):
        return left + "e"
    if left[-2:-1] == left[-1] and _shape(left).endswith("c"):
        return left if left[-1] in "lsz" else left[:-1]
    return left + "e" if _measure(left) == 1 and _short(left) else left


def _swap(word: str, suffixes: dict[str, str]) -> str:
    for suffix, new in suffixes.items():
        if word.endswith(suffix):
            left = word.removesuffix(suffix)
            return left + new if _measure(left) else word
    return word


def _step_2(word: str) -> str:
    if word.endswith("alli") and _measure(word[:-4]):
        return _step_2(word[:-2])
    if word.endswith("logi") and not any(
        word.endswith(suffix) for suffix in _STEP_2 if suffix != "logi"
    ):
        return word[:-1] if _measure(word[:-3]) else word
    return _swap(word, _STEP_2)


def _step_4(word: str) -> str:
    for suffix in _STEP_4:
        if word.endswith(suffix):
            left = word.removesuffix(suffix)
            fits = _measure(left) > 1 and (suffix != "ion" or left[-1] in "st")
            return left if fits else word
    return word
