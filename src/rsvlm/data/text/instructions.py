"""What a system is asked: instructions and task identifiers as data (data/prompts/systems).

A data set gives captions, objects and plain questions; an `InstructionTemplates` makes the
dialogues of them that a system was trained with: `[refer] give me the location of the tank`,
`{<10><20><30><40>}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from rsvlm.data.geometry import identity
from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Instance, SampleError, Turn
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.prompt_formats import LOST, SEG, Dialogue, dialogues
from rsvlm.errors import UserError, near

# A question that carries a task identifier, this system's or another's, stays as it is worded.
_IDENTIFIER = re.compile(r"\s*\[[A-Za-z_ ]{2,40}\]\s*\S")

#: Tasks that are made of annotations alone.
MADE = ("caption", "refer", "identify", "detection", "segment")


@dataclass(frozen=True, slots=True)
class Task:
    """How a system is asked for one thing. Places: {text}, {boxes}, {masks}.

    Attributes:
        ask: instructions, one of which training draws.
        identifier: the word in brackets before it, or "".
        answer: the form of the answer; "" takes the answer as it is.
        measure: the instruction of evaluation; "" takes the first.
    """

    ask: tuple[str, ...]
    identifier: str = ""
    answer: str = ""
    measure: str = ""


@dataclass(frozen=True, slots=True)
class System:
    """The prompts of one system.

    Attributes:
        name: its word.
        format: its prompt format (formats.py).
        boxes: its box convention (boxes.py), or "".
        tasks: by task word.
        source: where the words come from.
    """

    name: str
    format: str
    tasks: dict[str, Task] = field(default_factory=dict)
    boxes: str = ""
    source: str = ""

    @property
    def identifiers(self) -> frozenset[str]:
        """All task identifiers."""
        return frozenset(task.identifier for task in self.tasks.values() if task.identifier)


@cache
def systems() -> dict[str, System]:
    """All systems by name."""
    found = {}
    folder = files("rsvlm.data").joinpath("prompts/systems")
    for file in sorted(folder.iterdir(), key=lambda f: f.name):
        name = file.name.removesuffix(".json")
        row = json.loads(file.read_text(encoding="utf-8"))
        tasks = {
            word: Task(**{**task, "ask": tuple(task["ask"])})
            for word, task in row.pop("tasks").items()
        }
        found[name] = System(name=name, tasks=tasks, **row)
    return found


def system(name: str) -> System:
    """The prompts of a system.

    Raises:
        UserError: there is none of this name.
    """
    if name not in systems():
        raise UserError(f"there are no prompts of {name!r}. {near(name, systems())}")
    return systems()[name]


class InstructionTemplates:
    """Makes the dialogues of a sample in a system's words; give it to a `ChatCollate`.

    A question that the data set brings is asked by the task of its kind (`refer`, `caption`, …);
    a single question of another kind is asked as `vqa`; one of no kind at all, as users type them,
    dialogues of several questions, and texts that carry an identifier in brackets already, stay as
    they are. Answers that speak of
    instances get their boxes or masks where the task's answer has a place for them. A sample with
    captions and no question for them gets one.

    Args:
        of: the system, by name.
        tasks: make exactly these of `MADE` from captions and instances, beside `questions`; by
            default a caption where there is one.
        questions: keep the data set's own questions.
        boxes: another box convention than the system's.
        text_boxes: the convention of boxes that the data set's texts hold already, as those of
            SkyEye-968k (`mini0_100`) or GeoChat_Instruct; they are rewritten in the system's, for
            the image as the model sees it. Without it they stay as they are, which is right only
            where nothing is cropped, padded or flipped.
        measuring: take each task's instruction of evaluation instead of drawing one.
        rephrase: put the task's instruction in the place of a question of its kind even where the
            instruction has no {text}; otherwise only where it has.
        asks: instructions of some tasks in the place of the system's, as
            `{caption: Describe the image in detail.}` for captions of several sentences.

    Raises:
        UserError: an unknown system, convention or task, or one that the system has no words for.
    """

    def __init__(
        self,
        of: str,
        *,
        tasks: Sequence[str] | None = None,
        questions: bool = True,
        boxes: str | None = None,
        text_boxes: str | None = None,
        measuring: bool = False,
        rephrase: bool = True,
        asks: Mapping[str, str] | None = None,
    ) -> None:
        self.system = system(of)
        for word, ask in (asks or {}).items():
            if word not in self.system.tasks:
                raise UserError(f"asks: {of} has no task {word!r}. {near(word, self.system.tasks)}")
            task = replace(self.system.tasks[word], ask=(ask,), measure="")
            self.system = replace(self.system, tasks={**self.system.tasks, word: task})
        self.codec = codec(boxes or self.system.boxes) if boxes or self.system.boxes else None
        self.tasks: tuple[str, ...] | None = None
        self.text_codec = codec(text_boxes) if text_boxes else None
        if self.text_codec is not None and self.codec is None:
            raise UserError(f"{of} has no box convention to write text_boxes in; give boxes=.")
        self.questions, self.measuring, self.rephrase = questions, measuring, rephrase
        if tasks is not None:
            self.tasks = self.making(tasks).tasks

    def making(self, tasks: Sequence[str]) -> InstructionTemplates:
        """The same templates, making exactly these tasks.

        Raises:
            UserError: one that the system has no words for.
        """
        for task in tasks:
            if task not in MADE or task not in self.system.tasks:
                known = [t for t in MADE if t in self.system.tasks]
                raise UserError(
                    f"no task {task!r} can be made for {self.system.name}; it has "
                    f"{', '.join(known)}. {near(task, known)}"
                )
        other = copy(self)
        other.tasks = tuple(tasks)
        return other

    def __call__(self, item: TransformedSample, draws: np.random.Generator) -> list[Dialogue]:
        """The dialogues of an item.

        Raises:
            SampleError: an answer speaks of an instance without box or mask.
        """
        sample = item.sample
        out: list[Dialogue] = []
        asked_captions = False
        if self.questions:
            for dialogue in dialogues(sample):
                asked_captions |= any(t.kind == "caption" for t in dialogue)
                rewritten = [self._rewritten(item, turn) for turn in dialogue]
                out.append(self._asked(item, rewritten, draws))
        wanted = self.tasks
        if wanted is None:
            wanted = ("caption",) if not asked_captions and "caption" in self.system.tasks else ()
        images = tuple(range(len(sample.images)))
        for word in wanted:
            if word == "caption":
                if sample.texts:
                    out.append(self._pair(item, word, "", sample.texts[0], images, (), draws))
                continue
            if word == "detection":
                out += self._detections(item, draws)
                continue
            for instance in sample.instances:
                if not _usable(instance, word):
                    continue
                phrase = instance.phrase or instance.category
                shown = (instance.image_id,)
                out.append(self._pair(item, word, phrase, phrase, shown, (instance.id,), draws))
        return out

    def _rewritten(self, item: TransformedSample, turn: Turn) -> Turn:
        """A turn whose text boxes speak of the first image as the model sees it."""
        if self.text_codec is None or self.codec is None or not item.geometry:
            return turn
        geometry = item.geometry[0]
        text, ids, done = "", turn.instance_ids, 0
        for found in self.text_codec.parse(turn.text, identity(*geometry.source)).boxes:
            seen = geometry.instance(Instance(0, "", box=found.box, angle=found.angle))
            ids = ids if seen is not None else (*ids, LOST)
            text += turn.text[done : found.start]
            text += self.codec.write(found.box, geometry, found.angle)
            done = found.end
        return replace(turn, text=text + turn.text[done:], instance_ids=ids)

    def _detections(self, item: TransformedSample, draws: np.random.Generator) -> list[Dialogue]:
        groups: dict[tuple[int, str], list[int]] = {}
        for instance in item.sample.instances:
            if instance.box is not None:
                key = (instance.image_id, instance.category)
                groups.setdefault(key, []).append(instance.id)
        return [
            self._pair(item, "detection", category, category, (image,), tuple(ids), draws)
            for (image, category), ids in groups.items()
        ]

    def _asked(
        self, item: TransformedSample, dialogue: Dialogue, draws: np.random.Generator
    ) -> Dialogue:
        """A data set's own dialogue in the system's words."""
        questions = [i for i, turn in enumerate(dialogue) if turn.role == "user"]
        if len(questions) != 1:
            return dialogue
        at = questions[0]
        asked = dialogue[at]
        if asked.kind is None or _IDENTIFIER.match(asked.text):
            return dialogue
        word = asked.kind if asked.kind in self.system.tasks else "vqa"
        if word not in self.system.tasks:
            return dialogue
        said = next((turn for turn in dialogue[at:] if turn.role == "assistant"), None)
        answer, ids = (said.text, said.instance_ids) if said else ("", asked.instance_ids)
        made = self._pair(item, word, asked.text, answer, asked.image_ids, ids, draws)
        question = made[0]
        if not self.rephrase and not _has_place(self.system.tasks[word]):
            question = replace(asked, kind=word)
        question = replace(question, kind=asked.kind)
        rest = [] if said is None else [replace(made[1], kind=said.kind)]
        return [*dialogue[:at], question, *rest]

    def _pair(
        self,
        item: TransformedSample,
        word: str,
        text: str,
        answer: str,
        images: tuple[int, ...],
        ids: tuple[int, ...],
        draws: np.random.Generator,
    ) -> Dialogue:
        task = self.system.tasks[word]
        # Always one draw, so that measuring or not moves nothing behind it.
        drawn = task.ask[int(draws.integers(len(task.ask)))]
        ask = (task.measure or task.ask[0]) if self.measuring else drawn
        form = task.answer
        if not ids or LOST in ids:  # places that a data set words itself stay as it words them
            form = ""
            ask = "{text}" if "{boxes}" in ask else ask
        question = f"{task.identifier} {ask}".strip() if task.identifier else ask
        question = self._fill(question, item, text, ids)
        said = self._fill(form or "{text}", item, answer, ids)
        return [
            Turn("user", question, images, () if "{boxes}" not in ask else ids, kind=word),
            Turn("assistant", said, (), ids, kind=word),
        ]

    def _fill(self, form: str, item: TransformedSample, text: str, ids: tuple[int, ...]) -> str:
        values = {"{text}": text}
        if "{boxes}" in form:
            values["{boxes}"] = self._boxes(item, ids)
        if "{masks}" in form:
            values["{masks}"] = enumerated([SEG] * len(ids))
        return re.sub(r"\{(?:text|boxes|masks)\}", lambda m: values[m.group()], form)

    def _boxes(self, item: TransformedSample, ids: tuple[int, ...]) -> str:
        who = f"sample {item.sample.meta.get('id', item.index)!r}"
        if self.codec is None:
            raise SampleError(f"{self.system.name} has no box convention; give Wording(boxes=…).")
        if not item.geometry:
            raise SampleError(f"{who}: the transform does not say where boxes go.")
        by_id = {i.id: i for i in item.stored}
        found = [by_id[i] for i in ids if i in by_id]
        if len(found) < len(ids) or not found or any(i.box is None for i in found):
            raise SampleError(
                f"{who}: an answer asks for boxes of instances {ids}; one is missing."
            )
        geometry = item.geometry[found[0].image_id]
        boxes = [i.box for i in found if i.box is not None]
        return self.codec.write_all(boxes, geometry, [i.angle for i in found])


def merged(asked: Mapping[str, Any] | None, own: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `InstructionTemplates`: those that are asked for, and over them one's own.

    Args:
        asked: by an evaluation.
        own: of a model; what is None in them is not said.
    """
    said = {word: value for word, value in own.items() if value is not None}
    return {**own, **(asked or {}), **said}


def enumerated(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _usable(instance: Instance, word: str) -> bool:
    """Whether a task can be made of an object: a place for it, and for `refer` a phrase."""
    if word == "segment":
        return instance.mask is not None
    return instance.box is not None and (word != "refer" or instance.phrase is not None)


def _has_place(task: Task) -> bool:
    return all("{text}" in ask for ask in task.ask)
