"""Questions for masks: of one object, of several, and of what is not there."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Turn
from rsvlm.data.text.instructions import InstructionTemplates, enumerated
from rsvlm.data.text.prompt_formats import Dialogue, dialogues
from rsvlm.errors import UserError

# What begins with one of these needs no article more.
_ARTICLE = re.compile(r"(?:the|an?|this|that|these|those|its|all|both|each|every)\b", re.IGNORECASE)

#: The answer to a question for what is not there.
ABSENT = "There is no {text} in the image."


class SegmentTemplates(InstructionTemplates):
    """`InstructionTemplates` of a system whose answers point at pixels.

    Questions of the kind `reason`, which are whole sentences, are asked by the system's words for
    them. A template's own article is left out before an expression that has one. An object that a
    data set's own question asks for is not asked for again by the task `segment`.

    Args:
        of: the system, by name.
        refers: ask a data set's referring questions for masks where their objects have some, be
            they one or many.
        several: most objects of a question that joins the phrases of some (`the ship and the
            tank`); one such question a sample; 0 for none.
        absent: share of samples that are asked for a class that none of their objects has, neither
            under a finer name nor under a coarser one.
        absent_classes: those that may be asked for so.
        **options: of `InstructionTemplates`.

    Raises:
        UserError: a share beyond 0..1, or no class to ask for.
    """

    def __init__(
        self,
        of: str,
        *,
        refers: bool = True,
        several: int = 0,
        absent: float = 0.0,
        absent_classes: Sequence[str] = (),
        **options: Any,
    ) -> None:
        super().__init__(of, **options)
        if not 0 <= absent <= 1 or several < 0:
            raise UserError(
                f"model.instructions: absent={absent} is a share of 0 to 1, several={several} a "
                "number of objects."
            )
        if absent and not absent_classes:
            raise UserError(
                "model.instructions.absent asks for what is not there: name the classes that may "
                "be asked for in model.instructions.absent_classes."
            )
        self.refers, self.several = refers, several
        self.absent, self.absent_classes = absent, list(absent_classes)

    def __call__(self, item: TransformedSample, draws: np.random.Generator) -> list[Dialogue]:
        """The dialogues of an item; see `InstructionTemplates`."""
        out = super().__call__(item, draws)
        if "segment" not in self.system.tasks:
            return out
        own = len(dialogues(item.sample)) if self.questions else 0
        known = {_pointed_at(dialogue) for dialogue in out[:own]}
        out = out[:own] + [d for d in out[own:] if not _segment(d) or _pointed_at(d) not in known]
        if self.several > 1:
            out += self._several(item, draws)
        if self.absent and draws.random() < self.absent:
            there = {i.category for i in item.sample.instances}
            free = [name for name in self.absent_classes if not _among(name, there)]
            if free:
                name = free[int(draws.integers(len(free)))]
                answer = ABSENT.replace("{text}", name)
                shown = tuple(range(len(item.sample.images)))
                out.append(self._pair(item, "segment", f"the {name}", answer, shown, (), draws))
        return out

    def _fill(self, form: str, item: TransformedSample, text: str, ids: tuple[int, ...]) -> str:
        # The published code asks for `the the red ship` where an expression has its article.
        if _ARTICLE.match(text):
            form = form.replace(" the {text}", " {text}")
        return super()._fill(form, item, text, ids)

    def _several(self, item: TransformedSample, draws: np.random.Generator) -> list[Dialogue]:
        usable = [
            i
            for i in item.sample.instances
            if i.mask is not None and i.phrase and i.image_id == 0 and i.id not in item.lost
        ]
        if len(usable) < 2:
            return []
        count = int(draws.integers(2, min(self.several, len(usable)) + 1))
        chosen = [usable[i] for i in sorted(draws.choice(len(usable), count, replace=False))]
        phrases = enumerated([str(i.phrase) for i in chosen])
        ids = tuple(i.id for i in chosen)
        return [self._pair(item, "segment", phrases, phrases, (0,), ids, draws)]

    def _asked(
        self, item: TransformedSample, dialogue: Dialogue, draws: np.random.Generator
    ) -> Dialogue:
        if self.refers and "segment" in self.system.tasks:
            masked = {i.id for i in item.sample.instances if i.mask is not None} | set(item.lost)
            said = [turn for turn in dialogue if turn.role == "assistant"]
            ids = {i for turn in said for i in turn.instance_ids}
            if ids and ids <= masked:
                dialogue = [_as_segment(turn, ("refer",)) for turn in dialogue]
                made = super()._asked(item, dialogue, draws)
                return [_as_segment(turn, ("reason",)) for turn in made]
        return super()._asked(item, dialogue, draws)


def _among(name: str, categories: Collection[str]) -> bool:
    """Whether a class may be there: by its own name, a finer one or a coarser one.

    A passenger ship is a ship; and data sets write a tennis court as `tenniscourt`.
    """
    plain = _plain(name)
    return any(plain in _plain(other) or _plain(other) in plain for other in categories if other)


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _as_segment(turn: Turn, kinds: Sequence[str]) -> Turn:
    return replace(turn, kind="segment") if turn.kind in kinds else turn


def _segment(dialogue: Dialogue) -> bool:
    return all(turn.kind == "segment" for turn in dialogue)


def _pointed_at(dialogue: Dialogue) -> tuple[int, ...]:
    """The objects that a dialogue's answers have masks of."""
    said = [turn for turn in dialogue if turn.role == "assistant" and turn.kind == "segment"]
    return tuple(i for turn in said for i in turn.instance_ids)
