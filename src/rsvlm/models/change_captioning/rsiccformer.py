"""RSICCformer: change captions from the difference of two dates' features.

Liu, Zhao, Chen, Zou, Shi, 2022, "Remote Sensing Image Change Captioning With Dual-Branch
Transformers: A New Method and a Large Scale Dataset", IEEE TGRS (doi 10.1109/TGRS.2022.3218921),
and the code at Chen-Yang-Liu/RSICC, commit d1505e5.

One ResNet-101, up to layer3, for both dates; 14 x 14 maps with learned positions; three layers in
which each date attends to the difference after - before (key and value, whatever the published
class is called); their outputs fused stage by stage (MBF); a one-layer caption decoder.

Recipe (code): Adam, learning rate 1e-4, tower frozen by default (its batch norm's running
statistics still move), the decoder's rate times 0.7 whenever the epochs without a better BLEU-4 are
a multiple of 3, gradients clipped by value at 5, 40 epochs, stop after 10 without a better one,
dropout 0.5, default batch 2. Validation at beam 1; the authors advise beam 3 and the mean of five
runs.

Checkpoints are dicts of whole pickled modules without a public address that a program can fetch,
hence no zoo row. The second attentions, the other three projections, the learned word positions and
the three `fc_alpha` are stored and never used; the table drops them.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.models.change_captioning.attention import (
    CrossLayer,
    Fusion,
    GridPositions,
    reset_encoder,
)
from rsvlm.models.change_captioning.base import ChangeCaptioner, vocabulary_size
from rsvlm.models.change_captioning.decoder import CaptionDecoder
from rsvlm.models.change_captioning.layouts import (
    cross_layer,
    decoder_table,
    fusion_table,
    resnet_tower,
)


class DifferenceEncoder(nn.Module):
    """Projection, positions, stacked layers `x_t = cross(x_t, x_2 - x_1)`, fusion.

    Args:
        feature_dim: channels of the features.
        dim: width of one date.
        heads: attention heads.
        layers: number of layers.
        grid: side of the feature maps; others are pooled to it.
        dropout: inside of the layers.
    """

    def __init__(
        self, feature_dim: int, *, dim: int, heads: int, layers: int, grid: int, dropout: float
    ) -> None:
        super().__init__()
        self.grid = grid
        self.positions = GridPositions(grid, grid, dim)
        self.projection = nn.Conv2d(feature_dim, dim, 1)
        self.layers = nn.ModuleList(CrossLayer(dim, heads, dropout=dropout) for _ in range(layers))
        self.fusion = Fusion(dim, layers)
        reset_encoder(self)

    def outputs(self, features: Tensor) -> list[Tensor]:
        """[B, 2, C, h, w] to the output [2, B, S, D] of every layer."""
        pooled = F.adaptive_avg_pool2d(features.transpose(0, 1).flatten(0, 1), self.grid)
        x = self.projection(pooled).flatten(2).transpose(1, 2)
        x = x + self.positions(self.grid, self.grid)
        found = []
        for layer in self.layers:
            before, after = x.chunk(2)
            x = layer(x, (after - before).repeat(2, 1, 1))
            found.append(x.unflatten(0, (2, -1)))
        return found

    def forward(self, features: Tensor) -> Tensor:
        """[B, 2, C, h, w] to the memory [B, S, 2 D]."""
        pairs = [(x[0], x[1]) for x in self.outputs(features)]
        return self.fusion(pairs, self.grid, self.grid)


class RSICCformer(ChangeCaptioner):
    """The model; all sizes are numbers, the published ones by default.

    Args:
        rgb: tower of the images, [N, 3, H, W] to [N, dim, h, w].
        vocab_size: words, the four special ones included; None takes those of `words`.
        words: the vocabulary, see `ChangeCaptioner`.
        dim: width of one date; the decoder has twice as much.
        heads: attention heads of the encoder.
        layers: layers of the encoder.
        grid: side of the feature maps.
        encoder_dropout: inside of the encoder.
        decoder_heads: attention heads of the decoder.
        decoder_layers: layers of the decoder.
        dropout: inside of the decoder and before its head.
        word_dropout: of embedded words.
        **options: see `ChangeCaptioner`.
    """

    dialects: tuple[Dialect, ...]

    def __init__(
        self,
        rgb: nn.Module,
        vocab_size: int | None = None,
        *,
        words: Vocabulary | None = None,
        dim: int = 512,
        heads: int = 8,
        layers: int = 3,
        grid: int = 14,
        encoder_dropout: float = 0.5,
        decoder_heads: int = 8,
        decoder_layers: int = 1,
        dropout: float = 0.5,
        word_dropout: float = 0.1,
        **options: Any,
    ) -> None:
        decoder = CaptionDecoder(
            vocabulary_size(vocab_size, words),
            2 * dim,
            heads=decoder_heads,
            layers=decoder_layers,
            dropout=dropout,
            word_dropout=word_dropout,
        )
        super().__init__(decoder, words=words, **options)
        self.rgb = rgb
        self.encoder = DifferenceEncoder(
            int(rgb.dim),  # type: ignore[arg-type]
            dim=dim,
            heads=heads,
            layers=layers,
            grid=grid,
            dropout=encoder_dropout,
        )

    def memories(self, batch: Any) -> list[Tensor]:
        """[B, grid * grid, 2 dim] of `batch.images` [B, 2, 3, H, W]."""
        return [self.encoder(self.dates(self.rgb, batch.images))]


_DECODER = "decoder.transformer.layers.{}."
_TABLE: dict[str, Target] = {
    **resnet_tower("encoder_image.net.", "rgb."),
    "encoder_feat.w_embedding.weight": "encoder.positions.columns.weight",
    "encoder_feat.h_embedding.weight": "encoder.positions.rows.weight",
    "encoder_feat.projection.*": "encoder.projection.*",
    **cross_layer(
        "encoder_feat.transformer.{}.", "encoder.layers.{}.", "attention", (1, 2), (1, 2)
    ),
    **fusion_table("encoder_feat.", "encoder.fusion."),
    **decoder_table("decoder.", cross="multihead_attn2", norms=(1, 2, 3)),
    # Stored and never used.
    "encoder_feat.embedding_1D.weight": None,
    **{f"encoder_feat.projection{number}.*": None for number in (2, 3, 4)},
    **{f"{_DECODER}{name}.*": None for name in ("multihead_attn", "multihead_attn3", "self_attn2")},
    **{f"{_DECODER}fc_alpha{number}.*": None for number in (1, 2, 3)},
}

RSICCFORMER = Dialect(
    "rsiccformer",
    ("decoder.transformer.layers.0.multihead_attn3.in_proj_weight",),
    _TABLE,
    pickled=True,
)
RSICCformer.dialects = (RSICCFORMER,)

ROWS: tuple[Row, ...] = ()
