"""The Q-Former: learned queries that read an image, and an instruction that says what to look for.

Li et al., 2023, "BLIP-2" (arXiv 2301.12597), section 3.1, and Dai et al., 2023, "InstructBLIP"
(arXiv 2305.06500), section 2.4, whose instruction text goes through the same self-attention as the
queries. BERT's layers (post-norm, exact GELU, eps 1e-12) with two additions: cross-attention to the
image in every second layer, for the queries alone, and feed-forward weights of the queries' own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError


class Attention(nn.Module):
    """BERT's attention block: attend, project, drop, add, normalise.

    Args:
        dim: width of the queries.
        heads: attention heads.
        dim_kv: width of what is attended to.
        dropout: on attention weights and on the output.
    """

    def __init__(self, dim: int, heads: int, dim_kv: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim_kv, dim)
        self.value = nn.Linear(dim_kv, dim)
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def weights(self, x: Tensor, source: Tensor) -> Tensor:
        """Where x [B, L, dim] looks in source [B, S, dim_kv]: the heads' mean, [B, L, S]."""
        q, k = self._split(self.query(x)), self._split(self.key(source))
        return (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1).mean(1)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from x [B, L, dim] to source [B, S, dim_kv]; mask [B, 1, 1, S], True is seen."""
        attended = F.scaled_dot_product_attention(
            self._split(self.query(x)),
            self._split(self.key(source)),
            self._split(self.value(source)),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended = attended.transpose(1, 2).flatten(2)
        return self.norm(x + self.drop(self.out(attended)))


class FeedForward(nn.Module):
    """BERT's feed-forward block."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """X [B, L, dim]."""
        return self.norm(x + self.drop(self.fc2(F.gelu(self.fc1(x)))))


class Layer(nn.Module):
    """Joint self-attention, the queries' look at the image, and two feed-forward blocks."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float,
        *,
        dim_vision: int | None,
        text: bool,
    ) -> None:
        super().__init__()
        self.attention = Attention(dim, heads, dim, dropout)
        self.cross = Attention(dim, heads, dim_vision, dropout) if dim_vision else None
        self.mlp_query = FeedForward(dim, hidden, dropout)
        self.mlp_text = FeedForward(dim, hidden, dropout) if text else None

    def forward(
        self, x: Tensor, queries: int, mask: Tensor | None, image: Tensor, last: bool
    ) -> Tensor:
        """X [B, Q + T, dim]: Q queries, then T text tokens; `last` gives the queries alone."""
        text = x[:, queries:]
        # The last layer's text is not an output, so its queries are the only ones to attend.
        x = self.attention(x[:, :queries] if last else x, x, mask)
        seen, text = x[:, :queries], x[:, queries:]
        if self.cross is not None:
            seen = self.cross(seen, image)
        seen = self.mlp_query(seen)
        if last or not text.shape[1]:
            return seen
        assert self.mlp_text is not None
        return torch.cat([seen, self.mlp_text(text)], dim=1)


class QFormer(nn.Module):
    """Learned queries, an image and an instruction to as many vectors as queries.

    Args:
        dim_vision: width of the image tokens.
        queries: number of queries.
        dim: width.
        layers: number of layers.
        heads: attention heads.
        hidden: hidden width of the feed-forward blocks.
        cross_every: layers 0, n, 2n, ... look at the image.
        vocab_size: of the instruction's tokenizer; 0 for a Q-Former without text (BLIP-2).
        positions: longest instruction, tokens.
        dropout: everywhere BERT has it.

    Attributes:
        dim: width of the output.
        reads: whether `read` is used as well.

    Raises:
        UserError: sizes that do not divide.
    """

    def __init__(
        self,
        dim_vision: int,
        *,
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
        super().__init__()
        if dim % heads:
            raise UserError(f"Q-Former: dim={dim} is not divisible by heads={heads}.")
        self.dim, self.vocab_size = dim, vocab_size
        self.reads = False
        self.queries = nn.Parameter(torch.empty(1, queries, dim))
        self.words = nn.Embedding(vocab_size, dim) if vocab_size else None
        self.positions = nn.Embedding(positions, dim) if vocab_size else None
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            Layer(
                dim,
                heads,
                hidden,
                dropout,
                dim_vision=dim_vision if number % cross_every == 0 else None,
                text=bool(vocab_size),
            )
            for number in range(layers)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters afresh: BERT's normal of 0.02, wider at smaller widths."""
        std = 0.02 * max(1.0, math.sqrt(768 / self.dim))
        with torch.no_grad():
            self.queries.normal_(std=std)
            for module in self.modules():
                if isinstance(module, nn.Linear | nn.Embedding):
                    module.weight.normal_(std=std)
                if isinstance(module, nn.Linear):
                    module.bias.zero_()

    def forward(
        self,
        image: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """What the queries found, [B, Q, dim].

        Args:
            image: [B, S, dim_vision].
            input_ids: the instruction [B, T], padded on the right; positions count from 0.
            attention_mask: [B, T], 1 where a token is; None takes all.

        Raises:
            UserError: an instruction for a Q-Former without text, or one that is too long.
        """
        x, mask = self._start(image, input_ids, attention_mask)
        for number, layer in enumerate(self.layers, start=1):
            x = layer(x, self.queries.shape[1], mask, image, number == len(self.layers))
        return x

    def encode_text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """What a text alone says, [B, T, dim]: no queries, no image (BLIP-2's text encoder).

        Args:
            input_ids: [B, T], padded on the right.
            attention_mask: [B, T], 1 where a token is.
        """
        x = self.drop(self.norm(self._embed(input_ids)))
        mask = attention_mask.bool()[:, None, None, :]
        for layer in self._layers():
            assert layer.mlp_text is not None
            x = layer.mlp_text(layer.attention(x, x, mask))
        return x

    @torch.no_grad()
    def cross_attention_weights(
        self,
        image: Tensor,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Where the queries look: mean of the layers that see the image, [B, Q, S].

        Args:
            image: see `forward`.
            input_ids: see `forward`.
            attention_mask: see `forward`.
        """
        x, mask = self._start(image, input_ids, attention_mask)
        count, found = self.queries.shape[1], []
        for layer in self._layers():
            if layer.cross is not None:
                seen = layer.attention(x, x, mask)[:, :count]
                found.append(layer.cross.weights(seen, image))
            x = layer(x, count, mask, image, False)
        return torch.stack(found).mean(0)

    @property
    def idle(self) -> list[str]:
        """Names of parameters that no output depends on: the text's block of the last layer.

        Where texts are read (`reads`), an output depends on it.
        """
        if self.reads:
            return []
        names = [name for name, _ in self.named_parameters()]
        return [
            name for name in names if name.startswith(f"layers.{len(self.layers) - 1}.mlp_text.")
        ]

    def _layers(self) -> list[Layer]:
        return [layer for layer in self.layers if isinstance(layer, Layer)]

    def _start(
        self, image: Tensor, input_ids: Tensor | None, attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Queries and text as the first layer takes them, and what of them may be seen."""
        x = self.queries.expand(len(image), -1, -1)
        mask = None
        if input_ids is not None:
            x = torch.cat([x, self._embed(input_ids)], dim=1)
            if attention_mask is not None:
                seen = F.pad(attention_mask.bool(), (self.queries.shape[1], 0), value=True)
                mask = seen[:, None, None, :]
        return self.drop(self.norm(x)), mask

    def _embed(self, input_ids: Tensor) -> Tensor:
        if self.words is None or self.positions is None:
            raise UserError(
                "this Q-Former was built without text (vocab_size=0) and takes no instruction."
            )
        length = input_ids.shape[1]
        if length > self.positions.num_embeddings:
            raise UserError(
                f"the instruction has {length} tokens, the Q-Former takes at most "
                f"{self.positions.num_embeddings}: cut it."
            )
        places = self.positions(torch.arange(length, device=input_ids.device))
        return self.words(input_ids) + places
