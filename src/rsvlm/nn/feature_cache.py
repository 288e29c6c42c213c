"""Features of a frozen tower, computed once for each picture and kept in memory across epochs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


class FeatureCache:
    """Keeps what a function gives for each picture, by the picture's own bytes.

    Several samples that show one picture share its features, and a picture that was augmented is
    another one. A cache that is full keeps what it has. Nothing of it is in a checkpoint; each
    process has its own.

    Args:
        gib: most memory, GiB.

    Attributes:
        hits: pictures whose features were there.
        misses: pictures whose features were computed.
    """

    def __init__(self, gib: float) -> None:
        self.room = int(gib * 2**30)
        self.kept: dict[bytes, Tensor] = {}
        self.hits = self.misses = 0

    def __call__(self, images: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """The features of some pictures.

        Args:
            images: [N, 3, S, S].
            compute: pictures to features [N, ...], without a graph; is called for new ones only.

        Returns:
            [N, ...], in the order of the pictures, the very values that `compute` gave once.
        """
        keys = [hashlib.blake2b(image.numpy().tobytes()).digest() for image in images.cpu()]
        # The first place of each new picture; a batch may show one twice.
        new: dict[bytes, int] = {}
        for i, key in enumerate(keys):
            if key not in self.kept:
                new.setdefault(key, i)
        self.misses += len(new)
        self.hits += len(keys) - len(new)
        fresh: dict[bytes, Tensor] = {}
        if new:
            found = compute(images[torch.tensor(list(new.values()), device=images.device)])
            fresh = dict(zip(new, found, strict=True))
        rows = [fresh[key] if key in fresh else self.kept[key].to(images.device) for key in keys]
        for key, row in fresh.items():
            size = row.numel() * row.element_size()
            if size <= self.room:
                self.kept[key] = row.detach().cpu().clone()
                self.room -= size
        return torch.stack(rows)
