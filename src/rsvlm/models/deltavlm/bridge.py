"""DeltaVLM's bridge: CSRM, then an instruction-aware Q-Former, then a linear layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.models.deltavlm.csrm import CSRM
from rsvlm.models.instruction_bridge import InstructionBridge
from rsvlm.nn.qformer import QFormer


class DeltaQFormer(InstructionBridge):
    """Tokens of two dates and an instruction to embeddings of a language model.

    Args:
        dim_in: width of the vision tokens.
        dim_out: width of the language model.
        variant: of CSRM.
        legacy_mismatch: of CSRM.
        csrm_dropout: of CSRM's `released` form.
        tokenizer: of the instruction, or the folder or `hf://` place of BERT's.
        words: a vocabulary (see `encoders.tokenizers.word_list`); builds a tokenizer that needs no
            download and sets `vocab_size`.
        queries, dim, layers, heads, hidden, cross_every, vocab_size, positions, dropout: see
            `QFormer`.
    """

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        variant: str = "released",
        legacy_mismatch: bool = False,
        csrm_dropout: float = 0.5,
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
        self.norm = nn.LayerNorm(dim_in)
        self.csrm = CSRM(
            dim_in, variant=variant, dropout=csrm_dropout, legacy_mismatch=legacy_mismatch
        )
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
        self.proj = nn.Linear(self.qformer.dim, dim_out)

    def change_tokens(self, features: Tensor) -> Tensor:
        """CSRM's output [B, 2 * T, dim_in] for tokens [B, 2, T, dim_in]."""
        return self.csrm(self.norm(features))

    def forward(
        self,
        features: Tensor,
        instruction_ids: Tensor | None = None,
        instruction_mask: Tensor | None = None,
    ) -> Tensor:
        """Embeddings [B, queries, dim_out].

        Args:
            features: [B, 2, T, dim_in], before and after.
            instruction_ids: [B, L], padded on the right; None asks nothing.
            instruction_mask: [B, L], 1 where a token is.
        """
        changes = self.change_tokens(features)
        return self.proj(self.qformer(changes, instruction_ids, instruction_mask))

    @torch.no_grad()
    def maps(
        self,
        features: Tensor,
        instruction_ids: Tensor | None = None,
        instruction_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What an answer rests on, as maps of the patches; for pictures.

        Args:
            features: see `forward`.
            instruction_ids: see `forward`.
            instruction_mask: see `forward`.

        Returns:
            `difference` [B, G, G], the length of the features' difference; `attention_before` and
            `attention_after` [B, G, G], the queries' mean attention to each date, which sum to 1
            together with the class tokens'.
        """
        before, after = self.norm(features).unbind(1)
        changes = self.change_tokens(features)
        weights = self.qformer.cross_attention_weights(changes, instruction_ids, instruction_mask)
        first, second = weights.mean(1).chunk(2, dim=1)
        found = {
            "difference": (after - before).float().norm(dim=-1),
            "attention_before": first,
            "attention_after": second,
        }
        side = math.isqrt(features.shape[2] - 1)
        return {name: grid[:, 1:].unflatten(1, (side, side)) for name, grid in found.items()}
