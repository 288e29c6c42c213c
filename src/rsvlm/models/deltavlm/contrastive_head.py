"""The contrastive head of BLIP-2's Q-Former (arXiv 2301.12597, section 3.1), optional in DeltaVLM.

The published DeltaVLM holds its two projections and its temperature and never computes its loss; a
model with this head loads them and trains them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ContrastiveHead(nn.Module):
    """What the queries found and what a text says, in one space.

    Args:
        dim: width of the Q-Former.
        embed_dim: width of the space.
        temperature: what cosines are divided by at first; it is learned.
    """

    def __init__(self, dim: int, *, embed_dim: int = 256, temperature: float = 0.07) -> None:
        super().__init__()
        self.vision_proj = nn.Linear(dim, embed_dim)
        self.text_proj = nn.Linear(dim, embed_dim)
        self.temp = nn.Parameter(torch.tensor(temperature))

    def forward(self, found: Tensor, text: Tensor) -> dict[str, Tensor]:
        """Features of unit length.

        Args:
            found: the queries' outputs without a text, [B, Q, dim].
            text: the first token's output of each text, [B, dim].

        Returns:
            `contrast_images` [B, Q, E], `contrast_texts` [B, E], `contrast_temp`, a scalar.
        """
        return {
            "contrast_images": F.normalize(self.vision_proj(found), dim=-1),
            "contrast_texts": F.normalize(self.text_proj(text), dim=-1),
            "contrast_temp": self.temp,
        }
