"""A conversation about one scene in a system's own words: task identifiers, boxes and masks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rsvlm.data.geometry import identity
from rsvlm.data.sample import Instance, Turn
from rsvlm.data.text.box_codecs import codec
from rsvlm.data.text.instructions import System, Task, enumerated
from rsvlm.data.text.prompt_formats import SEG
from rsvlm.synthetic import lexicon
from rsvlm.synthetic.caption import captions, description
from rsvlm.synthetic.geometry import Dice, stream
from rsvlm.synthetic.questions import questions
from rsvlm.synthetic.refer import Reference, references
from rsvlm.synthetic.world import Scene

TASKS: tuple[str, ...] = (
    "caption", "vqa", "refer", "identify", "detection", "segment", "description",
)  # fmt: skip
"""What a conversation may be about, as far as the system has words for it."""

_LEAST = 0.02  # of the picture's side: what is narrower has no area in hundredths of it
_MOST = 12  # boxes in one answer; more make a list that no model's window holds


def _sides(instance: Instance) -> float:
    x0, y0, x1, y1 = instance.box or (0.0, 0.0, 0.0, 0.0)
    return min(x1 - x0, y1 - y0)


def conversation(
    scene: Scene,
    instances: Sequence[Instance],
    size: int,
    system: System,
    *,
    held_out: bool = False,
) -> list[Turn]:
    """Return one conversation of two to six questions; only the first shows the picture.

    The kind of each turn is its task. Boxes are written by the system's codec over the whole
    picture, so the preprocessing must keep it whole (squash; no crop, no flip). An answer of
    `segment` has one `[SEG]` for each of its `instance_ids`, in order.

    Args:
        scene: what is spoken of.
        instances: what shows of it.
        size: side of the picture, pixels.
        system: whose words (`rsvlm.data.text.instructions.system`).
        held_out: captions and questions in the wordings that training never sees.
    """
    return _Talk(scene, instances, size, system, held_out).turns()


class _Talk:
    def __init__(
        self,
        scene: Scene,
        instances: Sequence[Instance],
        size: int,
        system: System,
        held_out: bool,
    ) -> None:
        self.scene, self.size, self.system, self.held_out = scene, size, system, held_out
        self.dice: Dice = stream(scene.seed, scene.number, 208)
        least = _LEAST * size
        self.by_id = {i.id: i for i in instances if _sides(i) >= least}
        shown = [
            r
            for r in references(scene)
            if 0 < len(r.ids) <= _MOST and all(k in self.by_id for k in r.ids)
        ]
        self.single = [r for r in shown if len(r.ids) == 1]
        self.groups = [r for r in shown if len(r.ids) > 1]

    def turns(self) -> list[Turn]:
        d = self.dice
        words = [word for word in TASKS if word in self.system.tasks]
        opening = [w for w in ("caption", "description") if w in words]
        first = d.pick(opening) if opening and d.chance(0.6) else None
        rest = [w for w in words if w not in opening]
        if "vqa" in rest:
            rest.append("vqa")
        order = ([first] if first else []) + d.some(rest, d.whole(2, 5))
        if first != "description" and "description" in words and d.chance(0.3):
            order.append("description")
        out: list[Turn] = []
        asked: set[str] = set()
        for word in order:
            pair = self.ask(word)
            if pair is None or pair[0].text in asked:
                continue
            asked.add(pair[0].text)
            if not out:
                pair[0].image_ids = (0,)
            out += pair
        return out

    def ask(self, word: str) -> tuple[Turn, Turn] | None:
        """A question of a task and its answer; None where the scene has nothing for it."""
        d, task = self.dice, self.system.tasks[word]
        if word == "caption":
            said = d.pick(captions(self.scene, held_out=self.held_out)).text
            return self.pair(word, task, "", said, ())
        if word == "description":
            return self.pair(word, task, "", description(self.scene).text, ())
        if word == "vqa":
            asked = d.pick(questions(self.scene, held_out=self.held_out))
            return self.pair(word, task, asked.text, asked.answer, ())
        if word == "segment":
            some = d.some(self.single, d.whole(1, 3))
            if not some:
                return None
            ids = tuple(k for r in some for k in r.ids)
            if len(set(ids)) < len(ids):
                return None
            phrase = enumerated([r.phrase for r in some])
            return self.pair(word, task, phrase, phrase, ids)
        source = self.groups if word == "detection" else self.single
        if not source:
            return None
        reference = d.pick(source)
        said = self.name(reference) if word == "identify" else reference.phrase
        return self.pair(word, task, reference.phrase, said, reference.ids)

    def name(self, reference: Reference) -> str:
        kind = reference.query.kind
        options = lexicon.NOUNS[kind]
        if kind == "building":
            options = lexicon.BUILDINGS.get(self.scene.label, options)
        return self.dice.pick(options)[0]

    def pair(
        self, word: str, task: Task, text: str, answer: str, ids: tuple[int, ...]
    ) -> tuple[Turn, Turn]:
        ask = self.dice.pick(task.ask)
        pointing = "{boxes}" in ask
        if word == "detection":
            answer = answer[:1].upper() + answer[1:]
        question = self.fill(f"{task.identifier} {ask}".strip(), text, ids)
        said = self.fill(task.answer if ids and task.answer else "{text}", answer, ids)
        return (
            Turn("user", question, (), ids if pointing else (), kind=word),
            Turn("assistant", said, (), ids, kind=word),
        )

    def fill(self, form: str, text: str, ids: tuple[int, ...]) -> str:
        values = {"{text}": text, "{masks}": enumerated([SEG] * len(ids)) if ids else ""}
        if "{boxes}" in form:
            things = [self.by_id[k] for k in ids]
            boxes = [t.box for t in things if t.box is not None]
            angles = [t.angle for t in things if t.box is not None]
            at = identity(self.size, self.size)
            values["{boxes}"] = codec(self.system.boxes).write_all(boxes, at, angles)
        return re.sub(r"\{(?:text|boxes|masks)\}", lambda m: values[m.group()], form)
