"""A chat model that answers with masks: [SEG] tokens in its words, a mask for each run of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.data.collate.chat import asked
from rsvlm.data.collate.pixel import SEG_TOKENS, PixelCollate, readable
from rsvlm.data.sample import Answer
from rsvlm.data.text.segment_templates import SegmentTemplates
from rsvlm.encoders.generation import Generated, generate
from rsvlm.errors import UserError
from rsvlm.models.chat_vlm import ChatVLM
from rsvlm.models.extra_token import ExtraToken
from rsvlm.models.pixel.classes import ClassNames, memory_mismatch
from rsvlm.models.pixel.placing import as_seen, as_stored, coarse
from rsvlm.models.pixel.runs import whole_runs
from rsvlm.models.pixel.words import with_new_words
from rsvlm.models.protocols import Kinds
from rsvlm.nn.length_buckets import in_shards, most_of_all
from rsvlm.nn.mask_predictor import MaskPredictor, mask_scores
from rsvlm.nn.packing import keys_of, pack


class PixelModel(ChatVLM):
    """What GeoPix, LISA and PixelLM share; a family gives the features that masks are drawn from.

    The hidden states behind a mask are those that its tokens were predicted from, in training and
    in generation alike.

    Args:
        vision: see `ChatVLM`.
        bridge: see `ChatVLM`.
        lm: a `LanguageModel`.
        masks: a `MaskPredictor`.
        seg: what an object is written as: a word of `data.collate.pixel.SEG_TOKENS`.
        marks: further new words, behind the tokens of an object.
        first_id: id of the first new word; None for the first that the tokenizer leaves free.
        classes: names of the memory's classes, in its order; none for a model without a memory.
        fallback: the class of an object of which nothing says another; None takes the last.
        **options: of `ChatVLM`; `generation` may have `classes`, see `generate`.

    Raises:
        UserError: a memory of another number of classes.
    """

    templates = SegmentTemplates
    several_pictures = False
    variant: str | None = None

    def __init__(
        self,
        vision: nn.Module,
        bridge: Any,
        lm: nn.Module,
        masks: MaskPredictor,
        *,
        seg: str,
        marks: Sequence[str] = (),
        first_id: int | None = None,
        classes: Sequence[str] = (),
        fallback: str | None = None,
        **options: Any,
    ) -> None:
        generation = dict(options.pop("generation", None) or {})
        #: Classes of the objects of each answer, as the user says.
        self.said: Sequence[str] = generation.pop("classes", None) or ()
        super().__init__(vision, bridge, lm, generation=generation, **options)
        self.seg, self.new_words = seg, [*SEG_TOKENS[seg][0], *marks]
        self.new = ExtraToken(lm, len(self.new_words))
        self.masks = masks
        self._first, self._words = first_id, None
        memory = self.masks.memory
        self.remembers = memory is not None and memory.variant != "none"
        self.classes = ClassNames(classes, fallback) if classes else None
        if self.remembers and len(classes) != memory.classes:  # type: ignore[union-attr]
            raise UserError(
                f"model.classes names {len(classes)} classes and the memory has "
                f"{memory.classes}: they must be as many (model.memory.classes=)."  # type: ignore[union-attr]
            )
        self.train(self.training)

    @property
    def initial(self) -> Sequence[str]:
        """Names that a published file may lack because its training left them as they were made."""
        return ()

    # Words --------------------------------------------------------------------------------

    @property
    def first_id(self) -> int:
        """The id of the first new word."""
        if self._first is None:
            self._first = len(self.lm.tokenizer)
        return self._first

    @property
    def seg_ids(self) -> list[int]:
        """Ids of the tokens of an object, in order."""
        return [self.first_id + i for i in range(len(SEG_TOKENS[self.seg][0]))]

    @property
    def tokenizer(self) -> Any:
        """The language model's, with the new words.

        Raises:
            UserError: it has one of them, or other words at their ids.
        """
        if self._words is None:
            self._words = with_new_words(self.lm.tokenizer, self.new_words, self.first_id)
        return self._words

    def embed_words(self, input_ids: Tensor) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L], the new words among them."""
        return self.new.embed(self.lm, input_ids, self.first_id)

    def decode(self, ids: list[int]) -> str:
        """The text of generated ids, [SEG] where an object is."""
        return readable(self.tokenizer.decode(ids, skip_special_tokens=True).strip(), self.seg)

    def collate(
        self,
        training: bool,
        *,
        kinds: Kinds = None,
        instructions: Mapping[str, Any] | None = None,
    ) -> PixelCollate:
        """See `ChatVLM.collate`; with the masks of the objects that answers point at."""
        options = self._collate_options(training, instructions)
        return PixelCollate(
            self.tokenizer, seg=self.seg, **{**options, **self._chosen(training), **asked(kinds)}
        )

    # What a family gives ------------------------------------------------------------------

    @abstractmethod
    def mask_features(self, batch: Any, tokens: Tensor) -> list[Tensor]:
        """What masks are drawn from: for each level [M, dim, grid, grid].

        Args:
            batch: a `PixelBatch`.
            tokens: the tower's, of its M images.
        """

    def place(self, logits: Tensor, batch: Any, row: int, frame: str) -> Tensor:
        """A dialogue's masks over the pixels of its image [n, H, W].

        Args:
            logits: [n, S, S] of the canvas.
            batch: a `PixelBatch`.
            row: which dialogue.
            frame: `seen` or `stored`.
        """
        known = batch.geometry[row]
        if frame == "stored" and known:
            return as_stored(logits, known[0])
        side = tuple(batch.images.shape[-2:])
        return as_seen(logits, side if side[0] else (self.image_size, self.image_size))

    # Training -----------------------------------------------------------------------------

    def forward(self, batch: Any, features: Tensor | None = None) -> dict[str, Any]:
        """Logits of the answers' tokens and of their masks.

        Args:
            batch: a `PixelBatch`, padded on the right.
            features: see `VisionLanguageModel.encode_images`.

        Returns:
            `logits` and `targets` (see `VisionLanguageModel.forward`), and `mask_logits`: for each
            dialogue [n, H, W] at the size of its masks.

        Raises:
            UserError: another number of whole runs of [SEG] tokens than of masks, several images in
                one dialogue, or a class that the memory does not know.
        """
        self._one_image(batch)
        tokens = self.tokens(batch, features)
        visual = self.project(batch, tokens)
        row, plan = self.merge_embeddings(batch, visual), None
        owners = torch.arange(len(batch.input_ids), device=row.labels.device)[:, None]
        owners = owners.expand_as(row.labels)
        if self.packing != "none":
            shared = self.packing == "shared"
            keys = keys_of(batch, visual, self.image_token_id) if shared else None
            owners = pack(replace(row, inputs_embeds=owners[..., None]), keys)[0].inputs_embeds
            owners = owners[..., 0]
            row, plan = pack(row, keys)
        hidden, more = self.lm.states(row.inputs_embeds, row.attention_mask, plan)
        supervised = row.labels[:, 1:] != -100
        states, targets = hidden[:, :-1][supervised], row.labels[:, 1:][supervised]
        head = partial(self.new.logits, self.lm, word=self.first_id)
        outputs: dict[str, Any] = self.lm.head_outputs(head, states, targets) | more
        places = self._objects(targets.tolist(), owners[:, 1:][supervised].tolist(), batch)
        outputs["mask_logits"] = self._learned(batch, tokens, states, places)
        return outputs

    def _objects(self, ids: list[int], owners: list[int], batch: Any) -> list[list[list[int]]]:
        """For each dialogue the places of its objects' tokens among the supervised ones."""
        own: list[list[int]] = [[] for _ in batch.masks]
        for place, owner in enumerate(owners):
            own[owner].append(place)
        found = []
        for i, (places, masks) in enumerate(zip(own, batch.masks, strict=True)):
            runs, _ = whole_runs([ids[place] for place in places], self.seg_ids)
            if len(runs) != len(masks):
                raise UserError(
                    f"dialogue {batch.ids[i]!r} has {len(runs)} objects in its answers and "
                    f"{len(masks)} masks: a format that learns all answers (supervise=all) is "
                    "needed, and the tokenizer must be the model's own."
                )
            found.append([[places[k] for k in run] for run in runs])
        return found

    def _learned(
        self, batch: Any, tokens: Tensor, states: Tensor, places: list[list[list[int]]]
    ) -> list[Tensor]:
        flat = [run for runs in places for run in runs]
        shape = (len(flat), len(self.seg_ids))
        index = torch.tensor(flat, dtype=torch.long, device=states.device).reshape(shape)
        rows = [image for row in batch.instance_rows for image in row]
        found = self.draw(batch, tokens, states[index], rows, self._annotated(batch))
        parts = found.split([len(runs) for runs in places])
        return [self.place(part, batch, i, batch.frame) for i, part in enumerate(parts)]

    def _annotated(self, batch: Any) -> list[int] | None:
        """Classes of a training batch's objects, by name."""
        if not self.remembers or self.classes is None:
            return None
        return [
            self.classes.annotated(name, phrase or "")
            for names, phrases in zip(batch.classes, batch.phrases, strict=True)
            for name, phrase in zip(names, phrases, strict=True)
        ]

    def draw(
        self,
        batch: Any,
        tokens: Tensor,
        states: Tensor,
        rows: Sequence[int],
        classes: Sequence[int] | None,
    ) -> Tensor:
        """Masks of n objects on the canvas, logits [n, S, S].

        Args:
            batch: a `PixelBatch`.
            tokens: the tower's.
            states: [n, tokens of an object, dim] that these were predicted from.
            rows: for each object the row of `batch.images`.
            classes: for each its class in the memory; None without one.
        """
        options: Any = {"dtype": torch.long, "device": states.device}
        prompts = self.masks.prompts(states)
        chosen = None if classes is None else torch.tensor(list(classes), **options)
        images = torch.tensor(list(rows), **options)
        return self.masks(self.mask_features(batch, tokens), prompts, images, chosen).logits

    # Generation ---------------------------------------------------------------------------

    def generate(
        self,
        batch: Any,
        features: Tensor | None = None,
        *,
        classes: Sequence[str] = (),
        **options: Any,
    ) -> list[Answer]:
        """Answers with a mask for each whole run of [SEG] tokens.

        Args:
            batch: a `PixelBatch`, padded on the left.
            features: see `VisionLanguageModel.encode_images`.
            classes: of the objects of each answer, one for all or one for each, for the memory;
                none takes the model's (`model.generation.classes`), else the question's.
            **options: see `VisionLanguageModel.generate`.

        Returns:
            Text, score, boxes, and of each object `masks` at the size of the image as stored,
            `mask_scores`, and `mask_classes` where the model has a memory.

        Raises:
            UserError: several images in one dialogue, a class that the memory does not know; see
                `VisionLanguageModel.generate`.
        """
        self._one_image(batch)
        classes = classes or self.said
        if classes and (self.classes is None or not self.remembers):
            raise UserError("this model has no class memory and reads none: leave classes out.")
        for name in classes:
            self.classes.index(name)  # type: ignore[union-attr]  # before anything is written
        return super().generate(replace(batch, said=list(classes)), features, **options)

    def _texts(self, embedded: Any, options: Mapping[str, Any]) -> list[list[Generated]]:
        own = self.tokenizer
        end, pad = own.eos_token_id, own.pad_token_id
        self.lm.fill_constants()
        return generate(
            self.new.view(self.lm, self.first_id),
            embedded.inputs_embeds.to(self.lm.dtype),
            embedded.attention_mask,
            end,
            end if pad is None else pad,
            options,
            states=True,
        )

    def _answers(
        self, batch: Any, tokens: Tensor, texts: Sequence[Sequence[Generated]]
    ) -> list[Answer]:
        answers = [self._answer(row) for row in texts]
        states: list[Tensor] = []
        rows, counts = list[int](), list[int]()
        chosen: list[tuple[int, str]] = []
        for i, (row, answer) in enumerate(zip(texts, answers, strict=True)):
            best = row[0]
            runs, broken = whole_runs(best.ids, self.seg_ids)
            shown = batch.image_rows[i]
            if broken:
                answer.notes.append(
                    f"{broken} object(s) of the answer lack some [SEG] tokens and have no mask."
                )
            if runs and not shown:
                answer.notes.append("the answer points at objects, and no image was shown.")
                runs = []
            counts.append(len(runs))
            if not runs:
                continue
            assert best.states is not None
            states += [best.states[run] for run in runs]
            rows += [shown[0]] * len(runs)
            if self.remembers and self.classes is not None:
                chosen += self.classes.choose(batch.instructions[i], len(runs), batch.said)
        if not (most_of_all(len(states), tokens.device) if in_shards(self) else states):
            return answers
        classes = [index for index, _ in chosen] if self.remembers else None
        none = tokens.new_zeros(0, len(self.seg_ids), self.lm.dim)  # others draw: a pass of all
        found = self.draw(batch, tokens, torch.stack(states) if states else none, rows, classes)
        scores = mask_scores(found).tolist()
        at = 0
        for i, (answer, part) in enumerate(zip(answers, found.split(counts), strict=True)):
            if not len(part):
                continue
            mine = slice(at, at + len(part))
            at += len(part)
            # One by one: a large image's logits take four bytes a pixel.
            placed = [
                self.place(part[k : k + 1], batch, i, "stored")[0] > 0 for k in range(len(part))
            ]
            answer.masks = [mask.cpu().numpy() for mask in placed]
            answer.mask_scores = scores[mine]
            if self.classes is not None:
                answer.mask_classes = [(self.classes.names[k], how) for k, how in chosen[mine]]
            answer.notes += coarse(placed[0].shape, self.image_size, self.masks.canvas)
        return answers

    def _one_image(self, batch: Any) -> None:
        for i, row in enumerate(batch.image_rows):
            if len(set(row)) > 1:
                raise UserError(
                    f"dialogue {batch.ids[i]!r} shows {len(row)} images, and a "
                    f"{type(self).__name__} draws masks in one: ask about one image at a time."
                )

    # Weights ------------------------------------------------------------------------------

    def checkpoint_facts(self) -> dict[str, Any]:
        """Where the new words lie, so that a checkpoint cannot be read with another tokenizer."""
        known = {"variant": self.variant, "first_id": self._first}
        kept = {word: value for word, value in known.items() if value is not None}
        return {"image_size": self.image_size, **kept}

    def explain_mismatch(self, state: Mapping[str, Tensor]) -> str:
        """What a state dict that does not fit was trained with."""
        return memory_mismatch(state, self.masks.memory)

    def after_load(self, loaded: Any) -> list[str]:
        """Holds the ids of the new words against those that the checkpoint was trained with.

        Raises:
            UserError: they differ.
        """
        packed = loaded.contents.packed
        then = (packed or {}).get("model", {}).get("first_id")
        known = self._first is not None or self.lm._source is not None
        if then is not None and known and then != self.first_id:
            raise UserError(
                f"{loaded.where} was trained with {self.new_words[0]} at id {then}, and the "
                f"tokenizer here puts it at {self.first_id}: give the tokenizer of that run "
                f"(model.lm.tokenizer=), or say model.first_id={then}."
            )
        return []
