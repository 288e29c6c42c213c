"""MModalCC's encoder: attention across modalities, then across dates, and fusion by stages."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from rsvlm.models.change_captioning.attention import (
    CrossLayer,
    Fusion,
    GridPositions,
    reset_encoder,
)


class ModalLayer(nn.Module):
    """CMCA, then UDCA, for both dates and modalities.

    `I_t = cross(I_t, S_t)`, `S_t = cross(S_t, I_t)`, then `I_t = cross(I_t, I_2 - I_1)` and
    `S_t = cross(S_t, S_2 - S_1)`, the differences being those of the layer's inputs.

    Args:
        dim: width.
        heads: attention heads.
        dropout: of everything inside.
        shared: one attention for all eight calls, as in the code; else one for each purpose and
            modality, as drawn in the paper.
        cmca: attend across modalities at all.
        semantic: there is a second modality.
    """

    def __init__(
        self, dim: int, heads: int, *, dropout: float, shared: bool, cmca: bool, semantic: bool
    ) -> None:
        super().__init__()
        self.cmca, self.semantic = cmca and semantic, semantic
        kinds = ["image_difference", "semantic_difference"] if semantic else ["image_difference"]
        kinds += ["image_cross", "semantic_cross"] if self.cmca else []
        self.cross = nn.ModuleDict(
            {
                kind: CrossLayer(dim, heads, dropout=dropout)
                for kind in (["shared"] if shared else kinds)
            }
        )

    def _cross(self, kind: str, queries: Tensor, keys: Tensor) -> Tensor:
        """[2, B, S, D] and [2 or 1, B, S, D]: both dates at once."""
        layer = self.cross["shared" if "shared" in self.cross else kind]
        return layer(queries.flatten(0, 1), keys.expand_as(queries).flatten(0, 1)).view_as(queries)

    def forward(self, images: Tensor, maps: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """[2, B, S, D] of each modality, before and after, to the same."""
        found = images
        if self.cmca and maps is not None:
            found = self._cross("image_cross", images, maps)
        found = self._cross("image_difference", found, images[1:] - images[:1])
        if maps is None:
            return found, None
        seen = self._cross("semantic_cross", maps, images) if self.cmca else maps
        return found, self._cross("semantic_difference", seen, maps[1:] - maps[:1])


class ModalEncoder(nn.Module):
    """Projection, positions, layers and fusion of both modalities.

    Args:
        feature_dim: channels of the image features.
        semantic_dim: channels of the map features; None for images alone.
        dim: width of one date.
        heads: attention heads.
        layers: number of layers.
        grid: side of the feature maps; others are pooled to it.
        dropout: inside of the layers.
        variant: `stacked` or `parallel`.
        share_cross_weights: see `ModalLayer`.
        share_conv_block: one fusion for both modalities.
        cmca: see `ModalLayer`.
    """

    def __init__(
        self,
        feature_dim: int,
        semantic_dim: int | None,
        *,
        dim: int,
        heads: int,
        layers: int,
        grid: int,
        dropout: float,
        variant: str,
        share_cross_weights: bool,
        share_conv_block: bool,
        cmca: bool,
    ) -> None:
        super().__init__()
        semantic = semantic_dim is not None
        self.grid, self.stacked = grid, variant == "stacked"
        self.positions = GridPositions(grid, grid, dim)
        self.projection = nn.Conv2d(feature_dim, dim, 1)
        self.projection_semantic = (
            nn.Conv2d(semantic_dim, dim, 1) if semantic_dim is not None else None
        )
        self.layers = nn.ModuleList(
            ModalLayer(
                dim,
                heads,
                dropout=dropout,
                shared=share_cross_weights,
                cmca=cmca,
                semantic=semantic,
            )
            for _ in range(layers)
        )
        self.fusion = Fusion(dim, layers)
        self.fusion_semantic = Fusion(dim, layers) if semantic and not share_conv_block else None
        reset_encoder(self)

    def _tokens(self, features: Tensor, projection: nn.Module) -> Tensor:
        """[B, 2, C, h, w] to [2, B, grid * grid, D]."""
        pooled = F.adaptive_avg_pool2d(features.transpose(0, 1).flatten(0, 1), self.grid)
        tokens = projection(pooled).flatten(2).transpose(1, 2)
        tokens = tokens + self.positions(self.grid, self.grid)
        return tokens.unflatten(0, (2, -1))

    def forward(self, images: Tensor, maps: Tensor | None) -> list[Tensor]:
        """Features [B, 2, C, h, w] of each modality to one memory [B, S, 2 D] of each."""
        now = self._tokens(images, self.projection)
        also = None
        if self.projection_semantic is not None and maps is not None:
            also = self._tokens(maps, self.projection_semantic)
        outputs = []
        first = (now, also)
        for layer in self.layers:
            now, also = layer(now, also) if self.stacked else layer(*first)
            outputs.append((now, also))
        memories = [self.fusion([(x[0], x[1]) for x, _ in outputs], self.grid, self.grid)]
        if also is not None:
            fusion = self.fusion_semantic or self.fusion
            memories.append(fusion([(y[0], y[1]) for _, y in outputs], self.grid, self.grid))
        return memories
