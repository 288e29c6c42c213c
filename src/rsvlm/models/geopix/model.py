"""GeoPix: a LLaVA that answers with masks, and remembers classes.

Ou et al., 2025, "GeoPix: Multi-Modal Large Language Model for Pixel-level Image Understanding in
Remote Sensing" (arXiv 2501.06828); Norman-Ou/GeoPix 4ae9a35, inference only. LLaVA-1.5-7B (CLIP
L/14 at 336 px, two linear layers, Vicuna) reads the image; [SEG0] to [SEG5], three tokens for each
of two scales, point at an object; two convolutional necks on two of CLIP's layers, SAM's prompt
encoder and PixelLM's decoder draw it; a class-wise memory stands between neck and decoder.

Blocks: `nn/mask_decoder.py`, `nn/mask_predictor.py`, `nn/class_memory.py`, `nn/image_necks.py`.
What is shared with LISA and PixelLM: `models/pixel/model.py`.

Two variants of the whole:

- `released` is the published inference, quirks and all: pictures come in with blue first; CLIP's
  processor cuts the sides off, and the mask of what is left is stretched over the whole picture;
  the neck called rough reads the later of the two layers, and the neck called detail the earlier.
  The memory reads one class, the last, for every object, and has no effect.
- `paper` is ours: red first, pictures padded to a square, masks placed where they belong, the rough
  level from the earlier layer, and a memory that is read (see `nn/class_memory.py`).

Not published: training code, stages, rates and tables. CE 1.0, BCE 2.0 and Dice 0.5 are the
configuration's; what else the recipes say is LISA's and PixelLM's, or ours, and marked.

Key map: `models/geopix/layouts.py`. LLaVA's weights are taken too (`init=zoo:llava.v15` with
`init_new=[masks,necks,new]`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.transforms import Pad, Preprocess
from rsvlm.encoders.clip.patches import ClipLayers
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError, near
from rsvlm.models.geopix.layouts import geopix_dialects
from rsvlm.models.llava.model import RESIZE
from rsvlm.models.pixel.model import PixelModel
from rsvlm.models.pixel.placing import as_seen
from rsvlm.nn.class_memory import ClassMemory
from rsvlm.nn.image_necks import GeoPixNeck

VARIANTS = ("paper", "released")


class GeoPix(PixelModel):
    """See the head of this file.

    Args:
        vision: a `ClipLayers` whose further layers are the rough and the detailed one.
        bridge: an `MlpProjector`, or what builds it.
        lm: a `LanguageModel`.
        masks: what builds a `MaskPredictor` from `dim_text` and `memory`.
        memory: a `ClassMemory`; None for none.
        classes: names of its classes, in its order.
        fallback: see `PixelModel`.
        variant: `paper` or `released`.
        neck_hidden: width between a neck's convolutions.
        neck_norm: `batch`, as published, or `layer`.
        resize: `pad`, `crop` or `squash`; `released` always crops.
        system: whose words, format and boxes.
        seg: what an object is written as.
        first_id: see `PixelModel`; 32002 in the published folder.
        **options: of `ChatVLM`.

    Raises:
        UserError: an unknown word, or parts that do not fit each other.
    """

    def __init__(
        self,
        vision: ClipLayers,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        masks: Callable[..., Any],
        *,
        memory: ClassMemory | None = None,
        classes: Sequence[str] = (),
        fallback: str | None = None,
        variant: str = "paper",
        neck_hidden: int = 512,
        neck_norm: str = "batch",
        resize: str = "pad",
        system: str = "geopix",
        seg: str = "geopix",
        first_id: int | None = None,
        **options: Any,
    ) -> None:
        for what, word, known in (
            ("variant", variant, VARIANTS),
            ("resize", resize, tuple(RESIZE)),
        ):
            if word not in known:
                raise UserError(f"model.{what}={word!r} is not known. {near(word, known)}")
        predictor = masks(dim_text=lm.dim, memory=memory)
        if len(vision.layers) != 1 + predictor.levels:
            raise UserError(
                f"model.vision.also has {len(vision.layers) - 1} layers, and masks are drawn at "
                f"{predictor.levels} levels: name a layer for each."
            )
        super().__init__(
            vision,
            bridge,
            lm,
            predictor,
            seg=seg,
            first_id=first_id,
            classes=classes,
            fallback=fallback,
            system=system,
            **options,
        )
        self.variant, self.resize = variant, "crop" if variant == "released" else resize
        width = predictor.prompt_encoder.encoder.embed_dim
        self.necks = nn.ModuleList(
            GeoPixNeck(vision.dim, width, grid=predictor.grid, hidden=neck_hidden, norm=neck_norm)
            for _ in range(predictor.levels)
        )

    @property
    def preprocess(self) -> Pad | Preprocess:
        """To a square of the image size; normalisation is the tower's own."""
        return RESIZE[self.resize](self.image_size)

    @property
    def positions(self) -> str:
        """What to do with positions of another image size, see `ClipPatches`."""
        return self.vision.positions

    def tokens(self, batch: Any, features: Tensor | None = None) -> Tensor:
        """See `VisionLanguageModel.tokens`; of all the layers that are read."""
        if self.variant == "released" and len(batch.images):
            batch = replace(batch, images=batch.images.flip(1))
        return super().tokens(batch, features)

    def project(self, batch: Any, tokens: Tensor) -> list[Tensor] | Tensor:
        """See `VisionLanguageModel.project`; the language model reads the first layer."""
        return super().project(batch, tokens[..., : self.vision.dim])

    def mask_features(self, batch: Any, tokens: Tensor) -> list[Tensor]:
        """The necks' features; see `PixelModel.mask_features`."""
        del batch
        side = math.isqrt(tokens.shape[1])
        maps = tokens.transpose(1, 2).unflatten(2, (side, side))
        layers = list(maps.split(self.vision.dim, dim=1)[1:])
        if self.variant == "released":
            layers.reverse()
        return [neck(layer) for neck, layer in zip(self.necks, layers, strict=True)]

    def place(self, logits: Tensor, batch: Any, row: int, frame: str) -> Tensor:
        """See `PixelModel.place`; `released` stretches what was seen over the whole image."""
        if self.variant == "released" and frame == "stored" and batch.geometry[row]:
            return as_seen(logits, batch.geometry[row][0].source)
        return super().place(logits, batch, row, frame)

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
        return geopix_dialects(
            len(self.bridge.layers),
            tuned,
            words=words,
            first=self._first or words,
            new=len(self.new_words),
            memory=self.masks.memory is not None and self.masks.memory.variant != "none",
        )


ROWS = (
    Row(
        model="geopix",
        tag="sior_rsicap",
        uri="hf://Norman-ou/GeoPix-ft-sior_rsicap@main",
        image_size=336,
        licence="MIT",
        paper="2501.06828",
        homepage="https://github.com/Norman-Ou/GeoPix",
        notes="a folder of parts; model.variant=released model.tuning=frozen to run it",
    ),
)
