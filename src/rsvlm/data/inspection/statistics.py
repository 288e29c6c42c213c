"""Counts dialogues, instances, maps and changes over the samples of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.data.datasets.base import listed
from rsvlm.data.folders import existing
from rsvlm.data.geometry import enclosing, turned
from rsvlm.data.images import BrokenImage
from rsvlm.data.sample import Sample
from rsvlm.data.transforms import sides

_SHOWN = 30
#: Pixels that a box may reach beyond its picture without being told of: rounding.
_EDGE = 1.0


class DatasetStatistics:
    """Adds up what samples carry beside captions and a class.

    Args:
        semantic_classes: names of the classes of the maps.
        change_classes: names of the classes of the masks of change.
    """

    def __init__(
        self, semantic_classes: Sequence[str] = (), change_classes: Sequence[str] = ()
    ) -> None:
        self.semantic_classes = tuple(semantic_classes)
        self.change_classes = tuple(change_classes) or ("no change", "change")
        self.turns: list[int] = []
        self.asked: Counter[str] = Counter()
        self.instances: list[int] = []
        self.categories: Counter[str] = Counter()
        self.parts: Counter[str] = Counter()
        self.changed: Counter[bool] = Counter()
        self.maps: Counter[int] = Counter()
        self.pixels = np.zeros(len(self.semantic_classes), np.int64)
        self.masks: Counter[bool] = Counter()
        self.mask_pixels = np.zeros(len(self.change_classes), np.int64)
        self.beyond: list[str] = []
        self.outside: list[str] = []

    def add(self, sample: Sample) -> None:
        """Counts one sample."""
        if sample.turns:
            self.turns.append(len(sample.turns))
            self.asked.update(t.kind or "no kind" for t in sample.turns if t.role == "user")
        if sample.instances:
            self.instances.append(len(sample.instances))
        for instance in sample.instances:
            self.categories[instance.category] += 1
            self.parts["box"] += instance.box is not None and instance.angle is None
            self.parts["oriented box"] += instance.angle is not None
            self.parts["mask"] += instance.mask is not None
            self.parts["phrase"] += instance.phrase is not None
        self._hold_boxes(sample)
        if "changeflag" in sample.meta:
            self.changed[bool(sample.meta["changeflag"])] += 1

    def _hold_boxes(self, sample: Sample) -> None:
        """Holds boxes against their pictures, whatever file said how large these are."""
        for image_id in {i.image_id for i in sample.instances if i.box is not None}:
            try:
                high, wide = sides(sample.images[image_id])
            except (BrokenImage, IndexError):
                continue  # told elsewhere
            for instance in sample.instances:
                if instance.box is None or instance.image_id != image_id:
                    continue
                x0, y0, x1, y1 = instance.box
                if instance.angle is not None:
                    x0, y0, x1, y1 = enclosing(turned(instance.box, instance.angle))
                who = f"object {instance.id} of {sample.meta.get('id')}"
                if x1 <= 0 or y1 <= 0 or x0 >= wide or y0 >= high:
                    self.outside.append(who)
                elif min(x0, y0) < -_EDGE or x1 > wide + _EDGE or y1 > high + _EDGE:
                    self.beyond.append(who)

    def problems(self) -> list[str]:
        """What is amiss with boxes, one sentence each."""
        return [
            f"{len(found)} box(es) {what}: {listed(found)}."
            for found, what in (
                (self.outside, "lie outside of their picture"),
                (self.beyond, "reach beyond their picture"),
            )
            if found
        ]

    def add_maps(self, sample: Sample) -> None:
        """Counts the pixels of its maps and of its mask of change."""
        if sample.semantic:
            self.maps[len(sample.semantic)] += 1
        for ids in sample.semantic:
            self.pixels = _add(self.pixels, ids)
        mask = sample.meta.get("change_mask")
        if isinstance(mask, np.ndarray):
            self.masks[bool(mask.any())] += 1
            self.mask_pixels = _add(self.mask_pixels, mask)

    def facts(self) -> dict[str, Any]:
        """What was found, by name; nothing where there is nothing."""
        facts: dict[str, Any] = {}
        if self.turns:
            facts["turns"] = {
                "count": sum(self.turns),
                "samples": len(self.turns),
                "per_sample": (min(self.turns), max(self.turns)),
                "kinds": dict(self.asked.most_common()),
            }
        if self.instances:
            facts["instances"] = {
                "count": sum(self.instances),
                "samples": len(self.instances),
                "per_sample": (min(self.instances), max(self.instances)),
                "parts": {k: v for k, v in self.parts.items() if v},
                "categories": dict(self.categories.most_common()),
            }
        if self.changed:
            facts["changed"] = (self.changed[True], sum(self.changed.values()))
        if self.maps:
            facts["maps"] = {
                "samples": sum(self.maps.values()),
                "per_sample": (min(self.maps), max(self.maps)),
                "pixels": _shares(self.pixels, self.semantic_classes),
            }
        if self.masks:
            facts["masks"] = {
                "samples": sum(self.masks.values()),
                "empty": self.masks[False],
                "pixels": _shares(self.mask_pixels, self.change_classes),
            }
        return facts


def lines(facts: dict[str, Any]) -> list[str]:
    """The census as lines of a report."""
    out = []
    if "turns" in facts:
        turns = facts["turns"]
        out.append(
            f"  turns      {turns['count']} in {turns['samples']} samples; "
            f"{_range(turns['per_sample'])} each; questions by kind:"
        )
        out += _table(turns["kinds"])
    if "instances" in facts:
        found = facts["instances"]
        out.append(
            f"  instances  {found['count']} in {found['samples']} samples; "
            f"{_range(found['per_sample'])} each"
        )
        parts = ", ".join(f"{count} with {name}" for name, count in found["parts"].items())
        out.append(f"             {parts}; by category:")
        out += _table(found["categories"])
    if "changed" in facts:
        changed, total = facts["changed"]
        out.append(f"  changed    {changed} of {total}, {total - changed} unchanged")
    if "maps" in facts:
        found = facts["maps"]
        out.append(
            f"  maps       {found['samples']} samples with {_range(found['per_sample'])}; of all "
            "pixels:"
        )
        out += [f"             {share:6.1%}  {name}" for name, share in found["pixels"].items()]
    if "masks" in facts:
        found = facts["masks"]
        out.append(
            f"  masks      {found['samples']} of change, {found['empty']} empty; of all pixels:"
        )
        out += [f"             {share:6.1%}  {name}" for name, share in found["pixels"].items()]
    return out


def annotations_only(dataset: Any, index: int) -> Sample:
    """A sample's annotations, with images that are opened only when they are looked at.

    Args:
        dataset: a `FileDataset`.
        index: which.
    """
    entry = dataset.entries[index]
    sample = Sample([], layout="interleaved", texts=list(entry.texts), label=entry.label)
    sample.meta = {"id": entry.id, "dataset": dataset.name, "path": entry.path} | entry.meta
    turn = getattr(dataset, "as_annotated", lambda picture, index: picture)
    sample.images = _Pictures(entry.paths, lambda picture: turn(picture, index))  # type: ignore[assignment]
    sample.layout = dataset.sample_layout
    dataset.annotate(sample, index)
    return sample


class _Pictures(Sequence[Image.Image]):
    """Pictures that are opened when they are asked for, and decoded when their pixels are."""

    def __init__(
        self, paths: Sequence[str], as_annotated: Callable[[Image.Image], Image.Image]
    ) -> None:
        self._paths, self._as_annotated = paths, as_annotated

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: Any) -> Any:
        path = self._paths[index]
        try:
            picture = Image.open(existing(path))
            return self._as_annotated(picture) if index == 0 else picture
        except OSError as error:
            raise BrokenImage(path, f"cannot be opened ({error.strerror or error}).") from error


def _add(counts: np.ndarray, ids: np.ndarray) -> np.ndarray:
    found = np.bincount(ids.ravel(), minlength=len(counts))
    return np.pad(counts, (0, len(found) - len(counts))) + found


def _shares(counts: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    words = [*names, *map(str, range(len(names), len(counts)))]
    return {word: int(n) / int(counts.sum()) for word, n in zip(words, counts, strict=True)}


def _table(counts: dict[str, int]) -> list[str]:
    shown = [f"             {count:6d}  {name}" for name, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(shown)
    return shown + ([f"                     and {more} more"] if more else [])


def _range(ends: tuple[int, int]) -> str:
    return str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
