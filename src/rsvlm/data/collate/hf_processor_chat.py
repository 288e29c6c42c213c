"""Dialogues through a processor of transformers: its chat template, its image places, its pixels.

The processor that a model was published with writes the prompt and prepares each image; ours puts
the two together, so that windows, labels, boxes and questions of data sets work as for any model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor

from rsvlm.data.as_stored import seen_through
from rsvlm.data.collate.chat import ChatCollate, Row
from rsvlm.data.collate.chat_batch import ChatBatch, padded
from rsvlm.data.geometry import Geometry
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import SampleError
from rsvlm.data.text.dialogue_encoder import Pairs, Writer, Written
from rsvlm.data.text.prompt_formats import Format
from rsvlm.data.text.tokenization import IGNORE, Encoder
from rsvlm.data.transforms import to_pil
from rsvlm.errors import UserError

#: The template is the processor's own; this says what else a collate asks of a format.
TEMPLATE = Format(name="chat_template", user="", first="", next="", answer="")


@dataclass(slots=True)
class Seen:
    """An image as the processor prepares it.

    Attributes:
        ids: what stands at its place.
        beside: further ids of these positions, by name (`mm_token_type_ids`).
        inputs: what the model takes of it (`pixel_values`, `image_grid_thw`, ...), with a first
            dimension.
    """

    ids: list[int]
    beside: dict[str, list[int]]
    inputs: dict[str, Tensor]


@dataclass(slots=True)
class Templated(Written):
    """A dialogue in ids, with what the model takes beside them.

    Attributes:
        beside: as in `Seen`, for the prompt.
        seen: its images in the order of their places.
    """

    beside: dict[str, list[int]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)


@dataclass(slots=True)
class TemplateBatch(ChatBatch):
    """A `ChatBatch` whose images are a processor's tensors; its `images` is empty.

    Attributes:
        inputs: what the model takes beside `input_ids` and `attention_mask`: images in the order
            of the places in the rows, an image that several rows show once for each.
    """

    inputs: dict[str, Tensor]

    def _map(self, function: Callable[[Tensor], Tensor]) -> TemplateBatch:
        names = [f.name for f in fields(self) if isinstance(getattr(self, f.name), Tensor)]
        moved: dict[str, Any] = {name: function(getattr(self, name)) for name in names}
        return replace(self, **moved, inputs={n: function(v) for n, v in self.inputs.items()})


class TemplateWriter(Writer):
    """Writes dialogues by a chat template.

    The whole dialogue is written once; the answers are found in it as what follows the same
    dialogue written up to there with the mark for an answer behind it.

    Args:
        processor: of transformers, with a chat template.
        ends: ids that end an answer. A last answer that the template leaves open gets the first
            one, so that the model learns to end.
        max_length: longest row in tokens, those of images included.

    Raises:
        UserError: the processor has no chat template, or one that has no place for an image.
    """

    def __init__(self, processor: Any, ends: Collection[int], max_length: int | None) -> None:
        self.processor, self.ends = processor, list(ends)
        tokenizer = processor.tokenizer
        super().__init__(Encoder(tokenizer, eos_id=self.ends[0]), TEMPLATE, max_length=max_length)
        if not getattr(processor, "chat_template", None):
            raise UserError(
                "this processor has no chat template, so nothing says how it is asked: give "
                "model.lm.processor=<the folder of an instruct model>."
            )
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                "this tokenizer does not say where its tokens stand in a text, which finds the "
                "answers in a chat template: give a folder with tokenizer.json."
            )
        shown = self.template([{"role": "user", "content": [{"type": "image"}]}], open_end=True)
        words = [
            word
            for name in ("image_token", "boi_token", "start_image_token")
            if (word := getattr(processor, name, None)) and str(word) in shown
        ]
        if not words:
            raise UserError(
                "the processor's chat template has no place for an image; it is a text model's. "
                "Give model.lm.processor=<the folder of a model of images and text>."
            )
        self.place = str(words[0])
        self.place_id: int = tokenizer.convert_tokens_to_ids(self.place)
        self.marks = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        bare = tokenizer("a", add_special_tokens=False)["input_ids"]
        whole = tokenizer("a")["input_ids"]
        self.front: list[int] = whole[: max(0, len(whole) - len(bare))] if whole != bare else []
        if self.front and whole[len(self.front) :] != bare:
            self.front = []  # what it adds, it adds behind

    def template(self, messages: Sequence[Mapping[str, Any]], *, open_end: bool) -> str:
        """Messages as the chat template writes them; open_end asks for an answer."""
        text = self.processor.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=open_end
        )
        return str(text)

    def look_at(self, image: Any) -> Seen:
        """One image through the processor.

        Args:
            image: uint8 [3, H, W] or a picture.

        Raises:
            UserError: the processor puts plain text around an image, which would be cut into other
                tokens behind a word than alone (Gemma 3).
        """
        found = self.processor(
            text=[self.place],
            images=[[to_pil(image)]],
            return_tensors="pt",
            add_special_tokens=False,
        )
        ids = found.pop("input_ids")
        found.pop("attention_mask", None)
        begin = self.processor.tokenizer.bos_token_id
        if ids.shape[1] > 1 and int(ids[0, -1]) == begin:
            ids = ids[:, :-1]  # Mllama's begins the text behind its images
        for token in (int(ids[0, 0]), int(ids[0, -1])):
            if token not in self.marks:
                raise UserError(
                    f"a {type(self.processor).__name__} puts plain text around an image, so that "
                    "prompts cannot be put together from its parts; this family is not supported."
                )
        beside = {
            name: value
            for name, value in found.items()
            if value.shape == ids.shape
            and value.dtype == torch.long
            and not name.startswith("aspect_ratio")  # Mllama's, of the image and not of its place
        }
        rest = {name: value for name, value in found.items() if name not in beside}
        return Seen(ids[0].tolist(), {n: v[0].tolist() for n, v in beside.items()}, rest)

    def _whole(
        self, pairs: Pairs, images: Mapping[int, Any], system: str | None, open_end: bool
    ) -> Templated:
        messages: list[dict[str, Any]] = []
        if system:
            messages.append({"role": "system", "content": [_said(system)]})
        shown: list[Seen] = []
        spans: list[tuple[int, int]] = []
        said: list[str] = []
        text = ""
        for k, (asked, answer) in enumerate(pairs):
            places = [{"type": "image"} for _ in asked.image_ids]
            messages.append({"role": "user", "content": [*places, _said(asked.text)]})
            shown += [images[i] for i in asked.image_ids]
            said.append(asked.text)
            text = start = self.template(messages, open_end=True)
            if answer is None or (open_end and k == len(pairs) - 1):
                break
            messages.append({"role": "assistant", "content": [_said(answer.text)]})
            text = self.template(messages, open_end=False)
            if not text.startswith(start):
                raise UserError(
                    "the chat template writes an answer otherwise than it asks for one, so that "
                    f"the answers cannot be told from the prompt: {start[-60:]!r}, then "
                    f"{text[-60:]!r}."
                )
            spans.append((len(start), len(text)))
            if k < len(pairs) - 1:
                said.append(answer.text)
        return self._ids(pairs, text, spans, shown, " ".join(said), closed=not open_end)

    def _ids(
        self,
        pairs: Pairs,
        text: str,
        spans: Sequence[tuple[int, int]],
        shown: Sequence[Seen],
        prompt: str,
        *,
        closed: bool,
    ) -> Templated:
        if closed and spans:  # what stands behind the last answer is no part of it
            text = text.rstrip()
        tokens, starts = self.encoder.encode(text)
        assert starts is not None
        supervised = [False] * len(tokens)
        for first, last in spans:
            inside = [n for n, at in enumerate(starts) if first <= at < last]
            ended = next((n for n in inside if tokens[n] in self.ends), None)
            for n in inside:
                supervised[n] = ended is None or n <= ended
            if (first, last) == spans[-1] and closed:
                stop = ended if ended is not None else len(tokens) - 1
                tokens, supervised = tokens[: stop + 1], supervised[: stop + 1]
                if ended is None:
                    tokens, supervised = [*tokens, self.ends[0]], [*supervised, True]
        if self.front and tokens[: len(self.front)] != self.front:
            tokens = [*self.front, *tokens]
            supervised = [False] * len(self.front) + supervised
        if tokens.count(self.place_id) != len(shown):
            raise SampleError(
                f"its text has {tokens.count(self.place_id)} places of images ({self.place}) for "
                f"{len(shown)} images."
            )
        return self._placed(pairs, tokens, supervised, shown, prompt, closed=closed)

    def _placed(
        self,
        pairs: Pairs,
        tokens: Sequence[int],
        supervised: Sequence[bool],
        shown: Sequence[Seen],
        prompt: str,
        *,
        closed: bool,
    ) -> Templated:
        ids: list[int] = []
        labels: list[int] = []
        beside: dict[str, list[int]] = {name: [] for seen in shown[:1] for name in seen.beside}
        waiting = iter(shown)
        for token, counts in zip(tokens, supervised, strict=True):
            seen = next(waiting) if token == self.place_id else None
            new = [token] if seen is None else seen.ids
            ids += new
            labels += [token] if counts else [IGNORE] * len(new)
            for name, row in beside.items():
                row += [0] if seen is None else seen.beside[name]
        end = len(ids)
        if closed:
            end = next((n for n in range(len(ids), 0, -1) if labels[n - 1] == IGNORE), 0)
        return Templated(
            pairs,
            ids[:end],
            labels[:end] if closed else [IGNORE] * end,
            ids[end:],
            prompt,
            beside={name: row[:end] for name, row in beside.items()},
            seen=list(shown),
        )


class TemplateCollate(ChatCollate):
    """Turns what a `TransformedDataset` gives into the batch of a model of transformers.

    Args:
        processor: of transformers.
        ends: see `TemplateWriter`.
        place: where the processor puts the pixels of an image of (high, wide); None where it keeps
            the image whole and boxes are fractions of it.
        max_length: longest row in tokens, those of images included.
        generation: leave the last answer to the model and pad left.
        **options: of `ChatCollate`.

    Raises:
        UserError: see `TemplateWriter`.
    """

    def __init__(
        self,
        processor: Any,
        *,
        ends: Collection[int],
        place: Callable[[int, int], Geometry] | None = None,
        max_length: int | None = None,
        generation: bool = False,
        **options: Any,
    ) -> None:
        writer = TemplateWriter(processor, ends, max_length)
        marks = {"placeholders": (writer.place, processor.tokenizer.eos_token)}
        super().__init__(
            processor.tokenizer,
            format=TEMPLATE,
            generation=generation,
            image_token_id=writer.place_id,
            eos_id=writer.ends[0],
            **{**marks, **options},
        )
        self.writer = self.by_template = writer
        self.place = place
        self._seen: dict[int, Seen] = {}

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> TemplateBatch:
        """Collates; see `ChatCollate`.

        Raises:
            SampleError: nothing left of a training batch.
            UserError: a mirrored or turned image of a question on places.
        """
        try:
            rows = self.rows([self._moved(item) for item in items])
            return TemplateBatch(**self.fields(*rows))
        finally:
            self._seen = {}  # an image's id holds as long as the items do

    def _moved(self, item: TransformedSample | Skipped) -> TransformedSample | Skipped:
        """The item with the processor's own step behind what was done to its images."""
        if isinstance(item, Skipped) or self.place is None:
            return item
        return seen_through(item, self.place)

    def _places(self, image: Any) -> Seen:
        if id(image) not in self._seen:
            self._seen[id(image)] = self.by_template.look_at(image)
        return self._seen[id(image)]

    def pictures(self, rows: Sequence[Row]) -> tuple[Tensor, list[tuple[int, ...]]]:
        """No images, as the processor has prepared them."""
        return torch.empty(0, 3, 0, 0, dtype=torch.uint8), [() for _ in rows]

    def fields(self, rows: Sequence[Row], skipped: list[str], lost: int) -> dict[str, Any]:
        """The fields of a `TemplateBatch`."""
        found = super().fields(rows, skipped, lost)
        written = [row.written for row in rows if isinstance(row.written, Templated)]
        names = dict.fromkeys(name for row in written for name in row.beside)
        inputs: dict[str, Tensor] = {}
        for name in names:
            lines = [
                (row.beside.get(name) or [0] * len(row.prompt)) + [0] * len(row.answer)
                for row in written
            ]
            inputs[name] = padded(lines, 0, left=self.generation)
        inputs |= joined([seen.inputs for row in written for seen in row.seen])
        return found | {"inputs": inputs}


def joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of several images as one, filled up with zeros where images differ in size.

    Args:
        parts: for each image, tensors with a first dimension of images, tiles or patches.
    """
    out: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        tensors = [part[name] for part in parts]
        largest = [max(sizes) for sizes in zip(*(t.shape[1:] for t in tensors), strict=True)]
        filled = []
        for tensor in tensors:
            full = tensor.new_zeros(len(tensor), *largest)
            full[tuple(slice(size) for size in tensor.shape)] = tensor
            filled.append(full)
        out[name] = torch.cat(filled)
    return out


def _said(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}
