"""SAM's image encoder as a frozen tower that masks are drawn from (arXiv 2304.02643).

The maths is that of the package `segment_anything`; sizes are those of its registry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from rsvlm.checkpoints.dialects import Dialect
from rsvlm.errors import UserError, near
from rsvlm.nn.length_buckets import in_shards, most_of_all
from rsvlm.nn.mask_decoder import sam

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: Width, layers, heads, and the layers that attend over the whole image.
SIZES: dict[str, dict[str, Any]] = {
    "vit_b": {"width": 768, "depth": 12, "heads": 12, "whole": [2, 5, 8, 11]},
    "vit_l": {"width": 1024, "depth": 24, "heads": 16, "whole": [5, 11, 17, 23]},
    "vit_h": {"width": 1280, "depth": 32, "heads": 16, "whole": [7, 15, 23, 31]},
}
#: SAM's own files, of which this is a part.
SAM_DIALECT = Dialect(
    "SAM",
    ("image_encoder.pos_embed",),
    {"image_encoder.*": "encoder.*", "prompt_encoder.*": None, "mask_decoder.*": None},
)


class SamEncoder(nn.Module):
    """Images to features [N, out_dim, S / 16, S / 16]; frozen.

    Args:
        size: a word of `SIZES`, or its numbers: `width`, `depth`, `heads`, `whole`, and where they
            differ `window`, `patch_size`, `out_dim`.
        image_size: side of the square canvas, pixels.
        weights: SAM's own file, `sam_vit_h_4b8939.pth` and the like; None draws random ones.
        train: train it too, for one that starts from nothing.
        chunk: images in one pass.
        device: where to build; `meta` makes no weights.

    Raises:
        UserError: an unknown size, or weights of another one.
    """

    mean: Tensor
    std: Tensor
    dialects = (SAM_DIALECT,)

    def __init__(
        self,
        size: str | Mapping[str, Any] = "vit_h",
        *,
        image_size: int = 1024,
        weights: str | Path | None = None,
        train: bool = False,
        chunk: int = 4,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if isinstance(size, str) and size not in SIZES:
            raise UserError(f"model.sam.size={size!r} is not known. {near(size, SIZES)}")
        numbers: dict[str, Any] = {"window": 14, "patch_size": 16, "out_dim": 256}
        numbers |= dict(SIZES[size] if isinstance(size, str) else size)
        self.image_size, self.chunk, self.weights = image_size, chunk, weights
        self.dim: int = numbers["out_dim"]
        self.grid = image_size // numbers["patch_size"]
        with torch.device(device or torch.get_default_device()):
            self.encoder: Any = sam().ImageEncoderViT(
                img_size=image_size,
                patch_size=numbers["patch_size"],
                embed_dim=numbers["width"],
                depth=numbers["depth"],
                num_heads=numbers["heads"],
                mlp_ratio=4,
                out_chans=self.dim,
                qkv_bias=True,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=numbers["window"],
                global_attn_indexes=tuple(numbers["whole"]),
            )
            self.register_buffer("mean", torch.empty(3, 1, 1), persistent=False)
            self.register_buffer("std", torch.empty(3, 1, 1), persistent=False)
        if not self.mean.is_meta:
            self._fill_buffers(self.mean.device)
            if weights is not None:
                from rsvlm import checkpoints

                checkpoints.load(self, weights)
        self.requires_grad_(train)

    def _fill_buffers(self, device: torch.device) -> None:
        self.mean = torch.tensor(MEAN, device=device).view(3, 1, 1)
        self.std = torch.tensor(STD, device=device).view(3, 1, 1)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # A model built on `meta` gets its constants back when it becomes real.
        if self.mean.is_meta:
            self._fill_buffers(torch.device("cpu"))
        super()._apply(fn, recurse)
        self._fill_buffers(self.mean.device)
        return self

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode where nothing of it is trained."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def normalised(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Images as the encoder takes them, 0 where the canvas is empty.

        Args:
            images: uint8 [N, 3, S, S]; float is taken as normalised.
            sizes: height and width of each picture on its canvas, from the upper left corner; None
                for pictures that fill it.
        """
        if self.mean.is_meta and not images.is_meta:
            self._fill_buffers(images.device)
        if images.is_floating_point():
            return images
        x = (images.float() - self.mean) / self.std
        for i, (high, wide) in enumerate(sizes or ()):
            x[i, :, high:] = 0
            x[i, :, :, wide:] = 0
        return x

    def forward(self, images: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> Tensor:
        """Features [N, out_dim, g, g]; see `normalised`."""
        trained = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        with torch.set_grad_enabled(trained):
            parts = self.normalised(images, sizes).split(self.chunk)
            # In shards each pass is one of all processes, which may have more images.
            most = most_of_all(len(parts), images.device) if in_shards(self) else len(parts)
            found = [self.encoder(part) for part in parts]
            for _ in range(most - len(parts)):
                found[0] = found[0] + 0 * self.encoder(parts[0][:1])
            return torch.cat(found)
