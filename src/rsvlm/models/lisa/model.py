"""LISA: a LLaVA whose [SEG] is drawn by SAM.

Lai et al., 2024, "LISA: Reasoning Segmentation via Large Language Model" (arXiv 2308.00692);
dvlab-research/LISA 3cb2d43. LLaVA (CLIP L/14 at 224 px, one linear layer, Vicuna-7B or -13B) reads
the picture and writes one [SEG] for an object; the state that predicted it, through two linear
layers, is the one prompt of SAM's mask decoder over a frozen SAM encoder's features at 1,024 px.

Blocks: `encoders/sam.py`, `nn/mask_decoder.py`, `nn/mask_predictor.py` with one level and one
token. What is shared with GeoPix and PixelLM: `models/pixel/model.py`.

Trained as published: LoRA of rank 8 on q_proj and v_proj, the mask decoder, the two linear layers.
Published training also holds copies of the whole word table and head; here the rows of [SEG] and of
the marks around a picture are weights of their own, which is all that is new in them.

Two deviations: CLIP's view of a picture is made of SAM's canvas, the longest side at 1,024 px, the
rest filled with the mean colour, where the published code resizes and crops the stored picture once
more (the same for square pictures, up to resampling); what no output depends on is not trained.

Key map: `models/lisa/layouts.py`. CLIP is not in the published folder (`model.vision.weights=`).
SAM's own file goes to `model.sam.weights`, encoder and decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm import checkpoints
from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.corner_pad import CornerPad
from rsvlm.data.geometry import Geometry
from rsvlm.encoders.clip.patches import ClipPatches
from rsvlm.encoders.language import LanguageModel
from rsvlm.encoders.sam import SamEncoder
from rsvlm.models.lisa.layouts import lisa_dialects, sam_masks_dialect
from rsvlm.models.pixel.model import PixelModel

MARKS = ("<im_start>", "<im_end>")


class LISA(PixelModel):
    """See the head of this file.

    Args:
        vision: a `ClipPatches`.
        bridge: an `MlpProjector`, or what builds it.
        lm: a `LanguageModel`.
        masks: what builds a `MaskPredictor` of one level from `dim_text`, `grid`, `image_size`,
            `canvas` and `dim`.
        sam: a `SamEncoder`; the decoder starts from its weights too.
        system: whose words and format.
        seg: what an object is written as.
        marks: new words behind [SEG].
        first_id: see `PixelModel`; 32000 in the published folders.
        train_bridge: train the projector too, which the published training freezes.
        **options: of `ChatVLM`.
    """

    def __init__(
        self,
        vision: ClipPatches,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        masks: Callable[..., Any],
        sam: SamEncoder,
        *,
        system: str = "lisa",
        seg: str = "lisa",
        marks: Sequence[str] = MARKS,
        first_id: int | None = None,
        train_bridge: bool = False,
        **options: Any,
    ) -> None:
        predictor = masks(
            dim_text=lm.dim,
            dim=sam.dim,
            grid=sam.grid,
            image_size=sam.image_size,
            canvas=4 * sam.grid,
        )
        super().__init__(
            vision,
            bridge,
            lm,
            predictor,
            seg=seg,
            marks=marks,
            first_id=first_id,
            system=system,
            **options,
        )
        self.sam = sam
        self.bridge.requires_grad_(train_bridge)
        if sam.weights is not None and not sam.mean.is_meta:
            dialects = [sam_masks_dialect()]
            checkpoints.load(predictor, sam.weights, new=["text"], dialects=dialects)

    @property
    def image_size(self) -> int:
        """Side of the canvas, pixels."""
        return self.sam.image_size

    @property
    def preprocess(self) -> CornerPad:
        """SAM's: the longest side at the canvas', the picture in the upper left corner."""
        return CornerPad(self.image_size)

    def clip_view(self, images: Tensor) -> Tensor:
        """The canvas [N, 3, S, S] as CLIP's tower takes it, uint8."""
        side = self.vision.image_size
        if not len(images):
            return images.new_zeros(1, 3, side, side)
        if images.shape[-1] == side:
            return images
        small = F.interpolate(images.float(), (side, side), mode="bicubic", antialias=True)
        return small.round().clamp(0, 255).to(torch.uint8)

    def frozen_features(self, images: Tensor) -> Tensor:
        """See `VisionLanguageModel.frozen_features`; of the view, or of the canvas."""
        return super().frozen_features(self.clip_view(images))

    def tokens(self, batch: Any, features: Tensor | None = None) -> Tensor:
        """See `VisionLanguageModel.tokens`."""
        view = SimpleNamespace(images=self.clip_view(batch.images))
        return super().tokens(view, features)

    def mask_features(self, batch: Any, tokens: Tensor) -> list[Tensor]:
        """SAM's features; see `PixelModel.mask_features`."""
        images = batch.images
        if not len(images):
            grid = self.sam.grid
            return [tokens.new_zeros(1, self.sam.dim, grid, grid)]
        sizes = [(self.image_size, self.image_size)] * len(images)
        for rows, geometries in zip(batch.image_rows, batch.geometry, strict=True):
            for row, geometry in zip(rows, geometries, strict=True):
                sizes[row] = covered(geometry)
        return [self.sam(images, sizes)]

    @property
    def dialects(self) -> tuple[Dialect, ...]:
        """The published folder, and LLaVA's layouts for a start."""
        return self._dialects(self.lm.tuned)

    @property
    def published(self) -> Dialect:
        """The published folder's layout of the model without LoRA."""
        return self._dialects(())[0]

    def _dialects(self, tuned: Sequence[str]) -> tuple[Dialect, ...]:
        words = self.lm.model.get_input_embeddings().num_embeddings
        return lisa_dialects(
            len(self.bridge.layers),
            tuned,
            words=words,
            first=self._first or words,
            new=len(self.new_words),
        )


def covered(geometry: Geometry) -> tuple[int, int]:
    """Height and width of the canvas that a picture covers, from the upper left corner.

    What an augmentation has cut out or turned covers all of it.
    """
    if not geometry.upright:
        return geometry.size
    (high, wide), (a, _, c, _, e, f) = geometry.source, geometry.matrix
    down, right = round(f + e * high), round(c + a * wide)
    return min(down, geometry.size[0]), min(right, geometry.size[1])


ROWS = tuple(
    Row(
        model="lisa_7b",
        tag=tag,
        uri=f"hf://xinlai/{name}@main",
        image_size=1024,
        licence="not stated",
        paper="2308.00692",
        homepage="https://github.com/dvlab-research/LISA",
        notes="merged; CLIP L/14 comes beside it (model.vision.weights=zoo:clip_vitl14.openai); "
        "model.tuning=frozen to run it",
    )
    for tag, name in (("v1", "LISA-7B-v1"), ("v1_explanatory", "LISA-7B-v1-explanatory"))
)
