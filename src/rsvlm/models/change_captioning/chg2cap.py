"""Chg2Cap: an attentive network for change captions.

Chang, Ghamisi, 2023, "Changes to Captions: An Attentive Network for Remote Sensing Change
Captioning", IEEE TIP (doi 10.1109/TIP.2023.3328224, arXiv 2304.01091), and the code at
ShizhenChang/Chg2Cap, commit 7b8cda9.

ResNet-101 with all four stages gives 8 x 8 maps; in each of three layers a self-attention block
runs on each date and a joint block on the channels of both together, and the layer's input plus
positions is added; both dates and their cosine similarity are fused by convolutions; a one-layer
caption decoder, which adds its input to its output, writes the sentence.

Paper and code differ: the code's attention takes `to_k` for keys and values alike, and its `to_v`
is stored and never called. `variant=released` does the same, which the published weights need;
`paper` has values of their own. Both keep two harmless twists of the code: its `h_embedding` is
indexed by the column and `w_embedding` by the row, and the encoder's maps come out transposed.

Recipe (code): Adam, learning rate 1e-4 for all parts, halved every 5 epochs, batch 32, 50 epochs,
dropout 0.1, images 256 x 256 minus the data set's mean by its deviation; stages 2 to 4 of the tower
learn. Greedy decoding, at most 41 words (27 on Dubai-CC). While training, no word looks at padding
and at `<END>`; while generating, at padding only.

Checkpoints are plain dicts of three state dicts, `encoder_dict`, `encoder_trans_dict` and
`decoder_dict`; there is no address that a program can fetch, hence no zoo row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.errors import UserError, near
from rsvlm.models.change_captioning.attention import ConvBlock, GridPositions, reset_encoder
from rsvlm.models.change_captioning.base import ChangeCaptioner, vocabulary_size
from rsvlm.models.change_captioning.decoder import CaptionDecoder
from rsvlm.models.change_captioning.layouts import conv_block, decoder_table, resnet_tower

VARIANTS = ("released", "paper")


class WideAttention(nn.Module):
    """Multi-head self attention of a width of its own, without biases but for the last.

    Args:
        dim: width outside.
        inner: width of queries, keys and values.
        heads: attention heads.
        dropout: of weights and output.
        own_values: project values by themselves; otherwise they are the keys.
    """

    def __init__(
        self, dim: int, inner: int, heads: int, *, dropout: float, own_values: bool
    ) -> None:
        super().__init__()
        if inner % heads:
            raise UserError(f"attention_dim={inner} is not divisible by heads={heads}.")
        self.heads, self.dropout = heads, dropout
        self.to_q = nn.Linear(dim, inner, bias=False)
        self.to_k = nn.Linear(dim, inner, bias=False)
        self.to_v = nn.Linear(dim, inner, bias=False) if own_values else None
        self.to_out = nn.Linear(inner, dim)

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, D] to [B, S, D]."""
        queries, keys = self.to_q(x), self.to_k(x)
        values = keys if self.to_v is None else self.to_v(x)
        q, k, v = (
            each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in (queries, keys, values)
        )
        rate = self.dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        return F.dropout(self.to_out(seen.transpose(1, 2).flatten(2)), self.dropout, self.training)


class WideBlock(nn.Module):
    """Post-norm transformer layer around `WideAttention`."""

    def __init__(
        self, dim: int, *, inner: int, heads: int, hidden: int, dropout: float, own_values: bool
    ) -> None:
        super().__init__()
        self.att = WideAttention(dim, inner, heads, dropout=dropout, own_values=own_values)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.linear1, self.linear2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """[B, S, D] to [B, S, D]."""

        def drop(h: Tensor) -> Tensor:
            return F.dropout(h, self.dropout, self.training)

        x = self.norm1(self.att(x) + x)
        return self.norm2(drop(self.linear2(drop(torch.relu(self.linear1(x))))) + x)


class AttentiveEncoder(nn.Module):
    """Positions and layers: self attention of each date, then attention of both together.

    Args:
        dim: channels of the features.
        grid: most rows and columns of the feature maps.
        layers: number of layers.
        heads: attention heads.
        inner: width of queries and keys.
        hidden: width of the feed-forward parts.
        dropout: of everything inside.
        variant: `released` or `paper`.
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: int,
        layers: int,
        heads: int,
        inner: int,
        hidden: int,
        dropout: float,
        variant: str,
    ) -> None:
        super().__init__()
        sizes: dict[str, Any] = {
            "inner": inner,
            "heads": heads,
            "hidden": hidden,
            "dropout": dropout,
            "own_values": variant == "paper",
        }
        self.positions = GridPositions(grid, grid, dim)
        self.own = nn.ModuleList(WideBlock(dim, **sizes) for _ in range(layers))
        self.joint = nn.ModuleList(WideBlock(2 * dim, **sizes) for _ in range(layers))
        reset_encoder(self)

    def forward(self, features: Tensor) -> Tensor:
        """[B, 2, D, h, w] to [B, 2, D, w, h]: the maps come out transposed, as published."""
        height, width = features.shape[-2:]
        start = features.flatten(3).transpose(2, 3) + self.positions(height, width)
        x = start
        for own, joint in zip(self.own, self.joint, strict=True):
            x = own(x.flatten(0, 1)).view_as(x) + x
            both = joint(torch.cat([x[:, 0], x[:, 1]], dim=-1))
            x = torch.stack(both.chunk(2, dim=-1), dim=1) + start
        return x.transpose(2, 3).unflatten(3, (height, width)).transpose(3, 4)


class PairFusion(nn.Module):
    """`ConvBlock(Conv1x1([a; b] + cos(a, b)))`, the similarity being added to every channel."""

    def __init__(self, feature_dim: int, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * feature_dim, dim, 1)
        self.block = ConvBlock(dim)

    def forward(self, pair: Tensor) -> Tensor:
        """[B, 2, C, h, w] to [B, D, h, w]."""
        alike = F.cosine_similarity(pair[:, 0], pair[:, 1], dim=1).unsqueeze(1)
        return self.block(self.conv(pair.flatten(1, 2) + alike))


class Chg2Cap(ChangeCaptioner):
    """The model; all sizes are numbers, the published ones by default.

    Args:
        rgb: tower of the images, [N, 3, H, W] to [N, dim, h, w].
        vocab_size: words, the four special ones included; None takes those of `words`.
        words: the vocabulary, see `ChangeCaptioner`.
        grid: most rows and columns of the feature maps.
        heads: attention heads, of the decoder as well.
        layers: layers of the encoder.
        attention_dim: width of the encoder's queries and keys.
        hidden: width of the encoder's feed-forward parts.
        dim: width of the decoder.
        decoder_layers: layers of the decoder.
        dropout: of everything.
        word_dropout: of embedded words.
        variant: `released` (keys serve as values) or `paper`.
        start: id of the start word.
        end: id of the end word.
        steps: most words of a caption, the end included.
        normalize: see `ChangeCaptioner`.
        **options: see `ChangeCaptioner`.

    Raises:
        UserError: an unknown variant.
    """

    dialects: tuple[Dialect, ...]

    transposed = True

    def __init__(
        self,
        rgb: nn.Module,
        vocab_size: int | None = None,
        *,
        words: Vocabulary | None = None,
        grid: int = 16,
        heads: int = 8,
        layers: int = 3,
        attention_dim: int = 2048,
        hidden: int = 512,
        dim: int = 2048,
        decoder_layers: int = 1,
        dropout: float = 0.1,
        word_dropout: float = 0.1,
        variant: str = "released",
        start: int = 2,
        end: int = 3,
        steps: int = 41,
        normalize: str = "levir_cc",
        **options: Any,
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f"model.variant={variant!r}. {near(variant, VARIANTS)}")
        pad = int(options.get("pad", 0))
        decoder = CaptionDecoder(
            vocabulary_size(vocab_size, words),
            dim,
            heads=heads,
            layers=decoder_layers,
            residual=True,
            dropout=dropout,
            word_dropout=word_dropout,
            ignored=(pad, end),
            ignored_generating=(pad,),
        )
        super().__init__(
            decoder, words=words, start=start, end=end, steps=steps, normalize=normalize, **options
        )
        self.variant = variant
        self.rgb = rgb
        channels = int(rgb.dim)  # type: ignore[arg-type]
        self.encoder = AttentiveEncoder(
            channels,
            grid=grid,
            layers=layers,
            heads=heads,
            inner=attention_dim,
            hidden=hidden,
            dropout=dropout,
            variant=variant,
        )
        self.fusion = PairFusion(channels, dim)

    def memories(self, batch: Any) -> list[Tensor]:
        """[B, h * w, dim] of `batch.images` [B, 2, 3, H, W]."""
        pair = self.encoder(self.dates(self.rgb, batch.images))
        return [self.fusion(pair).flatten(2).transpose(1, 2)]


def _block(number: int, ours: str) -> dict[str, Target]:
    theirs = f"encoder_trans_dict.selftrans.{{}}.{number}."
    return {
        f"{theirs}att.to_q.weight": f"{ours}att.to_q.weight",
        f"{theirs}att.to_k.weight": f"{ours}att.to_k.weight",
        f"{theirs}att.to_v.weight": None,  # never called
        f"{theirs}att.to_out.0.*": f"{ours}att.to_out.*",
        f"{theirs}feedforward.net.0.*": f"{ours}linear1.*",
        f"{theirs}feedforward.net.3.*": f"{ours}linear2.*",
        f"{theirs}norm1.*": f"{ours}norm1.*",
        f"{theirs}norm2.*": f"{ours}norm2.*",
    }


_TABLE: dict[str, Target] = {
    **resnet_tower("encoder_dict.cnn.", "rgb.", stages=4),
    "encoder_trans_dict.h_embedding.weight": "encoder.positions.columns.weight",
    "encoder_trans_dict.w_embedding.weight": "encoder.positions.rows.weight",
    **_block(0, "encoder.own.{}."),
    **_block(1, "encoder.joint.{}."),
    "decoder_dict.Conv1.*": "fusion.conv.*",
    **conv_block("decoder_dict.LN.left.", "fusion.block."),
    **decoder_table("decoder_dict.", cross="multihead_attn", norms=(1, 2, 3)),
    # Stored and never used.
    **{f"decoder_dict.transformer.layers.{{}}.fc_alpha{number}.*": None for number in (1, 2, 3)},
}

CHG2CAP = Dialect(
    "chg2cap", ("encoder_trans_dict.h_embedding.weight",), _TABLE, facts={"variant": "released"}
)
Chg2Cap.dialects = (CHG2CAP,)

ROWS: tuple[Row, ...] = ()
