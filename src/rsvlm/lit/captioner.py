"""The captioner family: RS-CapRet, BLIP-2, SkyEyeGPT, LLaVA and models of Hugging Face."""

from __future__ import annotations

from typing import Any

from rsvlm.errors import UserError
from rsvlm.lit.generative import Generative


class Captioner(Generative):
    """Wires a model that reads images one by one and answers in words to its loss.

    Args:
        **shared: see `LitBase`.

    Raises:
        UserError: a model of two dates.
    """

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        if self.model.bitemporal:
            raise UserError(
                f"a {type(self.model).__name__} compares two dates: set task=bitemporal."
            )
