"""Pictures as stored, for models whose processor or collate scales them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.item import TransformedSample
from rsvlm.data.sample import Picture
from rsvlm.data.transforms import sides, to_tensor


class AsStored:
    """Leaves pictures as they are: a model's processor, or its collate, scales them."""

    def __call__(self, image: Picture, rng: Any = None) -> torch.Tensor:
        """Returns uint8 [3, H, W]; `rng` is accepted so that it can stand for `Augment`."""
        return to_tensor(image)

    def geometry(self, high: int, wide: int) -> Geometry:
        """Every pixel stays in its place."""
        return identity(high, wide)

    def apply_with_geometry(
        self, images: Any, rng: Any = None
    ) -> tuple[list[torch.Tensor], list[Geometry]]:
        """All pictures of a sample."""
        return [self(image) for image in images], [self.geometry(*sides(i)) for i in images]


def seen_through(
    item: TransformedSample, place: Callable[[int, int], Geometry]
) -> TransformedSample:
    """An item with a collate's own scaling behind what was done to its images.

    Args:
        item: as the transform gives it; without geometry it stays as it is.
        place: where the pixels of an image of (high, wide) go.
    """
    if not item.geometry:
        return item
    steps = [place(*sides(image)) for image in item.sample.images]
    whole = [
        done.then(step.matrix, step.size) for done, step in zip(item.geometry, steps, strict=True)
    ]
    return replace(item, geometry=tuple(whole))
