"""Word vocabularies of change captioners: frequent words, four marks, and their published order."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from rsvlm.data.text_files import parse_json
from rsvlm.errors import UserError, near

#: Marks of each published manner: padding, unknown, start, end.
MARKS: dict[str, tuple[str, str, str, str]] = {
    "rsicc": ("<pad>", "<unk>", "<start>", "<end>"),
    "chg2cap": ("<NULL>", "<UNK>", "<START>", "<END>"),
}

#: A word must occur more often than this: RSICCformer and Chg2Cap on LEVIR-CC, MModalCC on
#: SECOND-CC.
THRESHOLDS: dict[str, int] = {"levir_cc": 5, "second_cc": 10, "dubai_cc": 0}


def words(text: str) -> list[str]:
    """The words of a caption: lower case, without punctuation; hyphens and apostrophes stay."""
    return re.sub(r'[.,!?;:"()\[\]]', " ", text.lower()).split()


class Vocabulary:
    """Words and their ids.

    `rsicc` (RSICCformer, MModalCC): padding 0, words from 1, then unknown, start, end. `chg2cap`:
    padding 0, unknown 1, start 2, end 3, then the words.

    Args:
        ids: word or mark → id, without gaps.

    Attributes:
        pad, unk, start, end: ids of the marks.

    Raises:
        UserError: marks are missing, or ids have gaps or repeat.
    """

    def __init__(self, ids: dict[str, int]) -> None:
        self.ids = dict(ids)
        marks = next((m for m in MARKS.values() if all(mark in ids for mark in m)), None)
        if marks is None:
            raise UserError(
                "this vocabulary has no marks for padding, unknown, start and end: it must hold "
                + " or ".join(", ".join(m) for m in MARKS.values())
                + "."
            )
        if sorted(ids.values()) != list(range(len(ids))):
            raise UserError(
                f"the ids of a vocabulary of {len(ids)} words must be 0 to {len(ids) - 1}, each "
                "once."
            )
        self.pad, self.unk, self.start, self.end = (ids[mark] for mark in marks)
        self.marks = frozenset((self.pad, self.unk, self.start, self.end))
        self.words = [word for word, _ in sorted(ids.items(), key=lambda pair: pair[1])]

    @classmethod
    def build(
        cls,
        captions: Iterable[str],
        *,
        more_than: int = 5,
        manner: Literal["rsicc", "chg2cap"] = "rsicc",
    ) -> Vocabulary:
        """The vocabulary of captions.

        The published scripts count the words of all splits; whoever wants a clean split gives the
        training captions alone.

        Args:
            captions: texts.
            more_than: words that occur so often or less become unknown (see `THRESHOLDS`).
            manner: which marks and order: words by first use (`rsicc`), or by alphabet (`chg2cap`).

        Raises:
            UserError: an unknown manner, or no word is frequent enough.
        """
        if manner not in MARKS:
            raise UserError(f"manner={manner!r} is not known. {near(manner, MARKS)}")
        counts = Counter(word for caption in captions for word in words(caption))
        kept = [word for word, count in counts.items() if count > more_than]
        if not kept:
            raise UserError(
                f"no word occurs more than {more_than} times in these captions; choose a smaller "
                "more_than."
            )
        pad, unk, start, end = MARKS[manner]
        order = (
            [pad, *kept, unk, start, end]
            if manner == "rsicc"
            else [pad, unk, start, end, *sorted(kept)]
        )
        return cls({word: i for i, word in enumerate(order)})

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Reads a published word map (`WORDMAP_*.json`, `vocab.json`) or one of `write`.

        Raises:
            UserError: there is no such file, it is not JSON, or it is no word map.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"there is no vocabulary {path}.")
        try:
            ids = parse_json(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: {error.msg}.") from error
        if not isinstance(ids, dict) or not all(type(i) is int for i in ids.values()):
            raise UserError(f'{path} is no word map: it must be {{"word": id, ...}}.')
        return cls(ids)

    def write(self, path: str | Path) -> None:
        """Writes the word map as JSON."""
        Path(path).write_text(self.dumps(), encoding="utf-8")

    def dumps(self) -> str:
        """The word map as JSON."""
        return json.dumps(self.ids, ensure_ascii=False, indent=0)

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, text: str, max_words: int = 50) -> tuple[list[int], int, int]:
        """Ids of a caption between start and end.

        Args:
            text: the caption.
            max_words: longer captions lose their end.

        Returns:
            Ids, how many words were cut, how many of the rest are unknown.
        """
        said = words(text)
        inner = [self.ids.get(word, self.unk) for word in said[:max_words]]
        cut = max(0, len(said) - max_words)
        return [self.start, *inner, self.end], cut, inner.count(self.unk)

    def decode(self, ids: Sequence[int]) -> str:
        """The words of ids up to the first end mark, other marks left out but unknown."""
        out: list[str] = []
        for i in ids:
            if i == self.end:
                break
            if i not in self.marks or i == self.unk:
                out.append(self.words[i])
        return " ".join(out)


def read_words(path: str | Path, *, more_than: int = 0, manner: str = "rsicc") -> Vocabulary:
    """The vocabulary of a file, for configurations.

    Args:
        path: a word map. The word `data` stands for the captions of the training split; a run
            replaces it by the file that it made of them (`app/vocabulary.py`).
        more_than: for `data`: words that occur so often or less become unknown.
        manner: for `data`: marks and order, `rsicc` or `chg2cap`.

    Raises:
        UserError: no such file, or `data` outside of a run.
    """
    del more_than, manner
    if str(path) == "data":
        raise UserError(
            "model.words.path=data takes the words of a training run's captions; here give the "
            "word map, model.words.path=<file>."
        )
    return Vocabulary.read(path)
