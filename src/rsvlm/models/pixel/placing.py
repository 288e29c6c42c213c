"""From the canvas of a mask to the pixels of the image that was seen, and of the one stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rsvlm.data.geometry import Geometry

#: The logit of a pixel that the model has not seen.
UNSEEN = -8.0
#: Stored pixels to a pixel of the canvas above which an answer says what is lost.
COARSE = 32


def as_seen(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [n, S, S] of the canvas at the size of the image as the model sees it [n, H, W]."""
    if logits.shape[-2:] == torch.Size(size):
        return logits
    return F.interpolate(logits[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def as_stored(logits: Tensor, geometry: Geometry) -> Tensor:
    """Logits of the canvas over the pixels of the image as stored.

    First to the image as seen, then back by the geometry: where the image was only resized and cut
    or padded, by cutting and resizing, as SAM does; where it was turned, pixel by pixel.

    Args:
        logits: [n, S, S].
        geometry: of the image.

    Returns:
        [n, H, W] of the stored size.
    """
    seen = as_seen(logits, geometry.size)
    high, wide = geometry.source
    if not len(logits):
        return seen.new_zeros(0, high, wide) + seen.sum()
    a, b, c, d, e, f = geometry.matrix
    if not b and not d and a > 0 and e > 0:
        top, left = round(f), round(c)
        bottom, right = round(f + e * high), round(c + a * wide)
        if min(top, left) >= 0 and bottom <= geometry.size[0] and right <= geometry.size[1]:
            part = seen[:, top:bottom, left:right]
            if not part.numel():
                part = seen
            return F.interpolate(part[:, None], (high, wide), mode="bilinear", align_corners=False)[
                :, 0
            ]
    return _turned(seen, geometry)


def _turned(seen: Tensor, geometry: Geometry) -> Tensor:
    """Bilinear samples at the places that stored pixels went to; none of them where it was cut."""
    a, b, c, d, e, f = geometry.matrix
    high, wide = geometry.source
    options: Any = {"device": seen.device, "dtype": torch.float32}
    x = torch.arange(wide, **options) + 0.5
    y = torch.arange(high, **options)[:, None] + 0.5
    across = (a * x + b * y + c) / geometry.size[1] * 2 - 1
    down = (d * x + e * y + f) / geometry.size[0] * 2 - 1
    grid = torch.stack([across, down], dim=-1).expand(len(seen), -1, -1, -1)
    found = F.grid_sample(seen[:, None].float(), grid, padding_mode="border", align_corners=False)[
        :, 0
    ]
    inside = (across.abs() <= 1) & (down.abs() <= 1)
    return torch.where(inside, found, UNSEEN)


def coarse(stored: Sequence[int], seen: int, canvas: int) -> list[str]:
    """What is lost where the image is much larger than what masks are drawn at, in a sentence.

    Args:
        stored: height and width of the image as stored.
        seen: side of the image as the model sees it.
        canvas: side of the masks.
    """
    high, wide = stored
    step = max(high, wide) / canvas
    if step < COARSE:
        return []
    said = (
        f"the image of {wide} x {high} px was scaled to {seen} px, and masks are drawn on {canvas} "
        f"x {canvas}: one step of theirs is {step:.0f} px of the image, and smaller objects are "
        "lost. Cut the image into tiles to see them."
    )
    return [said]
