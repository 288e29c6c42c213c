"""A data set and a protocol of rsvlm as a task of lmms-eval (`rsvlm lmms-eval` writes the folder).

lmms-eval asks the model; this reads what it answered and measures it as `rsvlm eval` would: each
answer becomes a record, and values come from the evaluation's `metric_from`. lmms-eval pins other
versions of what Hydra and W&B need, so nothing here, nor below it, imports these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from rsvlm.data.geometry import identity
from rsvlm.data.prediction_records import DatasetFacts, record_of, record_order
from rsvlm.data.sample import Answer
from rsvlm.data.text.box_codecs import codec
from rsvlm.errors import UserError
from rsvlm.evaluation import (
    captions,
    change_chat,
    detection,
    grounding,
    pointing,
    region_recognition,
    rsieval,
    rsrag,
    vqa,
)
from rsvlm.evaluation.base import Evaluation
from rsvlm.evaluation.question_answering import AnswerEvaluation, from_answer

#: The file of a folder that says what it measures, and that of its questions.
ABOUT, QUESTIONS = "rsvlm.json", "questions.jsonl"

#: Where evaluations of answers stand.
MODULES = (
    captions,
    change_chat,
    detection,
    grounding,
    pointing,
    region_recognition,
    rsieval,
    rsrag,
    vqa,
)

Doc = Mapping[str, Any]


def can_be_a_task(evaluation: Evaluation | type) -> bool:
    """Whether an evaluation asks each question once and measures records of the answers.

    A whole dialogue, whose questions hold the model's own earlier answers, is none.
    """
    kind = evaluation if isinstance(evaluation, type) else type(evaluation)
    asks = issubclass(kind, (AnswerEvaluation, captions.CaptionEvaluation))
    return asks and not issubclass(kind, change_chat.DialogueEvaluation)


class RecordedTask:
    """What lmms-eval calls for one task.

    Args:
        folder: as `rsvlm lmms-eval` wrote it.

    Raises:
        UserError: it is none.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            about = json.loads((self.folder / ABOUT).read_text(encoding="utf-8"))
            self.facts = DatasetFacts(**about["facts"])
            self.names, self.boxes = dict(about["names"]), about["boxes"]
            self.evaluation = _evaluation(about["evaluation"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.folder}: {ABOUT} cannot be read ({error}). Write the folder again with "
                "rsvlm lmms-eval."
            ) from None
        self._measured: tuple[str, dict[str, float]] = ("", {})

    @classmethod
    @cache
    def at(cls, folder: str) -> RecordedTask:
        """The one of a folder: lmms-eval imports a task's functions one by one."""
        return cls(folder)

    def pictures(self, doc: Doc) -> list[Image.Image]:
        """The pictures of a question, as a model sees them."""
        out = []
        for name in json.loads(doc["pictures"]):
            with Image.open(self.folder / name) as image:
                out.append(image.convert("RGB"))
        return out

    def text(self, doc: Doc) -> str:
        """The question; with a history, all turns, one a line."""
        turns = json.loads(doc["messages"])
        said = [(turn["role"], _text(turn["content"])) for turn in turns]
        if len(said) == 1:
            return said[0][1]
        names = {"system": "", "user": "Question: ", "assistant": "Answer: "}
        return "\n".join(names[role] + text for role, text in said)

    def messages(self, doc: Doc) -> list[dict[str, Any]]:
        """The dialogue in the form that lmms-eval's chat models take."""
        pictures = self.pictures(doc)
        out = []
        for turn in json.loads(doc["messages"]):
            content = turn["content"]
            parts: list[Any] = (
                [{"type": "text", "text": content}] if isinstance(content, str) else content
            )
            out.append({"role": turn["role"], "content": [
                {"type": "image", "url": pictures[part["image"]]} if "image" in part else part
                for part in parts
            ]})  # fmt: skip
        return out

    def results(self, doc: Doc, answers: Sequence[str]) -> dict[str, Any]:
        """The record of an answer, once for each metric of the task."""
        text = str(answers[0]) if answers else ""
        answer = Answer(text)
        sides = json.loads(doc["sides"])
        if self.boxes and sides:
            stored, sent = sides
            seen = identity(*stored).resize(*sent)
            answer.boxes = [found.box for found in codec(self.boxes).parse(text, seen).boxes]
        row = json.dumps(json.loads(doc["record"]) | from_answer(answer))
        return dict.fromkeys(self.names.values(), row)

    def value(self, word: str, rows: Sequence[str]) -> float:
        """A metric of all answers; NaN where these have none of its kind."""
        asked = "\n".join(rows)
        if self._measured[0] != asked:
            records = [record_of(json.loads(row), "an answer") for row in rows]
            records.sort(key=lambda one: record_order(one.id))
            found = self.evaluation.measure(
                self.evaluation.complete(records, self.facts), self.facts
            )
            self._measured = asked, found.values
        return self._measured[1].get(word, float("nan"))


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if "text" in part)


def _evaluation(node: Mapping[str, Any]) -> Evaluation:
    """The evaluation that a folder names.

    Raises:
        ValueError: it names another thing.
    """
    options = dict(node)
    target = str(options.pop("_target_", ""))
    module, _, name = target.rpartition(".")
    for held in MODULES:
        found = getattr(held, name, None)
        if held.__name__ == module and isinstance(found, type) and can_be_a_task(found):
            made: Evaluation = found(**options)
            return made
    raise ValueError(f"{target} is no evaluation of answers")
