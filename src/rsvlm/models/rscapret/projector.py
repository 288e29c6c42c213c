"""RS-CapRet's and FROMAGe's bridge: one linear layer from an image's vector to a few embeddings."""

from __future__ import annotations

from torch import Tensor, nn


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

    def forward(self, features: Tensor) -> Tensor:
        """[N, T, dim_in] to [N, T * tokens, dim_out]."""
        return self.drop(self.proj(features).unflatten(-1, (self.tokens, -1)).flatten(1, 2))
