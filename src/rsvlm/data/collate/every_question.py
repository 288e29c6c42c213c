"""Every question of a dialogue is asked, not its last alone."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Any

from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import Turn
from rsvlm.data.text.prompt_formats import Dialogue, dialogues


class EveryQuestion:
    """A collate before which each dialogue becomes as many as it has questions.

    Args:
        collate: of a model, for generation; asks the last question of each dialogue.
        history: give the questions and true answers before it; without them each question stands
            alone, with the images of its dialogue.
        kinds: task words of the questions that are asked; None asks all.
    """

    def __init__(
        self,
        collate: Callable[[Sequence[Any]], Any],
        *,
        history: bool = True,
        kinds: Container[str] | None = None,
    ) -> None:
        self.collate, self.history, self.kinds = collate, history, kinds

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> Any:
        """The batch of all questions."""
        return self.collate(
            [one if isinstance(one, Skipped) else self._parted(one) for one in items]
        )

    def _parted(self, item: TransformedSample) -> TransformedSample:
        found = dialogues(item.sample)
        if all(sum(turn.role == "user" for turn in dialogue) < 2 for dialogue in found):
            return item
        turns = [turn for dialogue in found for part in self._parts(dialogue) for turn in part]
        return replace(item, sample=replace(item.sample, turns=turns))

    def _parts(self, dialogue: Dialogue) -> list[list[Turn]]:
        system = [turn for turn in dialogue if turn.role == "system"]
        said = [turn for turn in dialogue if turn.role != "system"]
        asked = [i for i, turn in enumerate(said) if turn.role == "user"]
        parts = []
        for start, end in zip(asked, [*asked[1:], len(said)], strict=True):
            kind: Any = said[start].kind
            if self.kinds is not None and len(asked) > 1 and kind not in self.kinds:
                continue
            part = said[:end] if self.history else said[start:end]
            if not self.history:
                shown = dict.fromkeys(i for turn in said[: start + 1] for i in turn.image_ids)
                part = [replace(part[0], image_ids=tuple(shown)), *part[1:]]
            # A question that shows an image again begins a dialogue of its own.
            parts.append([*system, *part])
        return parts
