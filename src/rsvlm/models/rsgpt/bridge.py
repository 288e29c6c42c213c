"""InstructBLIP's bridge: a Q-Former that reads each image with the instruction beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rsvlm.models.instruction_bridge import InstructionBridge
from rsvlm.nn.qformer import QFormer


class InstructQFormer(InstructionBridge):
    """A norm of the tower's tokens, an instruction-aware Q-Former, one linear layer.

    Dai et al., 2023, "InstructBLIP" (arXiv 2305.06500), section 2.4. Several images of a dialogue
    are read one by one with the same instruction, and follow each other.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        norm_eps: of the norm; LAVIS' is 1e-5, transformers' copy of its weights runs with 1e-6.
        tokenizer: of the instruction, or where it lies.
        words: a vocabulary in its place, see `encoders.tokenizers.word_list`; sets `vocab_size`.
        queries, dim, layers, heads, hidden, cross_every, vocab_size, positions, dropout: see
            `QFormer`.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        norm_eps: float = 1e-5,
        tokenizer: Any = None,
        words: str | Sequence[str] | None = None,
        queries: int = 32,
        dim: int = 768,
        layers: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        cross_every: int = 2,
        vocab_size: int = 30523,
        positions: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(tokenizer, words)
        self.norm = nn.LayerNorm(dim_in, eps=norm_eps)
        self.qformer = QFormer(
            dim_in,
            queries=queries,
            dim=dim,
            layers=layers,
            heads=heads,
            hidden=hidden,
            cross_every=cross_every,
            vocab_size=self.vocab_size(vocab_size),
            positions=positions,
            dropout=dropout,
        )
        self.proj = nn.Linear(dim, dim_out)

    @property
    def window(self) -> int:
        """Tokens of the longest instruction that it reads."""
        assert self.qformer.positions is not None
        return self.qformer.positions.num_embeddings

    def count(self, tokens: int) -> int:
        """Embeddings of an image, of however many tokens: one for each query."""
        del tokens
        return self.qformer.queries.shape[1]

    def read(
        self,
        features: Tensor,
        instruction_ids: Tensor | None = None,
        instruction_mask: Tensor | None = None,
    ) -> Tensor:
        """What the queries found, [B, K * queries, dim].

        Args:
            features: [B, K, T, dim_in], K images of each dialogue.
            instruction_ids: [B, L], padded on the right; None asks nothing.
            instruction_mask: [B, L], 1 where a token is.
        """
        images = features.shape[1]
        if instruction_ids is not None:
            instruction_ids = instruction_ids.repeat_interleave(images, 0)
        if instruction_mask is not None:
            instruction_mask = instruction_mask.repeat_interleave(images, 0)
        found = self.qformer(self.norm(features.flatten(0, 1)), instruction_ids, instruction_mask)
        return found.unflatten(0, (-1, images)).flatten(1, 2)

    def forward(
        self,
        features: Tensor,
        instruction_ids: Tensor | None = None,
        instruction_mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [B, K * queries, dim_out]; for the arguments see `read`."""
        return self.proj(self.read(features, instruction_ids, instruction_mask))
