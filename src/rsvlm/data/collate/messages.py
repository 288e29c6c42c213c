"""Dialogues as messages of OpenAI's form, for models behind an endpoint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rsvlm.data.as_stored import seen_through
from rsvlm.data.collate.chat import ChatCollate, Row
from rsvlm.data.collate.chat_batch import ChatBatch
from rsvlm.data.geometry import identity
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.text.dialogue_encoder import Pairs, Writer, Written
from rsvlm.data.text.prompt_formats import Format
from rsvlm.data.text.tokenization import IGNORE, Encoder
from rsvlm.data.transforms import to_pil

#: The endpoint writes the prompt; this says what else a collate asks of a format.
MESSAGES = Format(name="messages", user="", first="", next="", answer="")


class Bytes:
    """A tokenizer of UTF-8's bytes: an endpoint's own is not known."""

    pad_token_id = eos_token_id = 256

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return list(text.encode())

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """The text of ids."""
        return bytes(i for i in ids if i < 256).decode(errors="replace")


@dataclass(slots=True)
class WrittenMessages(Written):
    """A dialogue as messages; its ids are the bytes of its texts."""

    messages: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class MessageBatch(ChatBatch):
    """A `ChatBatch` whose dialogues are messages with their pictures; its `images` is empty.

    Attributes:
        messages: for each dialogue.
    """

    messages: list[list[dict[str, Any]]]


class MessageWriter(Writer):
    """Writes dialogues as messages: a question's pictures, then its text."""

    def _whole(
        self, pairs: Pairs, images: Mapping[int, Any], system: str | None, open_end: bool
    ) -> WrittenMessages:
        messages: list[dict[str, Any]] = []
        if system:
            messages.append({"role": "system", "content": system})
        said: list[str] = [system or ""]
        for n, (asked, answer) in enumerate(pairs):
            content = [
                {"type": "image_url", "image_url": {"url": images[i]}} for i in asked.image_ids
            ]
            content.append({"type": "text", "text": asked.text})
            messages.append({"role": "user", "content": content})
            said.append(asked.text)
            if answer is None or n == len(pairs) - 1:
                break
            messages.append({"role": "assistant", "content": answer.text})
            said.append(answer.text)
        text = " ".join(part for part in said if part)
        ids, _ = self.encoder.encode(text)
        return WrittenMessages(pairs, ids, [IGNORE] * len(ids), [], text, messages=messages)


class MessageCollate(ChatCollate):
    """Turns what a `TransformedDataset` gives into messages.

    Args:
        picture: from a picture to its address (`clients.pictures`).
        size: height and width as sent, of those as stored; boxes are counted there.
        max_length: longest dialogue in bytes of its texts; what goes first is history.
        **options: of `ChatCollate`.
    """

    def __init__(
        self,
        *,
        picture: Callable[[Any], str],
        size: Callable[[int, int], tuple[int, int]],
        max_length: int | None = None,
        **options: Any,
    ) -> None:
        tokenizer = Bytes()
        super().__init__(tokenizer, format=MESSAGES, generation=True, **options)
        self.writer = MessageWriter(Encoder(tokenizer), MESSAGES, max_length=max_length)
        self.picture, self.size = picture, size
        self._sent: dict[int, str] = {}

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> MessageBatch:
        """Collates; see `ChatCollate`."""
        try:
            rows, skipped, lost = self.rows([self._moved(item) for item in items])
            written = [row.written for row in rows]
            messages = [one.messages for one in written if isinstance(one, WrittenMessages)]
            return MessageBatch(**self.fields(rows, skipped, lost), messages=messages)
        finally:
            self._sent = {}  # an image's id holds as long as the items do

    def _moved(self, item: TransformedSample | Skipped) -> TransformedSample | Skipped:
        if isinstance(item, Skipped):
            return item
        return seen_through(item, lambda h, w: identity(h, w).resize(*self.size(h, w)))

    def _places(self, image: Any) -> str:
        if id(image) not in self._sent:
            self._sent[id(image)] = self.picture(to_pil(image))
        return self._sent[id(image)]

    def pictures(self, rows: Sequence[Row]) -> tuple[Tensor, list[tuple[int, ...]]]:
        """No images, as the messages hold them."""
        return torch.empty(0, 3, 0, 0, dtype=torch.uint8), [() for _ in rows]
