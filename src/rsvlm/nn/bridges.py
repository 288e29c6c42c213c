"""Bridges that read each image alone: tokens joined and projected, and a projecting MLP."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from rsvlm.errors import UserError


class GroupedLinear(nn.Module):
    """Neighbouring tokens of a ViT joined along their channels, then one linear layer.

    MiniGPT-v2 (Chen et al., 2023, arXiv 2310.09478) and SkyEyeGPT. The class token is left out. The
    joined tokens follow each other in a row of patches: a strip of 1 x `group`, not a square.

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        group: tokens joined into one.
        train_norm: train the norm of the tower's output too, which the published code leaves as it
            is made (gain 1, offset 0).
    """

    joint = False

    def __init__(
        self, dim_in: int, dim_out: int, *, group: int = 4, train_norm: bool = False
    ) -> None:
        super().__init__()
        self.group = group
        self.norm = nn.LayerNorm(dim_in).requires_grad_(train_norm)
        self.proj = nn.Linear(group * dim_in, dim_out)

    def count(self, tokens: int) -> int:
        """Embeddings of an image of that many tokens, the class token among them.

        Raises:
            UserError: they do not divide into groups.
        """
        if (tokens - 1) % self.group:
            raise UserError(
                f"the tower gives {tokens - 1} tokens of patches, which do not divide into groups "
                f"of {self.group}: choose another model.vision.image_size or model.bridge.group."
            )
        return (tokens - 1) // self.group

    def forward(self, features: Tensor) -> Tensor:
        """Tokens [N, 1 + T, dim_in], the class token first, to [N, T / group, dim_out]."""
        joined = self.norm(features)[:, 1:].unflatten(1, (-1, self.group)).flatten(2)
        return self.proj(joined)


class MlpProjector(nn.Module):
    """LLaVA-1.5's projector: linear layers with GELU between them, for each token.

    Liu et al., 2024, "Improved Baselines with Visual Instruction Tuning" (arXiv 2310.03744).

    Args:
        dim_in: width of the tower.
        dim_out: width of the language model.
        depth: number of linear layers; 1 is the first LLaVA's.
    """

    joint = False

    def __init__(self, dim_in: int, dim_out: int, *, depth: int = 2) -> None:
        super().__init__()
        if depth < 1:
            raise UserError(f"bridge.depth={depth}: it must be 1 or more.")
        widths = [dim_in, *[dim_out] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.activation = nn.GELU()

    def count(self, tokens: int) -> int:
        """Embeddings of an image of that many tokens: as many."""
        return tokens

    def forward(self, features: Tensor) -> Tensor:
        """Tokens [N, T, dim_in] to [N, T, dim_out]."""
        for number, layer in enumerate(self.layers):
            features = layer(self.activation(features) if number else features)
        return features
