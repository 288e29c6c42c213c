"""The vision-language model: a vision tower, a bridge, a language model. Families add one thing.

A bridge turns image tokens into embeddings of the language model, in one of two ways:

- `joint = True`: `bridge(features [B, K, T, D], ids, mask) -> [B, P, dim_out]` reads all K images
  of a dialogue at once (DeltaVLM's two dates);
- `joint = False`: `bridge(features [N, T, D]) -> [N, P, dim_out]` reads each image alone.

Its outputs stand before the text, or at the places of a placeholder token in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.new_parameters import ADDED
from rsvlm.data.sample import Answer
from rsvlm.encoders.generation import Generated
from rsvlm.errors import UserError
from rsvlm.models.base import GenerativeModel
from rsvlm.nn.feature_cache import cache_of
from rsvlm.nn.length_buckets import in_shards, length_buckets, select_rows
from rsvlm.nn.packing import Embedded, check, keys_of, pack


class VisionLanguageModel(GenerativeModel):
    """Images and a dialogue in, an answer out.

    Batches are `data.chat.ChatBatch`es, or anything with its `images`, `image_rows`, `input_ids`,
    `attention_mask`, `labels`, `instruction_ids` and `instruction_mask`.

    Args:
        vision: `vision(images [N, 3, H, W]) -> [N, T, vision.dim]`.
        bridge: see above; or what builds it, called with `dim_in` and `dim_out`.
        lm: a `LanguageModel`.
        image_token_id: the placeholder in `input_ids`, once for each vector of an image; None puts
            the vectors before the text.
        generation: options of `generate` where they differ from the language model's defaults.
        cache_gib: memory in which training keeps the frozen features of each picture, GiB; 0 keeps
            none.
        cache_folder: a folder in which they stay for other runs, and for evaluation (see
            `nn.feature_cache`); None keeps them in memory alone.
        packing: how dialogues lie in training, `none`, `rows` or `shared` (see `nn.packing`); the
            loss is the same.

    Raises:
        UserError: an unknown packing, or one that the bridge does not allow.
    """

    def __init__(
        self,
        vision: nn.Module,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: nn.Module,
        *,
        image_token_id: int | None = None,
        generation: Mapping[str, Any] | None = None,
        cache_gib: float = 0.0,
        cache_folder: str | Path | None = None,
        packing: str = "none",
    ) -> None:
        super().__init__()
        self.vision: Any = vision
        self.cache = cache_of(vision, cache_gib, cache_folder)
        built = isinstance(bridge, nn.Module)
        self.bridge: Any = bridge if built else bridge(dim_in=vision.dim, dim_out=lm.dim)
        self.lm: Any = lm
        self.image_token_id = image_token_id
        self.packing = check(packing, joint=self.bitemporal)
        self.generation = dict(generation or {})
        self.train(self.training)

    @property
    def image_size(self) -> int:
        """Side of the images, pixels."""
        return self.vision.image_size

    @property
    def tokenizer(self) -> Any:
        """The language model's, of transformers."""
        return self.lm.tokenizer

    @property
    def bitemporal(self) -> bool:
        """Whether the bridge reads two dates together."""
        return self.bridge.joint

    @property
    def tuning(self) -> str | None:
        """How the language model is tuned."""
        return self.lm.tuning

    @property
    def adapter_parts(self) -> Sequence[str]:
        """What LoRA or experts add, of the tower or of the language model."""
        return ADDED["lora"] if self.vision.tuned else ADDED.get(self.lm.tuning, ())

    @property
    def lm_dim(self) -> int:
        """Width of the language model."""
        return self.lm.dim

    def train(self, mode: bool = True) -> VisionLanguageModel:
        """A tower without trainable weights stays in eval mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.vision.parameters()):
            self.vision.eval()
        return self

    # From a batch to embeddings -----------------------------------------------------------

    def frozen_features(self, images: Tensor) -> Tensor:
        """What of the tower's work depends on the images alone, to be kept across epochs.

        Args:
            images: [N, 3, S, S].

        Returns:
            [N, T, D] before the first trained block; `forward(batch, features)` goes on from it.

        Raises:
            UserError: what comes before the blocks is trained as well.
        """
        if not self.vision.frozen_blocks:
            with torch.enable_grad():
                moving = self.vision.features_to(images[:1], 0).requires_grad
            if moving:
                raise UserError(
                    "the whole vision tower is trained, so that none of its features can be kept: "
                    "set model.cache_gib=0, or train its last blocks alone (model.train_blocks=2)."
                )
        with torch.no_grad():
            return self.vision.features_to(images, self.vision.frozen_blocks)

    def encode_images(self, batch: Any, features: Tensor | None = None) -> list[Tensor] | Tensor:
        """Each dialogue's visual embeddings.

        Args:
            batch: see above.
            features: `frozen_features(batch.images)`; None computes them.

        Returns:
            [B, P, dim] from a joint bridge, else for each dialogue [P, dim], P its own.
        """
        return self.project(batch, self.tokens(batch, features))

    def tokens(self, batch: Any, features: Tensor | None = None) -> Tensor:
        """The tower's tokens [N, T, D] of the batch's images.

        Args:
            batch: see above.
            features: see `encode_images`.
        """
        images = batch.images
        if not len(images):
            # A batch of texts alone: the bridge runs for nothing, so that its weights have a
            # gradient in each process.
            images = images.new_zeros(1, 3, self.image_size, self.image_size)
        kept = self.cache is not None and (self.training or self.cache.folder is not None)
        if features is None and self.cache is not None and kept:
            features = self.cache(images, self.frozen_features)
        if features is None:
            return self.vision(images)
        return self.vision.from_features(features, self.vision.frozen_blocks)

    def project(self, batch: Any, tokens: Tensor) -> list[Tensor] | Tensor:
        """The bridge's outputs by dialogue.

        Args:
            batch: see above.
            tokens: of the tower, [N, T, D].

        Raises:
            UserError: a joint bridge and dialogues of different numbers of images.
        """
        rows = batch.image_rows
        if not self.bridge.joint:
            bridged = self.bridge(tokens)
            return [bridged[list(row)].flatten(0, 1) for row in rows]
        counts = {len(row) for row in rows}
        if len(counts) != 1:
            raise UserError(
                "this model takes the same number of images in each dialogue; the batch has "
                f"dialogues of {', '.join(map(str, sorted(counts)))}."
            )
        index = torch.tensor(rows, dtype=torch.long, device=tokens.device)
        return self.bridge(tokens[index], batch.instruction_ids, batch.instruction_mask)

    def embed(self, batch: Any, features: Tensor | None = None) -> Embedded:
        """Visual embeddings at their places among the text's.

        Args:
            batch: see above.
            features: see `encode_images`.

        Raises:
            UserError: another number of places than of visual embeddings, or more than the language
                model's window holds.
        """
        return self.merge_embeddings(batch, self.encode_images(batch, features))

    def merge_embeddings(self, batch: Any, visual: list[Tensor] | Tensor) -> Embedded:
        """What `encode_images` gave, at its places among the text's embeddings; see `embed`."""
        if self.image_token_id is None:
            embedded = self._prefix(batch, visual)
        else:
            embedded = self._inline(batch, visual)
        length, window = embedded.inputs_embeds.shape[1], self.lm.context_length
        if length > window:
            raise UserError(
                f"a dialogue of {length} tokens, images included, is longer than the language "
                f"model's window of {window}: give the collate max_length={window}, which cuts "
                "history first, or show fewer images."
            )
        return embedded

    def embed_words(self, input_ids: Tensor) -> Tensor:
        """Embeddings [B, L, dim] of ids [B, L] without places of images."""
        return self.lm.embed(input_ids)

    def _prefix(self, batch: Any, visual: list[Tensor] | Tensor) -> Embedded:
        text = self.embed_words(batch.input_ids)
        longest = max(len(row) for row in visual)
        front = text.new_zeros(len(text), longest, text.shape[2])
        mask = batch.attention_mask.new_zeros(len(text), longest)
        for i, row in enumerate(visual):
            # Before fewer images stands padding, as before a shorter text in generation.
            front[i, longest - len(row) :] = row.to(text.dtype)
            mask[i, longest - len(row) :] = 1
        nothing = batch.labels.new_full((len(text), longest), -100)
        return Embedded(
            torch.cat([front, text], dim=1),
            torch.cat([mask, batch.attention_mask], dim=1),
            torch.cat([nothing, batch.labels], dim=1),
        )

    def _inline(self, batch: Any, visual: list[Tensor] | Tensor) -> Embedded:
        places = batch.input_ids == self.image_token_id
        counts, given = places.sum(1).tolist(), [len(row) for row in visual]
        if counts != given:
            i = next(i for i in range(len(given)) if counts[i] != given[i])
            raise UserError(
                f"dialogue {i} has {counts[i]} image places in its text and {given[i]} visual "
                "embeddings: the collate's image_tokens must be what the bridge gives an image."
            )
        text = self.embed_words(batch.input_ids.masked_fill(places, 0))
        rows = torch.cat(list(visual)).to(text.dtype)
        return Embedded(
            text.masked_scatter(places[..., None], rows), batch.attention_mask, batch.labels
        )

    # Training and generation --------------------------------------------------------------

    def forward(self, batch: Any, features: Tensor | None = None) -> dict[str, Tensor]:
        """Logits of the answers' tokens.

        Args:
            batch: see above; padded on the right.
            features: see `encode_images`.

        Returns:
            `logits` [N, vocabulary] and `targets` [N] of the N supervised positions.
        """
        return self.answer_outputs(batch, self.encode_images(batch, features))

    def answer_outputs(self, batch: Any, visual: list[Tensor] | Tensor) -> dict[str, Tensor]:
        """What `forward` gives, from what `encode_images` gave."""
        row, plan = self.merge_embeddings(batch, visual), None
        if self.packing != "none":
            shared = self.packing == "shared"
            keys = keys_of(batch, visual, self.image_token_id) if shared else None
            row, plan = pack(row, keys)
        return self.lm(row.inputs_embeds, row.attention_mask, row.labels, plan)

    @torch.no_grad()
    def generate(self, batch: Any, features: Tensor | None = None, **options: Any) -> list[Answer]:
        """An answer to each dialogue.

        Args:
            batch: see above; padded on the left.
            features: see `encode_images`.
            **options: `rows`, how many dialogues are answered at a time (64), those of one length
                together; and see `encoders.generation.OPTIONS`. What is not said is the model's
                `generation`.

        Returns:
            `text`, `score` (see `encoders.generation.Generated`), and `candidates` where more than
            one was asked for.

        Raises:
            UserError: an unknown option, a window that is too small, padding on the right.
        """
        mode = self.training
        self.eval()
        chosen = {"rows": 64, **self.generation, **options}
        texts: dict[int, Sequence[Generated]] = {}
        try:
            tokens = self.tokens(batch, features)
            for rows in length_buckets(batch, chosen.pop("rows"), shards=in_shards(self)):
                part, seen = select_rows(batch, tokens, rows)
                embedded = self.merge_embeddings(part, self.project(part, seen))
                texts |= zip(rows, self._texts(embedded, chosen), strict=True)
            return self._answers(batch, tokens, [texts[i] for i in range(len(texts))])
        finally:
            self.train(mode)

    def _texts(self, embedded: Embedded, options: Mapping[str, Any]) -> list[list[Generated]]:
        return self.lm.generate(embedded.inputs_embeds, embedded.attention_mask, **options)

    def _answers(
        self, batch: Any, tokens: Tensor, texts: Sequence[Sequence[Generated]]
    ) -> list[Answer]:
        """Answers of what was written; `tokens` are the tower's."""
        del batch, tokens
        return [self._answer(row) for row in texts]

    def _answer(self, row: Sequence[Generated]) -> Answer:
        texts = [(self.decode(text.ids), text.score) for text in row]
        (best, score), more = texts[0], texts if len(texts) > 1 else []
        return Answer(best, score, candidates=more, finished=row[0].ended)

    def decode(self, ids: list[int]) -> str:
        """The text of generated ids."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()
