"""A vision-language model that writes captions and finds images by a word of its own, [RET].

The maths of FROMAGe (Koh et al., 2023, arXiv 2301.13823) and RS-CapRet;
`models/rscapret/model.py` adds words, batches and weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.encoders.generation import Generated, generate
from rsvlm.errors import UserError, extra
from rsvlm.models.extra_token import ExtraToken, ScaleTokenLogits
from rsvlm.models.rscapret.packing import by_length, joined, labelled, mask_of
from rsvlm.models.vlm import VisionLanguageModel
from rsvlm.nn.length_buckets import in_shards
from rsvlm.nn.packing import Embedded, rows_of


class ImageRetriever(VisionLanguageModel):
    """A frozen tower, a linear map into a language model, two maps into a space of features.

    Text alone needs no gradient before [RET], whose row is the first thing in it that learns, so
    all of it but the last position runs without one, behind a cache. That is exact.

    Args:
        vision: gives [N, T, dim], the first token for the whole image.
        bridge: see `VisionLanguageModel`.
        lm: a `LanguageModel`.
        shared_dim: numbers of a feature.
        end: `eos` closes a caption behind its image with the end token and learns it; `none` does
            not.
        concat: share of the training steps that put two captions in a row.
        dropout: on both features.
        logit_scale: initial logarithm of the temperature's inverse.
        groups: most groups by length that a training batch is run in; each is padded to its own
            longest row. The result is the same.
        packing: `rows` runs them all in one row without padding instead, so that each of the
            language model's matrices is read once: the faster, the smaller batch and model are.
        retrieval: False learns captions alone, see `RSCapRet`.
        **options: see `VisionLanguageModel`.

    Attributes:
        ret_id: the id of [RET], which a subclass gives.
        tokenizer: with that word, likewise; its end token and a prompt's ids are read.
    """

    ret_id: Any
    tokenizer: Any

    def __init__(
        self,
        vision: nn.Module,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: nn.Module,
        *,
        shared_dim: int = 256,
        prompt: str = "",
        end: str = "eos",
        concat: float = 0.5,
        dropout: float = 0.0,
        logit_scale: float = math.log(1 / 0.07),
        groups: int = 4,
        retrieval: bool = True,
        packing: str = "none",
        **options: Any,
    ) -> None:
        vision.requires_grad_(False)
        if packing == "shared":
            raise UserError(
                "model.packing=shared puts an image once before several texts, and here each image "
                "has one: set model.packing=rows."
            )
        super().__init__(vision, bridge, lm, packing=packing, **options)
        self.image_map = nn.Linear(self.vision.dim, shared_dim)
        self.text_map = nn.Linear(self.lm.dim, shared_dim)
        self.ret = ExtraToken(lm)
        self.drop = nn.Dropout(dropout)
        self.logit_scale = nn.Parameter(torch.tensor(float(logit_scale)))
        self.prompt, self.end, self.concat, self.groups = prompt, end, concat, groups
        self.retrieval = retrieval
        if not retrieval:
            for part in (self.image_map, self.text_map, self.ret, self.logit_scale):
                part.requires_grad_(False)

    def embed_words(self, input_ids: Tensor) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L], [RET] among them."""
        return self.ret.embed(self.lm, input_ids, self.ret_id)

    # Training -----------------------------------------------------------------------------

    def forward(self, batch: Any, features: Tensor | None = None) -> dict[str, Tensor]:
        """What `CaptionRetrievalLoss` takes.

        Args:
            batch: a `PairBatch` with one caption an image.
            features: `frozen_features(batch.images)`; None computes them.

        Returns:
            `logits` [N, ret_id + 1], `targets` [N]; `text_logits`, `text_targets`; `image_features`
            and `text_features` [B, shared_dim], `logit_scale` (the factor itself); with
            `retrieval=False` the first two alone.

        Raises:
            UserError: another number of captions than of images.
        """
        ids = batch.input_ids
        if len(ids) != len(batch.images):
            raise UserError(
                f"training needs one caption an image; the batch has {len(batch.images)} images "
                f"and {len(ids)} captions."
            )
        tokens = self.tokens(batch, features)
        together = self.training and float(torch.rand(())) < self.concat
        caption = self.caption_pass(tokens, ids, together=together)
        if not self.retrieval:
            return caption
        text = self.text_pass(ids)
        return {
            **caption,
            **text,
            "image_features": F.normalize(self.drop(self.image_map(tokens[:, 0])).float(), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }

    def _ends(self, ids: Tensor) -> Tensor:
        """[B], the number of ids up to [RET]."""
        found = ids == self.ret_id
        if not bool(found.any(1).all()):
            raise UserError("a caption lacks [RET]: the batch is of another model's collate.")
        return found.int().argmax(1) + 1

    def _fits(self, length: int, what: str) -> None:
        if length > self.lm.context_length:
            raise UserError(
                f"{what} take {length} places, and the language model's window has "
                f"{self.lm.context_length}: lower model.max_text, set model.concat=0, or say less."
            )

    def _prompt(self, ids: Tensor) -> Tensor:
        """The prompt's ids [B, P]."""
        words = self.tokenizer.encode(self.prompt, add_special_tokens=False) if self.prompt else []
        return torch.tensor(words, dtype=ids.dtype, device=ids.device).expand(len(ids), -1)

    def caption_pass(
        self, tokens: Tensor, ids: Tensor, *, together: bool = False, prompt: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Captions behind their images.

        Args:
            tokens: of the tower, [B, T, D].
            ids: [B, L], captions up to [RET], padded right.
            together: two images and captions in each row.
            prompt: its ids [B, P]; None takes the model's.

        Returns:
            `logits` [N, ret_id + 1] and `targets` [N].
        """
        ends = self._ends(ids)
        learned = ends - 1
        if self.end == "eos":
            ids, learned = ids.masked_fill(ids == self.ret_id, self.tokenizer.eos_token_id), ends
        visual = self.bridge(tokens)
        before = self.embed_words(self._prompt(ids) if prompt is None else prompt)
        words = self.embed_words(ids)
        embeds = torch.cat([visual.to(words.dtype), before, words], dim=1)
        front = embeds.shape[1] - ids.shape[1]
        labels, lengths = labelled(ids, learned, front), learned + front
        if together:
            embeds, labels, lengths = joined(embeds, labels, lengths)
        self._fits(int(lengths.max()), "captions behind their images")
        states = self._states(embeds, lengths)
        targets = F.pad(labels[:, 1:], (0, 1), value=-100)
        targets = targets[mask_of(lengths, embeds.shape[1]).bool()]
        kept = targets != -100
        return self.lm.head_outputs(self._logits, states[kept], targets[kept])

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.ret.logits(self.lm, hidden, self.ret_id)

    def _states(self, embeds: Tensor, lengths: Tensor) -> Tensor:
        """Hidden states [sum of lengths, dim] of rows [B, S, dim], row by row without padding."""
        seen = mask_of(lengths, embeds.shape[1]).bool()
        if self.packing == "rows":
            plan = rows_of(lengths)
            return self.lm.states(embeds[seen][None], plan.counts, plan)[0][0]
        place = (seen.flatten().cumsum(0) - 1).view_as(seen)
        parts, places = [], []
        for rows in by_length(lengths, self._groups()):
            inside = seen[rows, : int(lengths[rows].max())]
            hidden = self.lm.hidden(embeds[rows, : inside.shape[1]], inside.long())
            parts.append(hidden[inside])
            places.append(place[rows, : inside.shape[1]][inside])
        return torch.cat(parts)[torch.cat(places).argsort()]

    def text_pass(self, ids: Tensor, prompt: Tensor | None = None) -> dict[str, Tensor]:
        """Captions alone.

        Args:
            ids: [B, L], captions up to [RET], padded right.
            prompt: its ids [B, P]; None takes the model's.

        Returns:
            `text_logits` [N, ret_id + 1], `text_targets` [N], `text_features` [B, shared_dim].
        """
        before = self._prompt(ids) if prompt is None else prompt
        ends, front = self._ends(ids), before.shape[1]
        words, last = self._text_states(torch.cat([before, ids], dim=1), ends + front)
        targets = labelled(ids, ends, front)[:, 1:]
        targets = targets[mask_of(ends + front - 1, targets.shape[1]).bool()]
        kept = targets != -100
        return {
            **self.lm.head_outputs(self._logits, words[kept], targets[kept], "text_"),
            "text_features": F.normalize(self._mapped(last).float(), dim=-1),
        }

    def _text_states(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states of all words before [RET], row by row, and [B, dim] of [RET] itself."""
        ends = lengths.cumsum(0) - 1
        if any(parameter.requires_grad for parameter in self.lm.parameters()):
            states = self._states(self.embed_words(ids), lengths)
            is_word = torch.ones(len(states), dtype=torch.bool, device=ids.device)
            is_word[ends] = False
            return states[is_word], states[ends]
        with extra("language"):
            from transformers import DynamicCache

        seen = mask_of(lengths - 1, ids.shape[1]).bool()
        place = (seen.flatten().cumsum(0) - 1).view_as(seen)
        parts, places, last, order = [], [], [], []
        for rows in by_length(lengths, self._groups()):
            inside = seen[rows, : int(lengths[rows].max()) - 1]
            mask, cache = inside.long(), DynamicCache(config=self.lm.model.config)
            with torch.no_grad():
                # Behind a shorter text stands its [RET], as padding here.
                words = self.embed_words(ids[rows, : inside.shape[1]])
                parts.append(self.lm.hidden(words, mask, cache)[inside])
            places.append(place[rows, : inside.shape[1]][inside])
            ret = self.ret.given(self.lm).to(words.dtype).expand(len(rows), 1, -1)
            last.append(self.lm.hidden(ret, F.pad(mask, (0, 1), value=1), cache)[:, 0])
            order.append(rows)
        found = torch.cat(last)[torch.cat(order).argsort()]
        return torch.cat(parts)[torch.cat(places).argsort()], found

    def _groups(self) -> int:
        """Most groups by length; with weights in shards a number that all processes have."""
        return 1 if in_shards(self) else self.groups

    def _mapped(self, hidden: Tensor) -> Tensor:
        """Features [B, shared_dim] of hidden states of [RET], of any length."""
        return self.drop(self.text_map(hidden.to(self.text_map.weight.dtype)))

    @torch.no_grad()
    def after_step(self) -> None:
        """[RET]'s rows back to the mean norm of the others, the temperature's inverse in [1, 100].

        To be called after each step of the optimizer.
        """
        self.ret.rescale(self.lm, self.ret_id)
        self.logit_scale.clamp_(0, math.log(100))

    # Retrieval ----------------------------------------------------------------------------

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Features [N, shared_dim] of images [N, 3, S, S]; `normalize` gives unit length."""
        mapped = self.image_map(self.vision(images)[:, 0])
        return F.normalize(mapped.float(), dim=-1) if normalize else mapped

    def encode_text(self, input_ids: Tensor, normalize: bool = False) -> Tensor:
        """Features [T, shared_dim] of captions up to [RET], ids [T, L]; likewise."""
        before = self._prompt(input_ids)
        ids = torch.cat([before, input_ids], dim=1)
        last = self._text_states(ids, self._ends(input_ids) + before.shape[1])[1]
        mapped = self._mapped(last)
        return F.normalize(mapped.float(), dim=-1) if normalize else mapped

    def query(self, embedded: Embedded, written: Sequence[Sequence[int]] | None = None) -> Tensor:
        """Features of unit length [B, shared_dim] of a [RET] behind dialogues.

        Args:
            embedded: the dialogues, padded on the left.
            written: ids that stand between each of them and [RET].
        """
        embeds, mask = embedded.inputs_embeds, embedded.attention_mask
        rows = [[*row, self.ret_id] for row in (written or [()] * len(embeds))]
        width = max(map(len, rows))
        # [RET] is the last of every row; padding stands before what was written.
        ids = [[0] * (width - len(row)) + row for row in rows]
        seen = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        words = self.embed_words(torch.tensor(ids, device=embeds.device))
        more = torch.tensor(seen, device=mask.device, dtype=mask.dtype)
        embeds, mask = torch.cat([embeds, words], dim=1), torch.cat([mask, more], dim=1)
        self._fits(embeds.shape[1], "a dialogue and its [RET]")
        return F.normalize(self._mapped(self.lm.hidden(embeds, mask)[:, -1]).float(), dim=-1)

    # Writing ------------------------------------------------------------------------------

    @torch.no_grad()
    def write(
        self,
        embedded: Embedded,
        *,
        ret_scale: float = 1.0,
        min_words: int = 0,
        ends: Sequence[int] | None = None,
        **options: Any,
    ) -> list[list[Generated]]:
        """Texts that go on from dialogues, with a cache; [RET] and the end token end them.

        Args:
            embedded: padded on the left.
            ret_scale: factor on [RET]'s logit.
            min_words: tokens before a [RET] may come.
            ends: other ids that end a text.
            **options: see `encoders.generation.OPTIONS`.
        """
        self.lm.fill_constants()
        if ends is None:
            ends = (self.tokenizer.eos_token_id, self.ret_id)
        changed = ret_scale != 1 or min_words > 0
        changes = [ScaleTokenLogits(self.ret_id, ret_scale, min_words)] if changed else []
        return generate(
            self.ret.view(self.lm, self.ret_id),
            embedded.inputs_embeds.to(self.lm.dtype),
            embedded.attention_mask,
            ends,
            ends[0],
            {**self.generation, **options},
            processors=changes,
        )
