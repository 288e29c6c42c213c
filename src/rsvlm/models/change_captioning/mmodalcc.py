"""MModalCC: change captions from the images and the semantic maps of two dates.

Karaca, Ozelbas and others, 2025, "Robust Change Captioning in Remote Sensing: SECOND-CC Dataset
and MModalCC Framework", IEEE JSTARS (doi 10.1109/JSTARS.2025.3600613, arXiv 2501.10075), and the
code at ChangeCapsInRS/SecondCC, commit bac59aa.

Two ResNet-101, up to layer3, give four maps of 14 x 14: images and coloured semantic maps, before
and after. Each layer of the encoder lets the two modalities of a date attend to one another (CMCA)
and then each to the difference of its own two dates (UDCA); the layers' outputs are fused stage by
stage. The decoder attends to both modalities with one attention and weighs the two results and the
words with gates (MGCA).

Paper and code differ. In the drawing a layer takes the outputs of the one before (`stacked`); in
the code every layer gets the same projected maps (`parallel`, so the published weights need it).
The drawing has one fusion for each modality, and one attention for each purpose; the code shares
them. The code feeds images and maps in 0..1, which is probably a slip of its transform; the
ImageNet weights that it starts from expect ImageNet's mean and deviation.

Recipe (code): Adam, learning rate 5e-5 throughout, the decoder's times 0.7 whenever the epochs
without a better BLEU-4 are a multiple of 3; gradients of decoder and towers clipped by value at 5,
not the encoder's; batch 28, 30 epochs, stop after 10 without a better one; dropout 0.5; a sample is
one image with one of its captions. Stem and layer1 of the towers are frozen, but their batch norm's
running statistics move. Beam 4 in evaluation, 1 in validation.

Checkpoints are dicts of whole pickled modules, whose tensors `checkpoints.load` takes without
running their code; they are on Google Drive only and have no zoo row. They hold tensors that the
published code never uses; the table names and drops them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect, Target
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.palette import NO_CHANGE, RGB, SECOND
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD, prepare
from rsvlm.errors import UserError, near
from rsvlm.models.change_captioning.base import ChangeCaptioner, vocabulary_size
from rsvlm.models.change_captioning.cross_modal import ModalEncoder
from rsvlm.models.change_captioning.decoder import CaptionDecoder
from rsvlm.models.change_captioning.layouts import (
    cross_layer,
    decoder_table,
    fusion_table,
    resnet_tower,
)
from rsvlm.models.change_captioning.segmenter import map_ids

VARIANTS = ("stacked", "parallel")
SOURCES = ("dataset", "model")

#: Colours by class id. The published training turned SECOND's white, "no change", into black.
SECOND_COLOURS: tuple[RGB, ...] = tuple(
    (0, 0, 0) if number == NO_CHANGE else colour for number, colour in enumerate(SECOND.values())
)
#: The generated world's classes beyond SECOND's six.
SCENES_COLOURS: tuple[RGB, ...] = (
    *SECOND_COLOURS[:NO_CHANGE],
    *((255, 255, 0), (255, 0, 255), (0, 255, 255), (255, 128, 0)),
    *((128, 0, 255), (0, 128, 128), (255, 255, 255)),
)
PALETTES: Mapping[str, tuple[RGB, ...]] = {"second": SECOND_COLOURS, "scenes": SCENES_COLOURS}


class MModalCC(ChangeCaptioner):
    """The model; all sizes are numbers, the published ones by default.

    Args:
        rgb: tower of the images, [N, 3, H, W] to [N, dim, h, w].
        semantic: tower of the coloured semantic maps; None for a model of images alone.
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
        variant: `stacked` (paper) or `parallel` (released code and weights).
        share_cross_weights: see `ModalLayer`; the published weights need True.
        share_conv_block: one fusion for both modalities; the published weights need True.
        cmca: cross-modal attention; False leaves it out.
        mgca: gates in the decoder; False adds the attentions up instead.
        normalize: see `ChangeCaptioner`; None means `imagenet` for `stacked` and `none`, as the
            published weights need it, for `parallel`.
        palette: colours of the semantic classes by id: `second`, `scenes`, or a list of RGB.
        semantic_from: where the semantic maps come from: the `dataset`, or the `model`, which then
            has a `segmenter`, in training and generation alike.
        segmenter: pairs normalised with ImageNet's numbers, [B, 2, 3, H, W], to logits
            [B, 2, classes, H, W]; see `nn.semantic`.
        **options: see `ChangeCaptioner`.

    Raises:
        UserError: an unknown variant or palette.
    """

    def __init__(
        self,
        rgb: nn.Module,
        semantic: nn.Module | None,
        vocab_size: int | None = None,
        *,
        words: Vocabulary | None = None,
        dim: int = 512,
        heads: int = 8,
        layers: int = 2,
        grid: int = 14,
        encoder_dropout: float = 0.5,
        decoder_heads: int = 8,
        decoder_layers: int = 1,
        dropout: float = 0.5,
        word_dropout: float = 0.1,
        variant: str = "stacked",
        share_cross_weights: bool = True,
        share_conv_block: bool = True,
        cmca: bool = True,
        mgca: bool = True,
        normalize: str | None = None,
        palette: str | Sequence[Sequence[int]] = "second",
        semantic_from: str = "dataset",
        segmenter: nn.Module | None = None,
        **options: Any,
    ) -> None:
        if variant not in VARIANTS:
            raise UserError(f"model.variant={variant!r}. {near(variant, VARIANTS)}")
        if isinstance(palette, str) and palette not in PALETTES:
            raise UserError(f"model.palette={palette!r}. {near(palette, PALETTES)}")
        if semantic_from not in SOURCES:
            raise UserError(
                f"model.semantic_from={semantic_from!r}. {near(semantic_from, SOURCES)}"
            )
        if (semantic_from == "model") != (segmenter is not None):
            raise UserError(
                f"model.semantic_from={semantic_from} goes with "
                + ("a model.segmenter." if segmenter is None else "model.segmenter=null.")
            )
        decoder = CaptionDecoder(
            vocabulary_size(vocab_size, words),
            2 * dim,
            heads=decoder_heads,
            layers=decoder_layers,
            memories=1 if semantic is None else 2,
            gated=mgca,
            dropout=dropout,
            word_dropout=word_dropout,
        )
        normalize = normalize or ("imagenet" if variant == "stacked" else "none")
        super().__init__(decoder, words=words, normalize=normalize, **options)
        self.variant = variant
        self.share_cross_weights, self.share_conv_block = share_cross_weights, share_conv_block
        colours = PALETTES[palette] if isinstance(palette, str) else palette
        self.palette = tuple(tuple(int(x) for x in colour) for colour in colours)
        if segmenter is not None and int(segmenter.classes) > len(self.palette):  # type: ignore[arg-type]
            raise UserError(
                f"the segmentation model has {segmenter.classes} classes and model.palette colours "
                f"for {len(self.palette)}."
            )
        self.rgb, self.semantic, self.segmenter = rgb, semantic, segmenter
        self.encoder = ModalEncoder(
            int(rgb.dim),  # type: ignore[arg-type]
            None if semantic is None else int(semantic.dim),  # type: ignore[arg-type]
            dim=dim,
            heads=heads,
            layers=layers,
            grid=grid,
            dropout=encoder_dropout,
            variant=variant,
            share_cross_weights=share_cross_weights,
            share_conv_block=share_conv_block,
            cmca=cmca,
        )

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The published layout."""
        return (MMODALCC,)

    def colour(self, maps: Tensor) -> Tensor:
        """Class ids [B, 2, H, W] as uint8 pictures [B, 2, 3, H, W].

        Raises:
            UserError: an id without a colour.
        """
        low, high = maps.aminmax()
        if int(low) < 0 or int(high) >= len(self.palette):
            raise UserError(
                f"a semantic map holds class {int(low if low < 0 else high)}, and the palette has "
                f"colours for 0 to {len(self.palette) - 1}: give model.palette the colours of the "
                "data set's classes, in the order of their ids."
            )
        return self._paint(maps)

    def _paint(self, maps: Tensor) -> Tensor:
        table = torch.tensor(self.palette, dtype=torch.uint8, device=maps.device)
        return table[maps.long()].movedim(-1, 2)

    def forward(self, batch: Any) -> dict[str, Tensor]:
        """See `ChangeCaptioner`; with a `segmenter` also its `semantic_logits` [B, 2, C, H, W]."""
        if self.segmenter is None:
            return super().forward(batch)
        seen = self._segmented(batch)
        length = int(batch.caption_lengths.max()) - 1
        memories = self._memories(batch, self._paint(map_ids(seen)))
        logits = self.decoder(memories, batch.input_ids[:, :length])
        return {"logits": logits, "semantic_logits": seen}

    def memories(self, batch: Any) -> list[Tensor]:
        """One memory [B, grid * grid, 2 dim] of each modality.

        Args:
            batch: `images` [B, 2, 3, H, W]; `semantic`, class ids [B, 2, H, W] or pictures
                [B, 2, 3, H, W] (uint8, or float as ready), not read with a `segmenter`.

        Raises:
            UserError: the model reads semantic maps and the batch has none.
        """
        if self.segmenter is not None:
            return self._memories(batch, self._paint(map_ids(self._segmented(batch))))
        return self._memories(batch, None if self.semantic is None else batch.semantic)

    def _segmented(self, batch: Any) -> Tensor:
        assert self.segmenter is not None
        return self.segmenter(prepare(batch.images, IMAGENET_MEAN, IMAGENET_STD))

    def _memories(self, batch: Any, maps: Tensor | None) -> list[Tensor]:
        images = self.dates(self.rgb, batch.images)
        if self.semantic is None:
            return self.encoder(images, None)
        if maps is None:
            raise UserError(
                "this MModalCC reads semantic maps and the data has none: use a data set with maps "
                "(SECOND-CC, the generated world), a model without them (model.semantic=null), or "
                "one that makes them (model.semantic_from=model)."
            )
        pictures = maps if maps.dim() == 5 else self.colour(maps)
        return self.encoder(images, self.dates(self.semantic, pictures))


_LAYER = "encoder_feat.transformer.{}."
_TABLE: dict[str, Target] = {
    **resnet_tower("encoder_image.net.", "rgb."),
    **resnet_tower("encoder_image2.net.", "semantic."),
    "encoder_feat.w_embedding.weight": "encoder.positions.columns.weight",
    "encoder_feat.h_embedding.weight": "encoder.positions.rows.weight",
    "encoder_feat.embedding_1D.weight": None,
    "encoder_feat.projection.*": "encoder.projection.*",
    "encoder_feat.projection2.*": "encoder.projection_semantic.*",
    **cross_layer(_LAYER, "encoder.layers.{}.cross.shared.", "attention2", (3, 4), (3, 4)),
    # The first attention of each layer, with its norms and feed-forward part, is never called.
    **{f"{_LAYER}{name}.*": None for name in ("attention", "norm1", "norm2", "linear1", "linear2")},
    **fusion_table("encoder_feat.", "encoder.fusion."),
    **decoder_table("decoder.", cross="multihead_attn", norms=(1, 3, 4)),
    "decoder.transformer.layers.{}.gate.0.*": "decoder.layers.{}.gates.0.*",
    "decoder.transformer.layers.{}.gate2.0.*": "decoder.layers.{}.gates.1.*",
    "decoder.transformer.layers.{}.gate3.0.*": "decoder.layers.{}.gate.*",
    "decoder.transformer.layers.{}.multihead_attn2.*": None,
    "decoder.transformer.layers.{}.norm2.*": None,
}

MMODALCC = Dialect(
    "mmodalcc",
    ("decoder.transformer.layers.0.gate.0.weight",),
    _TABLE,
    facts={
        "variant": "parallel",
        "normalize": "none",
        "share_cross_weights": True,
        "share_conv_block": True,
    },
    pickled=True,
)

ROWS: tuple[Row, ...] = ()
