"""From dialogues to one batch: ids, labels on answers, images, and what a Q-Former reads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from rsvlm.data.collate.chat_batch import ChatBatch, padded
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.sample import Instance, SampleError
from rsvlm.data.text.dialogue_encoder import Writer, Written
from rsvlm.data.text.prompt_formats import LOST, Dialogue, Format, dialogues, paired, prompt_format
from rsvlm.data.text.tokenization import IGNORE, Encoder
from rsvlm.errors import UserError, near

__all__ = ["PLACES", "ChatBatch", "ChatCollate", "Row", "asked"]

#: Kinds whose questions or answers say left, right, top or bottom.
PLACES = frozenset({"location", "place"})


@dataclass(slots=True)
class Row:
    """One dialogue before it becomes a row of a batch.

    Attributes:
        item: the sample behind it.
        written: its ids.
        instances: ids of the instances that its answers speak of, in order.
    """

    item: TransformedSample
    written: Written
    instances: tuple[int, ...]

    @property
    def shown(self) -> tuple[int, ...]:
        """Positions of the images in the sample, in order."""
        return tuple(i for asked, _ in self.written.pairs for i in asked.image_ids)


class ChatCollate:
    """Writes dialogues in a system's format and turns them into ids.

    Truncation: with `question`, history goes first (oldest first; its images stay), then the end of
    the answer; a question that alone is too long is skipped and counted. With `published`, the
    first `max_words` words are kept, then tokens are cut on the side that the published code cuts,
    history before question or not.

    Args:
        tokenizer: the language model's: of transformers, of tokenizers, or with `encode`.
        format: a word of data/prompts/formats.json, or a `Format`.
        generation: leave the last answer to the model and pad left.
        image_token_id: the id at an image's place; None for images that come as a prefix.
        image_tokens: ids at an image's place: a number, or a function of the image [3, H, W].
        max_length: longest row in tokens, with those at images' places; a prefix comes on top.
        max_prompt: longest prompt in tokens.
        max_answer: longest answer in tokens.
        max_words: longest prompt in words.
        truncation: see above.
        clean: `none`, or `blip` to clean questions and answers as LAVIS does.
        which: `one` dialogue of a sample at random, that many of them, or `all`; by default one in
            training.
        kinds: keep to dialogues of these task words.
        instructions: makes the dialogues of an item from its captions, boxes, masks and turns (see
            `data.text.instructions`), with a generator of its own; by default its turns as they
            are.
        system: instead of the format's system text.
        qformer: a Q-Former's tokenizer (truncated left, with its own marks).
        max_instruction: longest instruction in the Q-Former's tokens.
        identifiers: all task identifiers that the model knows, as `[refer]`; a question that begins
            with another one cannot be asked. None takes any.
        placeholders: words that stand for images in other programs' prompts and that no text may
            hold.
        pad_id, bos_id, eos_id: where the tokenizer does not know them.

    Raises:
        UserError: an unknown option, or a number of image tokens without their id.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        format: str | Format = "vicuna_v1",
        generation: bool = False,
        image_token_id: int | None = None,
        image_tokens: int | Callable[[torch.Tensor], int] = 1,
        max_length: int | None = None,
        max_prompt: int | None = None,
        max_answer: int | None = None,
        max_words: int | None = None,
        truncation: Literal["question", "published"] = "question",
        clean: Literal["none", "blip"] = "none",
        which: Literal["one", "all"] | int | None = None,
        kinds: Container[str] | None = None,
        instructions: Callable[[TransformedSample, np.random.Generator], list[Dialogue]]
        | None = None,
        system: str | None = None,
        qformer: Any = None,
        max_instruction: int = 128,
        identifiers: Collection[str] | None = None,
        placeholders: Sequence[str] = (),
        pad_id: int | None = None,
        bos_id: int | None = None,
        eos_id: int | None = None,
    ) -> None:
        for what, word, known in (
            ("truncation", truncation, ("question", "published")),
            ("clean", clean, ("none", "blip")),
            ("which", "all" if which is None or _number(which) else which, ("one", "all")),
        ):
            if word not in known:
                raise UserError(f"{what}={word!r} is not known. {near(str(word), known)}")
        if image_token_id is None and "{image}" in _format(format).image and image_tokens != 1:
            raise UserError("image_tokens= needs image_token_id=, the id at an image's place.")
        self.encoder = Encoder(tokenizer, pad_id=pad_id, bos_id=bos_id, eos_id=eos_id)
        self.format = _format(format)
        self.writer = Writer(
            self.encoder,
            self.format,
            clean=clean,
            truncation=truncation,
            image_token_id=image_token_id,
            max_length=max_length,
            max_prompt=max_prompt,
            max_answer=max_answer,
            max_words=max_words,
        )
        self.generation, self.image_tokens = generation, image_tokens
        self.which = which if which is not None else ("all" if generation else "one")
        most = 1 if self.which == "one" else self.which
        self.most = None if most == "all" else int(most)
        self.kinds = frozenset(kinds) if isinstance(kinds, Sequence) else kinds
        self.instructions, self.system = instructions, system
        self.qformer = None if qformer is None else Encoder(qformer)
        self.max_instruction = max_instruction
        self.identifiers = None if identifiers is None else sorted(identifiers)
        self.placeholders = tuple(placeholders)

    def __call__(self, items: Sequence[TransformedSample | Skipped]) -> ChatBatch:
        """Collates what a `TransformedDataset` gives.

        A sample without dialogue, or whose turns are out of order, is skipped and counted.

        Raises:
            SampleError: images of several sizes, or nothing left of a training batch.
            UserError: a mirrored or turned image of a question on places (`PLACES`).
        """
        return ChatBatch(**self.fields(*self.rows(items)))

    def rows(
        self, items: Sequence[TransformedSample | Skipped]
    ) -> tuple[list[Row], list[str], int]:
        """The dialogues with their ids, the sentences on what was skipped, how many were lost."""
        rows: list[Row] = []
        skipped: list[str] = []
        lost = 0
        for item in items:
            if isinstance(item, Skipped):
                skipped.append(item.reason)
                continue
            skipped.extend(item.skipped)
            try:
                kept, gone = self._choose(item)
            except SampleError as error:
                skipped.append(f"{_who(item)}: {error}")
                continue
            lost += gone
            for dialogue in kept:
                try:
                    rows.append(self._row(item, dialogue))
                except SampleError as error:
                    skipped.append(f"{_who(item)}: {error}")
        if not rows and items and not self.generation:
            raise SampleError(
                f"no dialogue of a training batch can be used ({lost} lost their objects to the "
                f"crop): {' '.join(skipped[:5])}"
            )
        return rows, skipped, lost

    def _choose(self, item: TransformedSample) -> tuple[list[Dialogue], int]:
        # A stream of its own beside that of the view.
        draws = np.random.default_rng(np.random.SeedSequence((*item.key, 2)))
        found = self.instructions(item, draws) if self.instructions else dialogues(item.sample)
        if not found and self.generation and self.kinds is not None:
            return [], 0  # a sample that an evaluation of some kinds asks nothing of
        if not found:
            hint = (
                "instructions make questions of its captions and boxes"
                if item.sample.texts
                else "is this a data set of dialogues?"
            )
            raise SampleError(f"it has no turns; {hint}.")
        # A model is asked all the same, and measured on the image as stored.
        gone = set() if self.generation else {LOST, *item.lost}
        whole = [d for d in found if not any(gone & set(turn.instance_ids) for turn in d)]
        lost = len(found) - len(whole)
        if self.kinds is not None:
            whole = [d for d in whole if _kind(d) in self.kinds]
        if self.most == 1 and len(whole) > 1:
            whole = [whole[int(draws.integers(len(whole)))]]
        elif self.most is not None and len(whole) > self.most:
            chosen = draws.choice(len(whole), self.most, replace=False)
            whole = [whole[i] for i in sorted(chosen)]
        return whole, lost

    def _row(self, item: TransformedSample, dialogue: Dialogue) -> Row:
        system, pairs = paired(dialogue, _who(item))
        if not self.generation and pairs[-1][1] is None:
            raise SampleError("its last question has no answer, so nothing can be learnt from it.")
        unasked = bool(self.format.bare) or self.format.name in ("plain", "fromage")
        if not pairs[-1][0].text.strip() and not unasked:
            raise SampleError("its question is empty.")
        for asked, answer in pairs:
            self._allow(asked.text)
            self._allow(answer.text if answer else "", identifier=False)
        shown = {i for asked, _ in pairs for i in asked.image_ids}
        turned = any(not item.geometry[i].upright for i in shown if item.geometry)
        if turned and not self.generation and _kind(dialogue) in PLACES:
            raise UserError(
                f"data.augment mirrors or turns images, and {_who(item)} asks for places "
                f"({_kind(dialogue)}): its answer would be wrong. Set data.augment.hflip=false "
                "data.augment.vflip=false data.augment.rotation=none, or leave these kinds out "
                "with kinds=."
            )
        images = {i: self._places(item.sample.images[i]) for i in shown}
        written = self.writer.write(
            pairs,
            images,
            system=self.system if system is None else system,
            open_end=self.generation,
        )
        instances = tuple(
            i for _, said in written.pairs if said is not None for i in said.instance_ids
        )
        return Row(item, written, instances)

    def _allow(self, text: str, *, identifier: bool = True) -> None:
        held = [word for word in self.placeholders if word in text]
        if held:
            raise SampleError(
                f"its text holds the image placeholder {held[0]}: leave it out, images get their "
                f"places from Turn.image_ids: {text[:80]!r}."
            )
        found = re.match(r"\s*(\[[A-Za-z_ ]{2,40}\])", text) if identifier else None
        if found and self.identifiers is not None and found[1] not in self.identifiers:
            raise SampleError(
                f"the model knows no task {found[1]}. {near(found[1], self.identifiers)} It knows "
                f"{', '.join(self.identifiers)}."
            )

    def _places(self, image: Any) -> Any:
        """What the writer must know of an image: how many ids stand at its place."""
        return self.image_tokens if isinstance(self.image_tokens, int) else self.image_tokens(image)

    # The batch ----------------------------------------------------------------------------

    def fields(self, rows: Sequence[Row], skipped: list[str], lost: int) -> dict[str, Any]:
        """The fields of a `ChatBatch`."""
        images, places = self.pictures(rows)
        ids = [row.written.prompt + row.written.answer for row in rows]
        labels = [row.written.prompt_labels + row.written.answer for row in rows]
        if self.generation:
            labels = [[IGNORE] * len(row) for row in ids]
        ends = [row.written.pairs[-1] for row in rows]
        instructions = [
            row.written.text if self.format.instruction == "prompt" else asked.text
            for row, (asked, _) in zip(rows, ends, strict=True)
        ]
        read, read_mask = self._read(instructions)
        answers = ["" if said is None else said.text for _, said in ends]
        pad = self.encoder.marks.pad
        return {
            "images": images,
            "image_rows": places,
            "input_ids": padded(ids, pad, left=self.generation),
            "attention_mask": padded([[1] * len(row) for row in ids], 0, left=self.generation),
            "labels": padded(labels, IGNORE, left=self.generation),
            "prompts": [row.written.text for row in rows],
            "answers": answers,
            "references": [
                list(row.item.sample.texts)
                if row.item.sample.texts and asked.kind == "caption"
                else ([answer] if answer else [])
                for row, (asked, _), answer in zip(rows, ends, answers, strict=True)
            ],
            "instructions": instructions,
            "instruction_ids": read,
            "instruction_mask": read_mask,
            "targets": [_spoken_of(row) for row in rows],
            "kinds": [asked.kind for asked, _ in ends],
            "index": torch.tensor([row.item.index for row in rows], dtype=torch.long),
            "ids": [str(row.item.sample.meta.get("id", row.item.index)) for row in rows],
            "geometry": [
                tuple(row.item.geometry[i] for i in row.shown) if row.item.geometry else ()
                for row in rows
            ],
            "truncated": sum(row.written.truncated for row in rows),
            "lost": lost,
            "skipped": skipped,
        }

    def pictures(self, rows: Sequence[Row]) -> tuple[torch.Tensor, list[tuple[int, ...]]]:
        """The images of a batch, and for each row where its own are."""
        return _images(rows)

    def _read(self, texts: list[str]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        if self.qformer is None:
            return None, None
        marks = self.qformer.marks
        first = [] if marks.cls is None else [marks.cls]
        last = [] if marks.sep is None else [marks.sep]
        room = self.max_instruction - len(first) - len(last)
        rows = [[*first, *self.qformer.encode(text)[0][-room:], *last] for text in texts]
        mask = padded([[1] * len(row) for row in rows], 0)
        return padded(rows, marks.pad), mask


def _images(rows: Sequence[Row]) -> tuple[torch.Tensor, list[tuple[int, ...]]]:
    """All different images once, and for each dialogue where its own are."""
    places: dict[tuple[int, int], int] = {}
    known: dict[bytes, int] = {}
    images: list[torch.Tensor] = []
    shown: list[tuple[int, ...]] = []
    for row in rows:
        mine: list[int] = []
        for i in row.shown:
            key = (id(row.item), i)
            if key not in places:
                image = row.item.sample.images[i]
                if not isinstance(image, torch.Tensor) or (
                    images and image.shape != images[0].shape
                ):
                    size = list(image.shape) if isinstance(image, torch.Tensor) else "no tensor"
                    raise SampleError(
                        f"image {i} of {_who(row.item)} ({size}) does not go into one batch. A "
                        "transform that gives one size (Squash, Pad, Preprocess, Augment) belongs "
                        "before the collate."
                    )
                # Questions on one picture may be samples of their own.
                digest = hashlib.blake2b(image.numpy().tobytes()).digest()
                places[key] = known.setdefault(digest, len(images))
                if places[key] == len(images):
                    images.append(image)
            mine.append(places[key])
        shown.append(tuple(mine))
    if not images:
        return torch.empty(0, 3, 0, 0, dtype=torch.uint8), shown
    return torch.stack(images), shown


def _number(which: Any) -> bool:
    return isinstance(which, int) and not isinstance(which, bool) and which > 0


def _format(format: str | Format) -> Format:
    return prompt_format(format) if isinstance(format, str) else format


def _spoken_of(row: Row) -> list[Instance]:
    """The instances of the last answer as stored, without their masks."""
    said = row.written.pairs[-1][1]
    known = {i.id: i for i in row.item.stored or row.item.sample.instances}
    ids = said.instance_ids if said is not None else ()
    return [replace(known[i], mask=None) for i in ids if i in known]


def _kind(dialogue: Dialogue) -> str | None:
    return next((turn.kind for turn in dialogue if turn.role == "user"), None)


def _who(item: TransformedSample) -> str:
    meta = item.sample.meta
    of = f" of {meta['dataset']!r}" if "dataset" in meta else ""
    return f"sample {meta.get('id', item.index)!r}{of}"


def asked(kinds: Container[str] | Literal["all"] | None) -> dict[str, Any]:
    """The option of `ChatCollate` for the kinds that somebody asks for; none leaves it as it is."""
    return {} if kinds is None else {"kinds": None if kinds == "all" else kinds}
