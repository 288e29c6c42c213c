"""The caption decoder of the change captioners, for training and step by step with a cache.

One post-norm transformer decoder serves RSICCformer, Chg2Cap (`residual`) and MModalCC (two
memories and `gated`). Dropping the gates of MModalCC leaves the plain sum of both attentions.

While captions are generated, the keys and values of the memories are computed once per image and
those of the words once per word; beams of one image share the memories, since they are simply more
queries to them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.errors import UserError
from rsvlm.models.change_captioning.attention import reset_attention
from rsvlm.nn.transformer import Attention

KeyValue = tuple[Tensor, Tensor]


def sinusoids(
    length: int, dim: int, *, first: int = 0, device: torch.device | None = None
) -> Tensor:
    """[length, dim] fixed positions (Vaswani et al., 2017), from position `first` on."""
    place = torch.arange(first, first + length, device=device, dtype=torch.float32).unsqueeze(1)
    rate = torch.exp(torch.arange(0, dim, 2, device=device).float() * (-math.log(1e4) / dim))
    table = torch.empty(length, dim, device=device)
    table[:, 0::2] = torch.sin(place * rate)
    table[:, 1::2] = torch.cos(place * rate[: dim // 2])
    return table


class CaptionLayer(nn.Module):
    """One decoder layer, post-norm.

    `s = LN(t + SA(t))`, `e_m = CA(s, memory_m)` with one attention for all memories, then
    `v = LN(s + sum e_m)`, or with gates (MModalCC's MGCA)
    `v = LN(sum e_m * sigmoid(W_m [s; e_m]) + s * sigmoid(W s))`, and `out = LN(v + FFN(v))`.

    Args:
        dim: width.
        heads: attention heads.
        memories: number of memories.
        gated: weigh the attentions with gates.
        residual: add the layer's input to its output (Chg2Cap).
        hidden: width of the feed-forward part.
        dropout: of attention weights, hidden units and branches.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        memories: int,
        gated: bool,
        residual: bool,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(dim, heads, dropout=dropout)
        self.cross_attn = Attention(dim, heads, dropout=dropout)
        self.gates: nn.ModuleList | None = None
        self.gate: nn.Linear | None = None
        if gated:
            self.gates = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(memories))
            self.gate = nn.Linear(dim, dim)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout, self.residual = dropout, residual
        reset_attention(self)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def keys(self, memory: Tensor) -> KeyValue:
        """Keys and values [B, heads, S, D / heads] of a memory [B, S, D]."""
        return self._split(self.cross_attn, memory)

    @staticmethod
    def _split(attn: Attention, x: Tensor) -> KeyValue:
        shape = (attn.heads, -1)
        keys, values = attn.k_proj(x).unflatten(-1, shape), attn.v_proj(x).unflatten(-1, shape)
        return keys.transpose(1, 2), values.transpose(1, 2)

    def _attend(self, attn: Attention, x: Tensor, keys: KeyValue, mask: Tensor | None) -> Tensor:
        """[B, Q, D] to [B, Q, D]."""
        queries = attn.q_proj(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        rate = attn.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(queries, *keys, attn_mask=mask, dropout_p=rate)
        return attn.out_proj(seen.transpose(1, 2).flatten(2))

    def _finish(self, x: Tensor, attended: Tensor, memory: Sequence[KeyValue]) -> Tensor:
        """What follows the self attention; the same for a whole caption and for beams."""
        s = self.norm1(x + self._drop(attended))
        seen = [self._drop(self._attend(self.cross_attn, s, keys, None)) for keys in memory]
        if self.gates is None or self.gate is None:
            h = s + torch.stack(seen).sum(0)
        else:
            h = s * torch.sigmoid(self.gate(s))
            for gate, e in zip(self.gates, seen, strict=True):
                h = h + e * torch.sigmoid(gate(torch.cat([s, e], dim=-1)))
        h = self.norm2(h)
        inner = self._drop(torch.relu(self.linear1(h)))
        out = self.norm3(h + self._drop(self.linear2(inner)))
        return out + x if self.residual else out

    def forward(self, x: Tensor, memory: Sequence[KeyValue], mask: Tensor) -> Tensor:
        """A whole caption.

        Args:
            x: [B, T, D].
            memory: what `keys` gives of each memory.
            mask: bool, broadcastable to [B, heads, T, T], True where a word may look.

        Returns:
            [B, T, D].
        """
        attended = self._attend(self.self_attn, x, self._split(self.self_attn, x), mask)
        return self._finish(x, attended, memory)

    def step(
        self,
        x: Tensor,
        memory: Sequence[KeyValue],
        cache: KeyValue | None,
        mask: Tensor | None,
    ) -> tuple[Tensor, KeyValue]:
        """One more word of every beam.

        Args:
            x: [B, K, D].
            memory: what `keys` gives of each memory, one for all K beams.
            cache: keys and values [B * K, heads, t, D / heads] of the words so far.
            mask: bool [B * K, 1, 1, t + 1], True where a word may look.

        Returns:
            [B, K, D], and the cache with this word.
        """
        word = x.flatten(0, 1).unsqueeze(1)
        keys, values = self._split(self.self_attn, word)
        if cache is not None:
            keys, values = torch.cat([cache[0], keys], 2), torch.cat([cache[1], values], 2)
        attended = self._attend(self.self_attn, word, (keys, values), mask)
        return self._finish(x, attended.view_as(x), memory), (keys, values)

    def attention(self, x: Tensor, memory: Sequence[KeyValue], mask: Tensor) -> Tensor:
        """Cross-attention weights of a whole caption, mean over heads, [memories, B, T, S]."""
        attended = self._attend(self.self_attn, x, self._split(self.self_attn, x), mask)
        s = self.norm1(x + attended)
        attn = self.cross_attn
        queries = attn.q_proj(s).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        scale = queries.shape[-1] ** -0.5
        scores = [queries @ keys.transpose(-1, -2) * scale for keys, _ in memory]
        return torch.stack([each.softmax(-1).mean(1) for each in scores])


class CaptionDecoder(nn.Module):
    """Word embedding, layers, and a linear head over the vocabulary.

    Args:
        vocab_size: words.
        dim: width of words and memories.
        heads: attention heads.
        layers: number of layers.
        memories: number of memories, [B, S, dim] each.
        gated: see `CaptionLayer`.
        residual: see `CaptionLayer`.
        hidden: width of the feed-forward part; 4 * dim by default.
        dropout: inside of the layers and before the head.
        word_dropout: of embedded words.
        ignored: ids that no word looks at while training, as (Chg2Cap) padding and the end.
        ignored_generating: the same while generating.
    """

    def __init__(
        self,
        vocab_size: int,
        dim: int,
        *,
        heads: int,
        layers: int = 1,
        memories: int = 1,
        gated: bool = False,
        residual: bool = False,
        hidden: int | None = None,
        dropout: float = 0.5,
        word_dropout: float = 0.1,
        ignored: Sequence[int] = (),
        ignored_generating: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if vocab_size < 4:
            raise UserError(
                f"vocab_size={vocab_size}: padding, unknown, start and end alone are 4."
            )
        self.vocab_size, self.dim, self.memories = vocab_size, dim, memories
        self.embedding = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(
            CaptionLayer(
                dim,
                heads,
                memories=memories,
                gated=gated,
                residual=residual,
                hidden=hidden or 4 * dim,
                dropout=dropout,
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(dim, vocab_size)
        self.dropout, self.word_dropout = dropout, word_dropout
        self.ignored, self.ignored_generating = tuple(ignored), tuple(ignored_generating)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.head.weight, -0.1, 0.1)
        nn.init.zeros_(self.head.bias)

    def _check(self, memory: Sequence[Tensor]) -> None:
        if len(memory) != self.memories:
            raise ValueError(f"this decoder reads {self.memories} memories, got {len(memory)}.")

    def _words(self, input_ids: Tensor, first: int = 0) -> Tensor:
        """[B, T] to [B, T, D], the first word at position `first`."""
        device = input_ids.device
        places = sinusoids(input_ids.shape[1], self.dim, first=first, device=device)
        words = self.embedding(input_ids)
        return F.dropout(words + places.to(words.dtype), self.word_dropout, self.training)

    def _mask(self, input_ids: Tensor) -> Tensor:
        """Causal, without the ignored ids; bool [1 or B, 1, T, T]."""
        length = input_ids.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=input_ids.device).tril()
        mask = mask[None, None]
        if self.ignored:
            mask = mask & known(input_ids, self.ignored)[:, None, None]
        return mask

    def forward(self, memory: Sequence[Tensor], input_ids: Tensor) -> Tensor:
        """Teacher-forced logits.

        Args:
            memory: [B, S, D] each.
            input_ids: [B, T], from the start word on.

        Returns:
            [B, T, V]; position t predicts word t + 1.
        """
        self._check(memory)
        x, mask = self._words(input_ids), self._mask(input_ids)
        for layer in self._layers():
            x = layer(x, [layer.keys(each) for each in memory], mask)
        return self.head(F.dropout(x, self.dropout, self.training))

    def attention(self, memory: Sequence[Tensor], input_ids: Tensor) -> Tensor:
        """Where the last layer looks: [memories, B, T, S], each row sums to 1."""
        self._check(memory)
        x, mask = self._words(input_ids), self._mask(input_ids)
        *before, last = self._layers()
        for layer in before:
            x = layer(x, [layer.keys(each) for each in memory], mask)
        return last.attention(x, [last.keys(each) for each in memory], mask)

    def begin(self, memory: Sequence[Tensor]) -> Decoding:
        """Start to generate one caption for each of B images; memories are [B, S, D]."""
        self._check(memory)
        return Decoding(self, memory)

    def _layers(self) -> list[CaptionLayer]:
        return [layer for layer in self.layers if isinstance(layer, CaptionLayer)]


def known(input_ids: Tensor, ignored: Sequence[int]) -> Tensor:
    """Bool like `input_ids`: whether a word is none of `ignored`."""
    keep = torch.ones_like(input_ids, dtype=torch.bool)
    for each in ignored:
        keep &= input_ids != each
    return keep


class Decoding:
    """Captions under way: B images with K beams each, which may both shrink.

    `nn.beam.beam_search` drives it; nothing is left on the decoder.
    """

    def __init__(self, decoder: CaptionDecoder, memory: Sequence[Tensor]) -> None:
        self.decoder = decoder
        self._memory = [[layer.keys(each) for each in memory] for layer in decoder._layers()]
        self._cache: list[KeyValue | None] = [None] * len(self._memory)
        self._seen: Tensor | None = None
        self.length = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Append one word to every beam.

        Args:
            tokens: [B, K].

        Returns:
            Logits [B, K, V] of the next words.
        """
        decoder = self.decoder
        mask = None
        if decoder.ignored_generating:
            new = known(tokens, decoder.ignored_generating).view(-1, 1)
            self._seen = new if self._seen is None else torch.cat([self._seen, new], 1)
            mask = self._seen[:, None, None]
        # All beams are at the same position, so the words of K beams are not a sequence.
        x = decoder._words(tokens.reshape(-1, 1), first=self.length).view(*tokens.shape, -1)
        for i, layer in enumerate(decoder._layers()):
            x, self._cache[i] = layer.step(x, self._memory[i], self._cache[i], mask)
        self.length += 1
        return decoder.head(F.dropout(x, decoder.dropout, decoder.training))

    def select(self, images: Tensor | None, beams: Tensor) -> None:
        """Go on with some images and beams only, in a new order.

        Args:
            images: [B'] rows of the images that go on; None for all.
            beams: [B', K'] the beams of each that go on; one may be named twice.
        """
        if self._cache and self._cache[0] is not None:
            total = len(self._memory[0][0][0])
            width = len(self._cache[0][0]) // total
            start = torch.arange(total, device=beams.device) if images is None else images
            rows = (start.unsqueeze(1) * width + beams).flatten()
            self._cache = [(kv[0][rows], kv[1][rows]) for kv in self._cache if kv is not None]
            self._seen = None if self._seen is None else self._seen[rows]
        if images is not None:
            self._memory = [
                [(keys[images], values[images]) for keys, values in layer] for layer in self._memory
            ]
