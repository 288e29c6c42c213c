"""Open questions on a pair from a language model, and what of its answers is believed.

The model is told what the mask shows and what people said of the pair, and writes questions with
their answers. ChangeChat's prompt is not published; this one is ours (`PROMPT`). A reply must
repeat the pair's name, so that one that was meant for another pair is found out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rsvlm.clients.chat_completions import Completion, Message
from rsvlm.clients.pictures import PictureFormat
from rsvlm.curate.changechat.masks import changed
from rsvlm.curate.language_model import LanguageModel, messages, read_reply
from rsvlm.curate.record import Dropped, Outcome, Record
from rsvlm.data.datasets.change_rules import CELLS
from rsvlm.data.images import BrokenImage, read_image

PROMPT = """\
You write questions and answers for people who compare two aerial pictures of one place, taken on \
two dates. You are given notes on one pair as JSON: its name, whether anything changed, how many \
roads, buildings or regions changed and in which cells of a 3x3 grid, and what people said of it.

Write {per_pair} different questions on the change (what, where, how many, what stood there \
before, what it may mean for the place), each with a short answer that follows from the notes \
alone. Speak as somebody who sees both pictures: never mention notes, captions, masks or JSON. If \
nothing changed, ask what somebody would ask who does not know that.

Reply with JSON only: {{"pair": "<the name>", "items": [{{"question": "...", "answer": "..."}}]}}"""

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["pair", "items"],
    "properties": {
        "pair": {"type": "string"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["question", "answer"],
                "properties": {"question": {"type": "string"}, "answer": {"type": "string"}},
            },
        },
    },
}


@dataclass
class OpenQuestions:
    """Asks a language model about each record of kind `open`; the others pass.

    A good reply becomes a record for each question. Dropped: `refused`, `empty_reply`, `cut_reply`,
    `no_json`, `malformed_reply` (other JSON than asked for), `other_image` (it names another pair),
    `broken_image` (with `pictures`).

    Args:
        model: where it is.
        per_pair: questions to ask for; more are not taken.
        pictures: send both pictures along.
        batch_size: pairs at a time; of them, `model.workers` are asked about side by side.
    """

    model: LanguageModel = field(default_factory=LanguageModel)
    per_pair: int = 4
    pictures: bool = False
    batch_size: int = 64

    name = "generate_qa_from_text_mapper"
    version = "1"

    def setup(self) -> None:
        """Connects, where there is a model."""
        self._client = self.model.connect(SCHEMA) if self.model.url else None

    def process(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """What becomes of each record; see the class."""
        outcomes: list[Outcome] = list(records)
        asked: list[tuple[int, list[Message]]] = []
        for i, record in enumerate(records):
            if record["kind"] == "open":
                try:
                    asked.append((i, self.ask(record)))
                except BrokenImage as error:
                    outcomes[i] = Dropped("broken_image", str(error))
        if asked:
            client = self._client or self.model.connect(SCHEMA)  # which says what is missing
            replies = client.ask_all([dialogue for _, dialogue in asked])
            for (i, _), reply in zip(asked, replies, strict=True):
                outcomes[i] = self.read(records[i], reply)
        return outcomes

    def ask(self, record: Record) -> list[Message]:
        """The question on one pair.

        Raises:
            BrokenImage: a picture cannot be read.
        """
        notes = {
            "name": record["pair"],
            "changed": changed(record),
            "changes": record["facts"],
            "said": record["captions"],
        }
        shown = []
        if self.pictures:
            form = PictureFormat(max_side=1024)
            shown = [form.data_url(read_image(record[k], True)) for k in ("before", "after")]
        prompt = PROMPT.format(per_pair=self.per_pair)
        return messages(prompt, json.dumps(notes, ensure_ascii=False), shown)

    def read(self, record: Record, reply: Completion) -> Outcome:
        """The conversations of one reply."""
        found = read_reply(reply, self.model.words)
        if isinstance(found, Dropped):
            return found
        items = found.get("items")
        if not isinstance(items, list) or not items or not all(_worded(item) for item in items):
            return Dropped("malformed_reply", reply.text[:200])
        if found.get("pair") != record["pair"]:
            return Dropped("other_image", f"it speaks of {str(found.get('pair'))[:80]!r}")
        return [
            record
            | {
                "id": f"{record['id']}{number}",
                "conversations": [[item["question"].strip(), item["answer"].strip()]],
            }
            for number, item in enumerate(items[: self.per_pair])
        ]


def _worded(item: Any) -> bool:
    return isinstance(item, dict) and all(
        isinstance(item.get(key), str) and item[key].strip() for key in ("question", "answer")
    )


_LEAKS = re.compile(
    r"\b(captions?|masks?|annotat\w+|json|the notes?|provided (text|information|notes?))\b",
    re.IGNORECASE,
)
_WORDS = re.findall(r"\w+", "zero one two three four five six seven eight nine ten eleven twelve")
_NUMBERS = {word: n for n, word in enumerate(_WORDS)} | {"no": 0}
_COUNT = re.compile(
    rf"\b(\d+|{'|'.join(_NUMBERS)})\s+(?:\w+\s+){{0,2}}?(road|building|region)s?\b", re.IGNORECASE
)
_CELL = re.compile(rf"\b({'|'.join(CELLS)})\b", re.IGNORECASE)
_SAME = re.compile(
    r"^no\b[,.;]|\b(nothing|no changes?) (has|have|had)?\s*(changed|occurred|happened)\b"
    r"|\b(is|are) (no|not any) changes?\b|\bunchanged\b",
    re.IGNORECASE,
)


@dataclass
class CheckOpenAnswers:
    """Holds an open answer against the mask; records of other kinds pass.

    Dropped: `speaks_of_prompt` (of captions, masks or notes, which nobody who looks at pictures
    sees), `contradicts_mask` (a number of roads, buildings or regions beyond the mask's, or another
    one where the question asks how many and names no cell; a cell in which nothing changed;
    "nothing has changed" of a pair that has, to a question that asks it).
    """

    name = "fact_filter"
    version = "1"

    def __call__(self, record: Record) -> Outcome:
        """The record, or why it is not believed."""
        if record["kind"] != "open":
            return record
        question, answer = record["conversations"][0]
        for text in (question, answer):
            if leak := _LEAKS.search(text):
                return Dropped("speaks_of_prompt", f"{leak[0]!r} in {text[:120]!r}")
        why = _contradiction(question, answer, record)
        return Dropped("contradicts_mask", f"{why}: {answer[:120]!r}") if why else record


def _contradiction(question: str, answer: str, record: Record) -> str:
    """What an answer says against the mask; empty where nothing does."""
    facts = record["facts"]
    total = re.search(r"\bhow many\b", question, re.IGNORECASE) and not _CELL.search(question)
    for word, noun in _COUNT.findall(answer):
        number = int(word) if word.isdigit() else _NUMBERS[word.lower()]
        fact = facts.get(noun.lower())
        if fact is None:
            continue
        if number > fact["count"] or (total and number != fact["count"]):
            return f"{number} {noun}s where the mask has {fact['count']}"
    cells = {cell for fact in facts.values() for cell in fact["cells"]}
    for cell in _CELL.findall(answer):
        if cell.lower() not in cells:
            return f"nothing changed in {cell}"
    if changed(record) and not _CELL.search(question) and _whether(question):
        return "the pair has changed" if _SAME.search(answer) else ""
    return ""


def _whether(question: str) -> bool:
    """Whether a question asks if anything at all has changed."""
    return bool(
        re.search(
            r"\b(anything|something|any changes?|the (scene|area|place|site))\b.*\b(changed?|"
            r"differ\w*|occurred)\b|\b(has|have|is|are)\b.*\bany changes?\b",
            question,
            re.IGNORECASE,
        )
    )
