"""PixelLM: masks from CLIP's features and a codebook of tokens, without a segmentation model.

Ren et al., 2024, "PixelLM: Pixel Reasoning with Large Multimodal Model" (arXiv 2312.02228);
MaverickRen/PixelLM ebf0792. CLIP L/14 with its positions resized to 448 px gives 32 x 32 patches;
made 16 x 16 and through two linear layers they stand before the question. [SEG0] to [SEG5], three
for each of two scales and written with spaces, point at an object. Two of CLIP's layers through a
projector of their own and one neck are what the multi-scale decoder draws it from.

Blocks: `nn/mask_decoder.py`, `nn/mask_predictor.py`, `nn/image_necks.py`, `nn/projectors.py`. What
is shared with GeoPix and LISA: `models/pixel/model.py`.

Of the published training two things are not kept: neck and prompt encoder stay at random there, as
adapters freeze them, and the scalars of tokens and scales are seen by no optimiser; ours trains all
of them. `overlap_loss` is commented out there, and not here at all.

Deviations of the released inference: pictures that are not square are padded in the lower right
corner as there, but CLIP attends to the padding (there it does not); positions are resized from
CLIP's grid with the class token first, which the published code takes for the last.

Key map: `models/pixellm/layouts.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.checkpoints.zoo import Row
from rsvlm.data.corner_pad import CornerPad
from rsvlm.encoders.clip.patches import ClipLayers
from rsvlm.encoders.language import LanguageModel
from rsvlm.errors import UserError
from rsvlm.models.pixel.model import PixelModel
from rsvlm.models.pixellm.layouts import pixellm_dialects
from rsvlm.nn.image_necks import SamNeck

MARKS = ("<im_start>", "<im_end>")
#: Scalars that no published file holds.
SCALARS = ("masks.token_weights", "masks.level_weights")


class PixelLM(PixelModel):
    """See the head of this file.

    Args:
        vision: a `ClipLayers` whose further layers are those of the scales.
        bridge: a `PooledMlpProjector`, or what builds it.
        lm: a `LanguageModel`.
        masks: what builds a `MaskPredictor` from `dim_text`.
        mask_projector: what builds the projector of the masks' features from `dim_in`, `dim_out`.
        system: whose words and format.
        seg: what an object is written as.
        marks: new words behind the tokens of an object.
        first_id: see `PixelModel`; 32000 in the published folders.
        **options: of `ChatVLM`.

    Raises:
        UserError: another number of layers than of scales.
    """

    def __init__(
        self,
        vision: ClipLayers,
        bridge: nn.Module | Callable[..., nn.Module],
        lm: LanguageModel,
        masks: Callable[..., Any],
        mask_projector: Callable[..., Any],
        *,
        system: str = "pixellm",
        seg: str = "pixellm",
        marks: Sequence[str] = MARKS,
        first_id: int | None = None,
        **options: Any,
    ) -> None:
        predictor = masks(dim_text=lm.dim)
        if len(vision.layers) != 1 + predictor.levels:
            raise UserError(
                f"model.vision.also has {len(vision.layers) - 1} layers, and masks are drawn at "
                f"{predictor.levels} scales: name a layer for each."
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
        self.mask_projector = mask_projector(dim_in=vision.dim, dim_out=lm.dim)
        self.neck = SamNeck(lm.dim, predictor.prompt_encoder.encoder.embed_dim)

    @property
    def preprocess(self) -> CornerPad:
        """The longest side at the image's, the picture in the upper left corner."""
        return CornerPad(self.image_size, interpolation="bicubic")

    @property
    def positions(self) -> str:
        """What to do with positions of another image size, see `ClipPatches`."""
        return self.vision.positions

    def project(self, batch: Any, tokens: Tensor) -> list[Tensor] | Tensor:
        """See `VisionLanguageModel.project`; the language model reads the first layer."""
        return super().project(batch, tokens[..., : self.vision.dim])

    def mask_features(self, batch: Any, tokens: Tensor) -> list[Tensor]:
        """Projected layers through the one neck; see `PixelModel.mask_features`."""
        del batch
        side = math.isqrt(tokens.shape[1])
        found = []
        for layer in tokens.split(self.vision.dim, dim=-1)[1:]:
            maps = self.mask_projector(layer).transpose(1, 2).unflatten(2, (side, side))
            found.append(self.neck(maps))
        return found

    @property
    def initial(self) -> list[str]:
        """What a published file lacks because its training left it as it was made."""
        return [n for n, _ in self.named_parameters() if n.startswith(SCALARS)]

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
        return pixellm_dialects(
            tuned, words=words, first=self._first or words, new=len(self.new_words)
        )


#: Where the published weights lie could not be confirmed; a path is taken as ever.
ROWS: tuple[Row, ...] = ()
