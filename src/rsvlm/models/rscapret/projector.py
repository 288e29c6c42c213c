"""RS-CapRet's and FROMAGe's bridge from an image's vector to embeddings, and one from a grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LinearProjector(nn.Module):
    """Image tokens [N, T, dim_in] to embeddings [N, T * tokens, dim_out] of a language model.

    Koh et al., 2023, "Grounding Language Models to Images for Multimodal Inputs and Outputs"
    (arXiv 2301.13823), the matrix W_c.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        tokens: embeddings for each image token.
        dropout: on the embeddings.
    """

    joint = False

    def __init__(self, dim_in: int, dim_out: int, *, tokens: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = tokens
        self.proj = nn.Linear(dim_in, tokens * dim_out)
        self.drop = nn.Dropout(dropout)

    def count(self, tokens: int) -> int:
        """Embeddings of an image of that many tokens."""
        return tokens * self.tokens

    def forward(self, features: Tensor) -> Tensor:
        """[N, T, dim_in] to [N, T * tokens, dim_out]."""
        return self.drop(self.proj(features).unflatten(-1, (self.tokens, -1)).flatten(1, 2))


class GridProjector(nn.Module):
    """Tokens [N, 1 + G * G, dim_in] of a frozen backbone, a whole and a grid, to embeddings.

    Channels of a backbone differ in scale by orders of magnitude, so each is standardised over the
    tokens that training has seen; then one linear layer, or two around a GELU, and a norm whose
    gain starts at the size of the language model's own words. Ours.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        hidden: width between two layers; None for one layer.
        dropout: on the standardised channels.
        size: initial gain of the norm.
        side: side of the grid that the backbone's is averaged to, for fewer embeddings; None takes
            all of it.
    """

    joint = False

    def __init__(
        self,
        dim_in: int,
        dim_out: int,
        *,
        hidden: int | None = None,
        dropout: float = 0.0,
        size: float = 1.0,
        side: int | None = None,
    ) -> None:
        super().__init__()
        self.side = side
        self.standard = nn.BatchNorm1d(dim_in, affine=False)
        self.drop = nn.Dropout(dropout)
        self.proj: nn.Module = nn.Linear(dim_in, dim_out)
        if hidden is not None:
            self.proj = nn.Sequential(
                nn.Linear(dim_in, hidden), nn.GELU(), nn.Linear(hidden, dim_out)
            )
        self.norm = nn.LayerNorm(dim_out)
        nn.init.constant_(self.norm.weight, size)

    def count(self, tokens: int) -> int:
        """Embeddings of an image of that many tokens."""
        return tokens if self.side is None else 1 + self.side**2

    def forward(self, features: Tensor) -> Tensor:
        """[N, 1 + G * G, dim_in] to [N, 1 + side * side, dim_out]."""
        if self.side is not None:
            grid = features[:, 1:].transpose(1, 2).float()
            grid = grid.unflatten(-1, (round(grid.shape[-1] ** 0.5), -1))
            grid = F.adaptive_avg_pool2d(grid, self.side).flatten(2).transpose(1, 2)
            features = torch.cat([features[:, :1].float(), grid], dim=1)
        features = self.standard(features.float().transpose(1, 2)).transpose(1, 2)
        return self.norm(self.proj(self.drop(features)))
