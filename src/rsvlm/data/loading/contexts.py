"""Questions beside what a knowledge base holds on them, some of it of other places.

A model that is tuned on these learns to take an answer from the passages, to say which one it took,
and to leave passages of another place alone. The passages are looked up once
(`rsvlm knowledge contexts`), so that training needs no encoder and is the same on any machine.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsvlm.data.loading.wrappers import WrappedDataset
from rsvlm.data.sample import Sample
from rsvlm.data.text.knowledge_prompts import PROMPTS, cited, harmless, released
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError, near

_WORD = re.compile(r"[^\W_]+")
#: Tries for passages that share no record with a question's own.
_TRIES = 20


class RetrievedContext(WrappedDataset):
    """A data set whose questions are asked with retrieved passages.

    With `cited`, an answer that stands in a passage of the question's own ends with its number, as
    it is asked for; one beside passages of another place stays as it is. A question that has no
    passages is asked alone.

    Args:
        dataset: partial of a data set of dialogues, finished with `split=`.
        split: of the data set.
        contexts: file of `rsvlm knowledge contexts`: `id`, `question` and `passages`, each with
            `record` and `text`.
        wrong: share of the questions that get another question's passages, of other records.
        k: most passages of a question.
        prompt: `cited`, or `released` as published.
        seed: of which questions get wrong passages, and whose; the same in every epoch.

    Raises:
        UserError: a file that is not there or malformed, that knows none of the data set's
            questions, or an option out of range.
    """

    def __init__(
        self,
        dataset: Callable[..., Any],
        split: str = "train",
        *,
        contexts: str | Path,
        wrong: float = 0.3,
        k: int = 3,
        prompt: str = "cited",
        seed: int = 0,
    ) -> None:
        if prompt not in PROMPTS:
            raise UserError(f"data.dataset.prompt={prompt}: {near(prompt, PROMPTS)}")
        if not 0 <= wrong <= 1 or k < 1:
            raise UserError(
                f"data.dataset.wrong={wrong} data.dataset.k={k}: wrong is a share, 0 to 1, and k "
                "at least 1."
            )
        super().__init__(dataset(split=split), "_retrieved")
        self.wrong, self.k, self.seed = wrong, k, seed
        self.write = released if prompt == "released" else cited
        self.cites = prompt == "cited"
        self.held = read_contexts(contexts)
        self.order = sorted(self.held)
        first = next((self.dataset[i] for i in range(min(1, len(self.dataset)))), None)
        if first is not None and not any(id == str(first.meta.get("id")) for id, _ in self.order):
            raise UserError(
                f"{contexts} has no passages for {first.meta.get('id')!r}, the first sample of "
                f"{self.dataset.name}, split {split}: make it of this data set and split, "
                "rsvlm knowledge contexts <base> --data <option> --split <split> --out <file>."
            )

    def __getitem__(self, index: int) -> Sample:
        """The sample with its questions and answers written anew."""
        sample = self.dataset[index]
        turns = list(sample.turns)
        for n, turn in enumerate(turns):
            if turn.role != "user":
                continue
            key = str(sample.meta.get("id")), turn.text
            passages, right = self.passages(key)
            texts = [harmless(str(one["text"])) for one in passages]
            turns[n] = replace(turn, text=self.write(texts, turn.text))
            if self.cites and right and n + 1 < len(turns) and turns[n + 1].role == "assistant":
                answer = turns[n + 1]
                place = stands_in(answer.text, texts)
                if place is not None:
                    turns[n + 1] = replace(answer, text=f"{answer.text} [{place + 1}]")
        return replace(sample, turns=turns)

    def passages(self, key: tuple[str, str]) -> tuple[Sequence[Mapping[str, Any]], bool]:
        """The passages that a question gets, and whether they are its own."""
        own = self.held.get(key, [])[: self.k]
        dice = random.Random(f"{self.seed}/{key[0]}/{key[1]}")
        if not own or dice.random() >= self.wrong:
            return own, True
        known = {one["record"] for one in own}
        for _ in range(_TRIES):
            other = self.held[dice.choice(self.order)][: self.k]
            if other and not known & {one["record"] for one in other}:
                return other, False
        return own, True


def stands_in(answer: str, texts: Sequence[str]) -> int | None:
    """The first text that has the answer's words in a row; None where none has."""
    said = _words(answer)
    if set(said.split()) <= {"yes", "no"}:
        return None
    return next((n for n, text in enumerate(texts) if said in _words(text)), None)


def _words(text: str) -> str:
    """Lower-cased words, each between blanks."""
    return " ".join(["", *_WORD.findall(text.casefold()), ""])


def read_contexts(path: str | Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(sample, question) -> passages, of a file of `rsvlm knowledge contexts`.

    Raises:
        UserError: it is not there, or a line is none of these.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(
            f"data.dataset.contexts={path}: there is no such file. Make it: rsvlm knowledge "
            "contexts <base> --data <option> --root <folder> --split <split> --out <file>."
        )
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number, row in enumerate(read_records(file), 1):
        good = isinstance(row, Mapping) and {"id", "question", "passages"} <= set(row)
        if not good or not all(
            isinstance(one, Mapping) and {"record", "text"} <= set(one) for one in row["passages"]
        ):
            raise UserError(
                f"{file}, line {number}: a line is an object with id, question and passages, each "
                "with record and text."
            )
        found[str(row["id"]), str(row["question"])] = [dict(one) for one in row["passages"]]
    return found


def line_of(id: str, question: str, hits: Sequence[Any]) -> str:
    """A line of such a file, of `KnowledgeBase.search`'s hits."""
    passages = [
        {"record": hit.record.id, "type": hit.type, "score": round(hit.score, 4), "text": hit.text}
        for hit in hits
    ]
    row = {"id": id, "question": question, "passages": passages}
    return json.dumps(row, ensure_ascii=False)
