"""The pixel family: GeoPix, LISA, PixelLM."""

from __future__ import annotations

from typing import Any

from rsvlm.errors import UserError
from rsvlm.lit.generative import Generative
from rsvlm.models.pixel.model import PixelModel


class Pixel(Generative):
    """Wires a model that answers with masks to its losses.

    Args:
        **shared: see `LitBase`.

    Raises:
        UserError: a model that draws none.
    """

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        if not isinstance(self.model, PixelModel):
            raise UserError(
                f"a {type(self.model).__name__} draws no masks: set task=captioner, or choose a "
                "model that does (model=geopix, lisa_7b, pixellm_7b)."
            )
