"""WordNet's synonyms, read from its own files, as NLTK's METEOR asks for them.

NLTK downloads WordNet into a folder of its own; Debian's package `wordnet-base`, and WordNet's own
release, hold the same files without the one that NLTK's reader begins with.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from rsvlm.errors import UserError

#: Where Debian and WordNet's own release put its files.
FOLDERS = ("/usr/share/wordnet", "/usr/local/WordNet-3.0/dict")
#: WordNet's own name for another place.
VARIABLE = "WNSEARCHDIR"

#: Part of speech -> the endings that a form may lose, and what takes their place.
_ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "noun": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"),
        ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ),
    "verb": (
        ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"),
        ("ing", ""),
    ),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}  # fmt: skip


def folder() -> Path | None:
    """Where WordNet's files are; None where they are nowhere.

    Raises:
        UserError: the variable names a folder without them.
    """
    named = os.environ.get(VARIABLE)
    if named:
        if not _whole(Path(named)):
            raise UserError(f"{VARIABLE}={named}: there are no index.noun, data.noun, ... in it.")
        return Path(named)
    return next((Path(name) for name in FOLDERS if _whole(Path(name))), None)


def _whole(path: Path) -> bool:
    return all((path / f"{kind}.{pos}").is_file() for pos in _ENDINGS for kind in ("index", "data"))


class Lemma:
    """A word of a synset."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        """As written, blanks as underscores."""
        return self._name


class Synset:
    """Words of one meaning."""

    def __init__(self, names: list[str]) -> None:
        self._lemmas = [Lemma(name) for name in names]

    def lemmas(self) -> list[Lemma]:
        """Its words."""
        return self._lemmas


class WordNet:
    """Synsets of words, forms reduced as NLTK 3.10's reader reduces them.

    Args:
        path: folder of `index.noun`, `data.noun`, `noun.exc` and so on.
    """

    def __init__(self, path: Path) -> None:
        self._index: dict[str, dict[str, tuple[int, ...]]] = {}
        self._exceptions: dict[str, dict[str, list[str]]] = {}
        self._data: dict[str, bytes] = {}
        self.path = path
        for pos in _ENDINGS:
            with (path / f"index.{pos}").open(encoding="utf-8") as file:
                index = self._index[pos] = {}
                for line in file:
                    if not line.startswith(" "):  # the licence
                        fields = line.split()
                        index[fields[0]] = tuple(map(int, fields[-int(fields[2]) :]))
            held = self._exceptions[pos] = {}
            exceptions = path / f"{pos}.exc"
            for line in exceptions.read_text("utf-8").splitlines() if exceptions.is_file() else ():
                form, *bases = line.split()
                held[form] = bases
            # Offsets count bytes of the release, whose lines end as Unix's; some copies' do not.
            self._data[pos] = (path / f"data.{pos}").read_bytes().replace(b"\r\n", b"\n")
        self.synsets = functools.lru_cache(100_000)(self._synsets)

    def _synsets(self, word: str) -> list[Synset]:
        """Those of a word and of what it may be a form of, in all parts of speech."""
        word = word.lower()
        return [
            self._read(pos, offset)
            for pos in _ENDINGS
            for form in self._forms(word, pos)
            for offset in self._index[pos][form]
        ]

    def _forms(self, word: str, pos: str) -> list[str]:
        bases = self._exceptions[pos].get(word)
        if bases is None:
            ends = ((old, new) for old, new in _ENDINGS[pos] if word.endswith(old))
            bases = [word[: -len(old)] + new for old, new in ends]
        return [form for form in dict.fromkeys([word, *bases]) if form in self._index[pos]]

    def _read(self, pos: str, offset: int) -> Synset:
        held = self._data[pos]
        fields = held[offset : held.find(b"\n", offset)].decode("utf-8").split()
        if not fields or fields[0] != f"{offset:08d}":
            raise UserError(
                f"{self.path}: index.{pos} and data.{pos} do not belong together: install WordNet "
                "anew (apt-get install wordnet-base)."
            )
        count = int(fields[3], 16)
        # An adjective says behind its name where it stands: galore(ip).
        return Synset([name.partition("(")[0] for name in fields[4 : 4 + 2 * count : 2]])


@functools.cache
def read(path: Path) -> WordNet:
    """The files of a folder, kept for the process."""
    return WordNet(path)
