"""What a model sees of a data set: transformed images and chosen captions, by (epoch, index)."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from rsvlm.data.geometry import Geometry, identity
from rsvlm.data.images import BrokenImage
from rsvlm.data.item import Skipped, TransformedSample
from rsvlm.data.loading.sampler import Key, rng
from rsvlm.data.protocols import Mixed, MovesGeometry, SeesBeside
from rsvlm.data.sample import Instance, Picture, Sample, SampleError
from rsvlm.data.transforms import sides, to_pil
from rsvlm.errors import UserError, near

log = logging.getLogger(__name__)

#: Unreadable images in a row after which a disk or a mount is to blame rather than a file.
IN_A_ROW = 100


class TransformedDataset(Dataset[TransformedSample | Skipped]):
    """A data set behind a transform and a choice of captions, a pure function of the key.

    One generator, `rng(seed, epoch, index)`, feeds the transform first and the choice of a caption
    second. An unreadable image is replaced in training by the next readable one in data order,
    under the generator of the place it takes; in evaluation its place stays empty. A pair of two
    dates whose images differ in size counts as unreadable.

    Args:
        dataset: a sequence of samples.
        transform: one of transforms.py, whose `see` takes all images of a sample under one draw
            and says where pixels go; or any function, in training called with (image, generator),
            in evaluation with (image), for samples without boxes, masks and maps.
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
        self._mixed = dataset if isinstance(dataset, Mixed) else None
        self.seed, self.training, self.caption = seed, training, caption
        self.cache: list[Sample | BrokenImage] | None = None
        if cache == "decoded":
            self.cache = self._fill(cache_size)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Key) -> TransformedSample | Skipped:
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
                sample = self._read(place, epoch)
            except BrokenImage as error:
                skipped.append(str(error))
                continue
            return self._see(place, sample, (self.seed, epoch, index), tuple(skipped))
        if not self.training:
            return Skipped(index, skipped[0])
        raise SampleError(
            f"{reach} images in a row cannot be used, from {skipped[0]} Is the disk or the "
            "network folder in order? rsvlm inspect --read lists all of them."
        )

    def _see(
        self, place: int, sample: Sample, key: tuple[int, int, int], skipped: tuple[str, ...]
    ) -> TransformedSample:
        generator = rng(*key)
        geometry: tuple[Geometry, ...] = ()
        images: list[Picture] = []
        if isinstance(self.transform, MovesGeometry):
            drawn = (generator,) if self.training else ()
            tensors, moves = self.transform.apply_with_geometry(sample.images, *drawn)
            images, geometry = list(tensors), tuple(moves)
        else:
            for image in sample.images:
                images.append(
                    self.transform(image, generator) if self.training else self.transform(image)
                )
        if not geometry:
            _nothing_to_move(sample, self.transform)
        texts = sample.texts
        if self.caption != "all" and texts:
            which = int(generator.integers(len(texts))) if self.caption == "random" else 0
            texts = [texts[which]]
        seen, lost = moved(sample, images, geometry)
        seen = replace(seen, texts=texts)
        beside: tuple[Any, ...] = ()
        if isinstance(self.transform, SeesBeside):
            beside = tuple(self.transform.beside(image) for image in sample.images)
        stored = list(sample.instances)
        return TransformedSample(place, seen, skipped, geometry, stored, lost, key, beside)

    def _read(self, index: int, epoch: int) -> Sample:
        if self.cache is None:
            # A mixture shows other samples in each epoch.
            mixed = self._mixed
            return _aligned(self.dataset[index] if mixed is None else mixed.at(epoch, index))
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
        if self._mixed is not None:
            raise UserError("cache=decoded cannot hold a mixture, which changes with each epoch.")
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
                sample = _aligned(self.dataset[index])
            except BrokenImage as error:
                return BrokenImage(error.name, error.reason)
            small = [_small(image, size) for image in sample.images]
            shrunk = tuple(
                identity(*sides(before)).resize(*sides(after))
                for before, after in zip(sample.images, small, strict=True)
            )
            return moved(sample, list(small), shrunk)[0]

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            held = list(pool.map(one, range(len(self))))
        samples = [s for s in held if isinstance(s, Sample)]
        taken = sum(i.nbytes for s in samples for i in s.images if isinstance(i, torch.Tensor))
        log.info("%d decoded images held in %.2f GiB", len(held), taken / 2**30)
        return held


def moved(
    sample: Sample, images: list[Picture], geometry: tuple[Geometry, ...]
) -> tuple[Sample, tuple[int, ...]]:
    """A sample with other images, and what is drawn over them moved along.

    Args:
        sample: as read.
        images: as transformed.
        geometry: one for each image; empty changes nothing but the images.

    Returns:
        The sample, and the ids of instances of which too little is left in view.
    """
    if not geometry or not (sample.instances or sample.semantic or "change_mask" in sample.meta):
        return replace(sample, images=images), ()
    kept: list[Instance] = []
    lost: list[int] = []
    for instance in sample.instances:
        seen = geometry[instance.image_id].instance(instance)
        if seen is None:
            lost.append(instance.id)
        else:
            kept.append(seen)
    # One map per date; a change mask is in the frame of the first.
    semantic = [g.map(m) for m, g in zip(sample.semantic, geometry, strict=False)]
    meta = sample.meta
    if meta.get("change_mask") is not None:
        meta = meta | {"change_mask": geometry[0].map(np.asarray(meta["change_mask"]))}
    out = replace(sample, images=images, instances=kept, semantic=semantic, meta=meta)
    return out, tuple(lost)


def _aligned(sample: Sample) -> Sample:
    if sample.layout == "before_after":
        before, after = (sides(image) for image in sample.images)
        if before != after:
            raise BrokenImage(
                str(sample.meta.get("path") or sample.meta.get("id", "a pair")),
                f"its two dates differ in size, {before[1]} x {before[0]} and {after[1]} x "
                f"{after[0]} pixels (width x height); bring them onto one grid first.",
            )
    return sample


def _nothing_to_move(sample: Sample, transform: Any) -> None:
    if sample.instances or sample.semantic:
        raise SampleError(
            f"sample {sample.meta.get('id', '?')!r} has boxes, masks or maps, and the transform "
            f"{type(transform).__name__} does not say where pixels go. Take one of "
            "rsvlm.data.transforms (Preprocess, Squash, Pad, Augment)."
        )


def _small(image: Picture, size: int) -> torch.Tensor:
    """The image as uint8 [3, H, W], its shorter side at most `size`."""
    picture = to_pil(image)
    shorter = min(picture.size)
    if shorter > size:
        wide, high = (max(size, round(side * size / shorter)) for side in picture.size)
        picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)
