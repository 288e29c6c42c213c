"""Dialogues whose answers point at pixels: a mask for each [SEG] of an answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np
import torch

from rsvlm.data.collate.chat import ChatCollate, Row
from rsvlm.data.collate.chat_batch import ChatBatch
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import Instance, SampleError, Turn
from rsvlm.data.text.prompt_formats import SEG, Dialogue
from rsvlm.errors import UserError, near

#: What the systems write for one object, and what joins the tokens.
SEG_TOKENS: dict[str, tuple[tuple[str, ...], str]] = {
    "lisa": (("[SEG]",), ""),
    "geopix": (tuple(f"[SEG{i}]" for i in range(6)), ""),
    "pixellm": (tuple(f"[SEG{i}]" for i in range(6)), " "),
}


@dataclass(slots=True)
class PixelBatch(ChatBatch):
    """A `ChatBatch` with B lists of objects, in the order of their tokens.

    Attributes:
        masks: for each dialogue bool [n, H, W]; in the frame of the images as the model sees them,
            or of the image as stored (sizes may differ).
        boxes: for each dialogue float32 [n, 4], (x0, y0, x1, y1) in pixels of the same frame; NaN
            where an object has none.
        categories: for each dialogue [n] long, the class in its data set, -1 where it has none.
        phrases: for each dialogue what its objects are called.
        instance_rows: for each dialogue the rows of `images` that its objects lie in.
        classes: for each dialogue what classes its objects have, by name; "" where none.
        frame: `seen` or `stored`, of `masks` and `boxes`.
        said: what classes the user says the objects of each answer have.
        answer_ids: for generation, the ids of the true answers, as training would have them; none
            where a question has no answer.
        ignored: for generation, in the frame `stored`, the pixels [H, W] of each dialogue's image
            that count for nothing, by `meta["ignored"]` of its sample; None where all count.
    """

    masks: list[torch.Tensor]
    boxes: list[torch.Tensor]
    categories: list[torch.Tensor]
    phrases: list[list[str]]
    instance_rows: list[list[int]]
    classes: list[list[str]]
    frame: str
    said: list[str] = field(default_factory=list)
    answer_ids: list[list[int]] = field(default_factory=list)
    ignored: list[np.ndarray | None] = field(default_factory=list)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        return replace(
            ChatBatch._map(self, function),
            masks=[function(mask) for mask in self.masks],
            boxes=[function(box) for box in self.boxes],
            categories=[function(category) for category in self.categories],
        )


class PixelCollate(ChatCollate):
    """A `ChatCollate` that writes an object's tokens for each [SEG] and brings its mask.

    Where the window cuts the end of an answer, an object whose tokens are not all left has no mask
    in the batch; `truncated` counts such dialogues.

    Args:
        tokenizer: must hold the tokens, see `seg`.
        seg: a word of `SEG_TOKENS`, or (tokens of one object, what joins them).
        frame: masks and boxes as the model sees the image (`seen`), or `stored`; by default `seen`
            in training and `stored` for generation, where they are measured.
        options: of `ChatCollate`.

    Raises:
        UserError: the tokenizer lacks a token.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        seg: str | tuple[Sequence[str], str] = "lisa",
        frame: Literal["seen", "stored"] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, **options)
        if isinstance(seg, str):
            if seg not in SEG_TOKENS:
                raise UserError(f"seg={seg!r} is not known. {near(seg, SEG_TOKENS)}")
            seg = SEG_TOKENS[seg]
        if frame not in (None, "seen", "stored"):
            raise UserError(f"frame={frame!r} is not known. {near(frame, ('seen', 'stored'))}")
        tokens, joint = seg
        self.written_as = joint.join(tokens)
        self.seg_ids = [_id(tokenizer, token) for token in tokens]
        self.frame = frame or ("stored" if self.generation else "seen")

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> PixelBatch:
        """Collates what a `TransformedDataset` gives.

        Raises:
            SampleError: an answer has another number of [SEG] than of instances, or an instance has
                no mask; and what `ChatCollate` raises.
        """
        rows, skipped, lost = self.rows(items)
        found = [self._objects(row) for row in rows]
        fields = self.fields(rows, skipped, lost)
        masks: list[torch.Tensor] = []
        for row, objects in zip(rows, found, strict=True):
            array = (
                np.stack([_mask(o, row) for o in objects])
                if objects
                else np.zeros((0, *self._size(row)), bool)
            )
            masks.append(torch.from_numpy(array))
        measured = self.generation and self.frame == "stored"
        return PixelBatch(
            **fields,
            masks=masks,
            boxes=[_boxes(objects) for objects in found],
            categories=[
                torch.tensor(
                    [-1 if o.category_id is None else o.category_id for o in objects],
                    dtype=torch.long,
                )
                for objects in found
            ],
            phrases=[[o.phrase or o.category for o in objects] for objects in found],
            instance_rows=[
                [_row_of(o, row, places) for o in objects]
                for row, objects, places in zip(rows, found, fields["image_rows"], strict=True)
            ],
            classes=[[o.category for o in objects] for objects in found],
            frame=self.frame,
            answer_ids=[self._answer(row) for row in rows] if self.generation else [],
            ignored=[row.item.sample.meta.get("ignored") for row in rows] if measured else [],
        )

    def _answer(self, row: Row) -> list[int]:
        """The ids of the true answer."""
        if row.written.pairs[-1][1] is None:
            return []
        images = {i: self._places(row.item.sample.images[i]) for i in row.shown}
        system = "" if self.system is None else self.system
        written = self.writer.write(row.written.pairs, images, system=system, open_end=False)
        return written.answer

    def _row(self, item: TransformedSample, dialogue: Dialogue) -> Row:
        return super()._row(item, [self._tokens(turn) for turn in dialogue])

    def _tokens(self, turn: Turn) -> Turn:
        """The turn with an object's tokens in the place of each [SEG]."""
        count = turn.text.count(SEG)
        if turn.role != "assistant" or not count:
            return turn if turn.role == "assistant" else replace(turn, instance_ids=())
        if count != len(turn.instance_ids):
            raise SampleError(
                f"an answer has {count} {SEG} for {len(turn.instance_ids)} instances: "
                f"{turn.text[:80]!r}."
            )
        return replace(turn, text=turn.text.replace(SEG, self.written_as))

    def _objects(self, row: Row) -> list[Instance]:
        pairs = row.written.pairs[-1:] if self.generation else row.written.pairs
        wanted = [
            i
            for _, said in pairs
            if said is not None and self.written_as in said.text
            for i in said.instance_ids
        ]
        if not self.generation:
            ids = row.written.prompt + row.written.answer
            # Without the answers that a format or the window leaves unwritten.
            wanted = wanted[: self._runs(ids)]
        known = row.item.sample.instances if self.frame == "seen" else row.item.stored
        by_id = {instance.id: instance for instance in known or row.item.sample.instances}
        missing = [i for i in wanted if i not in by_id]
        if missing:
            raise SampleError(f"an answer speaks of instance {missing[0]}, which is not there.")
        return [by_id[i] for i in wanted]

    def _runs(self, ids: Sequence[int]) -> int:
        """How often all tokens of an object follow each other, spaces between them or not."""
        kept = [i for i in ids if i in self.seg_ids]
        count, place = 0, 0
        for i in kept:
            place = place + 1 if i == self.seg_ids[place] else 0
            if place == len(self.seg_ids):
                count, place = count + 1, 0
        return count

    def _size(self, row: Row) -> tuple[int, int]:
        if self.frame == "stored" and row.item.geometry:
            return row.item.geometry[0].source
        image = row.item.sample.images[0]
        assert isinstance(image, torch.Tensor)
        return int(image.shape[1]), int(image.shape[2])


def readable(text: str, seg: str) -> str:
    """A text with [SEG] in the place of all tokens of an object, however they are joined.

    Args:
        text: what a model wrote, or was to write.
        seg: a word of `SEG_TOKENS`.
    """
    tokens, joint = SEG_TOKENS[seg]
    for between in dict.fromkeys((joint, "", " ")):
        text = text.replace(between.join(tokens), SEG)
    return text


def _id(tokenizer: Any, token: str) -> int:
    # By name, never by encoding: with some tokenizers that would put a space's id in front.
    if hasattr(tokenizer, "token_to_id"):
        found = tokenizer.token_to_id(token)
    else:
        found = tokenizer.convert_tokens_to_ids(token)
        if found == getattr(tokenizer, "unk_token_id", None):
            found = None
    if found is None:
        raise UserError(
            f"the tokenizer has no token {token!r}: add it (tokenizer.add_tokens) and give the "
            "language model a row for it."
        )
    return int(found)


def _mask(instance: Instance, row: Row) -> np.ndarray:
    if instance.mask is None:
        who = row.item.sample.meta.get("id", row.item.index)
        raise SampleError(
            f"instance {instance.id} of sample {who!r} has no mask, which its {SEG} asks for."
        )
    return instance.mask


def _boxes(objects: Sequence[Instance]) -> torch.Tensor:
    rows = [o.box if o.box is not None else (float("nan"),) * 4 for o in objects]
    return torch.tensor(rows, dtype=torch.float32).reshape(len(rows), 4)


def _row_of(instance: Instance, row: Row, places: Sequence[int]) -> int:
    if instance.image_id not in row.shown:
        raise SampleError(
            f"instance {instance.id} lies in image {instance.image_id}, which its dialogue does "
            "not show."
        )
    return places[row.shown.index(instance.image_id)]
