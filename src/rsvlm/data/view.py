"""What a model sees of a data set: transformed images and chosen captions, by (epoch, index)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from rsvlm.data.images import BrokenImage
from rsvlm.data.order import Key, rng
from rsvlm.data.sample import Picture, Sample, SampleError
from rsvlm.data.transforms import to_pil
from rsvlm.errors import UserError, near

log = logging.getLogger(__name__)

#: Unreadable images in a row after which a disk or a mount is to blame rather than a file.
IN_A_ROW = 100


@dataclass(slots=True)
class Item:
    """One sample as a model sees it.

    Attributes:
        index: its position in the data set.
        sample: images as uint8 [3, S, S] tensors, texts as chosen.
        skipped: one sentence for each unreadable image in whose place this one stands.
    """

    index: int
    sample: Sample
    skipped: tuple[str, ...] = ()


@dataclass(slots=True)
class Skipped:
    """A place that stays empty, because its image cannot be used.

    Attributes:
        index: its position in the data set.
        reason: file and fault.
    """

    index: int
    reason: str


class View(Dataset[Item | Skipped]):
    """A data set behind a transform and a choice of captions, a pure function of the key.

    One generator, `rng(seed, epoch, index)`, feeds the transform first and the choice of a caption
    second. An unreadable image is replaced in training by the next readable one in data order,
    under the generator of the place it takes; in evaluation its place stays empty.

    Args:
        dataset: a sequence of samples.
        transform: in training called with (image, generator), in evaluation with (image).
        seed: seed of all draws.
        training: see above.
        caption: `random` draws one, `first` takes the first, `all` keeps them.
        cache: `none`, or `decoded` to hold all images in memory, decoded and scaled down. For
            training over many epochs on few cores. It is filled here, so that forked workers share
            its memory.
        cache_size: shorter side of a cached image, in pixels; smaller images stay as they are.
            Larger than the crop is better: 1.15 times the transform's size loses little.

    Raises:
        UserError: an unknown option, a cache in evaluation, or one that memory cannot hold.
    """

    def __init__(
        self,
        dataset: Any,
        transform: Callable[..., torch.Tensor],
        *,
        seed: int = 0,
        training: bool,
        caption: Literal["random", "first", "all"] = "random",
        cache: Literal["none", "decoded"] = "none",
        cache_size: int | None = None,
    ) -> None:
        for what, word, known in (
            ("caption", caption, ("random", "first", "all")),
            ("cache", cache, ("none", "decoded")),
        ):
            if word not in known:
                raise UserError(f"{what}={word!r} is not known. {near(word, known)}")
        self.dataset, self.transform = dataset, transform
        self.seed, self.training, self.caption = seed, training, caption
        self.cache: list[Sample | BrokenImage] | None = None
        if cache == "decoded":
            self.cache = self._fill(cache_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> Item | Skipped:
        """The item of (epoch, index).

        Raises:
            SampleError: in training, none of the next `IN_A_ROW` images can be used.
        """
        epoch, index = key
        skipped: list[str] = []
        reach = min(len(self), IN_A_ROW) if self.training else 1
        for step in range(reach):
            place = (index + step) % len(self)
            try:
                sample = self._read(place)
            except BrokenImage as error:
                skipped.append(str(error))
                continue
            return Item(place, self._see(sample, epoch, index), tuple(skipped))
        if not self.training:
            return Skipped(index, skipped[0])
        raise SampleError(
            f"{reach} images in a row cannot be used, from {skipped[0]} Is the disk or the "
            "network folder in order? python -m rsvlm inspect --read lists all of them."
        )

    def _see(self, sample: Sample, epoch: int, index: int) -> Sample:
        if self.training or self.caption == "random":
            generator = rng(self.seed, epoch, index)
        images: list[Picture] = []
        for image in sample.images:
            images.append(
                self.transform(image, generator) if self.training else self.transform(image)
            )
        texts = sample.texts
        if self.caption != "all" and texts:
            which = int(generator.integers(len(texts))) if self.caption == "random" else 0
            texts = [texts[which]]
        return replace(sample, images=images, texts=texts)

    def _read(self, index: int) -> Sample:
        if self.cache is None:
            return self.dataset[index]
        held = self.cache[index]
        if isinstance(held, BrokenImage):
            # A new one: raising the held one would grow its traceback each time.
            raise BrokenImage(held.name, held.reason)
        return held

    def _fill(self, size: int | None) -> list[Sample | BrokenImage]:
        if not self.training:
            raise UserError(
                "cache=decoded is for training: scaled twice, images would change the numbers of "
                "an evaluation."
            )
        if not size:
            raise UserError("cache=decoded needs cache_size=, the shorter side in pixels.")
        need = len(self) * size * size * 3
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if need > memory / 2:
            raise UserError(
                f"cache=decoded: {len(self)} images at {size} px take {need / 2**30:.1f} GiB, more "
                f"than half of the machine's {memory / 2**30:.1f} GiB; choose a smaller cache_size "
                "or cache=none."
            )

        def one(index: int) -> Sample | BrokenImage:
            try:
                sample = self.dataset[index]
            except BrokenImage as error:
                return BrokenImage(error.name, error.reason)
            return replace(sample, images=[_small(image, size) for image in sample.images])

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            held = list(pool.map(one, range(len(self))))
        samples = [s for s in held if isinstance(s, Sample)]
        taken = sum(i.nbytes for s in samples for i in s.images if isinstance(i, torch.Tensor))
        log.info("%d decoded images held in %.2f GiB", len(held), taken / 2**30)
        return held


def _small(image: Picture, size: int) -> torch.Tensor:
    """The image as uint8 [3, H, W], its shorter side at most `size`."""
    picture = to_pil(image)
    shorter = min(picture.size)
    if shorter > size:
        wide, high = (max(size, round(side * size / shorter)) for side in picture.size)
        picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
