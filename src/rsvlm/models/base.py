"""What a model that answers in words is where it says nothing else."""

from __future__ import annotations

from torch import nn

from rsvlm.data.text.box_codecs import Codec
from rsvlm.data.text.vocabulary import Vocabulary
from rsvlm.nn.feature_cache import FeatureCache


class GenerativeModel(nn.Module):
    """The attributes of `models.protocols.Generator` that most models leave as they are.

    A class of your own that inherits it has to give `image_size`, `preprocess`, `tokenizer`,
    `collate` and `generate`.

    Attributes:
        several_pictures: whether a dialogue may show several pictures, as two dates.
    """

    codec: Codec | None = None
    words: Vocabulary | None = None
    cache: FeatureCache | None = None
    describes: bool = False
    takes_prompt: bool = True
    several_pictures: bool = False

    @property
    def bitemporal(self) -> bool:
        """Whether each question is about two dates."""
        return False

    @property
    def tuning(self) -> str | None:
        """How its language model is tuned; None without one."""
        return None

    def after_step(self) -> None:
        """Called after each step of the optimizer."""
