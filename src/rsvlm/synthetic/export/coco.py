"""COCO's JSON: one for each split, boxes as corner and size, masks as run lengths or polygons."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from rsvlm.data import rle
from rsvlm.data.sample import Instance, Sample
from rsvlm.synthetic.annotate import CATEGORIES
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

#: Published ids start at 1 and need not follow each other.
IDS: dict[str, int] = {name: 2 * i + 1 for i, name in enumerate(CATEGORIES)}


def record(instance: Instance, **more: Any) -> dict[str, Any]:
    """An object as an entry of `annotations`."""
    assert instance.box is not None and instance.mask is not None
    x0, y0, x1, y1 = instance.box
    return {
        "id": instance.id,
        "category_id": IDS[instance.category],
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(instance.mask.sum()),
        "segmentation": rle.encode(instance.mask),
        "iscrowd": 0,
        **more,
    }


def categories() -> list[dict[str, Any]]:
    """The classes as the list under `categories`."""
    return [{"supercategory": None, "id": key, "name": name} for name, key in IDS.items()]


def blocks(instance: Instance) -> list[list[float]]:
    """A mask as polygons that fill exactly its pixels: a rectangle for each run of a row."""
    assert instance.mask is not None
    out: list[list[float]] = []
    for y, row in enumerate(instance.mask):
        edges = (row[1:] != row[:-1]).nonzero()[0] + 1
        ends = [0, *edges.tolist(), len(row)]
        for x0, x1 in pairwise(ends):
            if row[x0]:
                out.append([x0, y, x1, y, x1, y + 1, x0, y + 1])
    return out


def dump(
    path: Path,
    samples: Iterable[Sample],
    name: Callable[[int], str],
    folder: Path,
    *,
    polygons: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> list[Sample]:
    """Writes a JSON and its pictures.

    Args:
        path: the JSON.
        samples: scenes with masks.
        name: number of a picture, from 0 → its file name.
        folder: of the pictures.
        polygons: write masks as polygons instead of run lengths.
        extra: further keys of an object.

    Returns:
        What a reader must find.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    expected: list[Sample] = []
    for number, sample in enumerate(samples):
        file = name(number)
        picture = save(sample.images[0], folder / file)
        images.append(
            {"id": number, "file_name": file, "height": picture.height, "width": picture.width}
        )
        objects = [replace(i, angle=None, phrase=None) for i in sample.instances]
        for instance in objects:
            instance.id = len(annotations)
            entry = record(instance, image_id=number, **(extra or {}))
            if polygons:
                entry["segmentation"] = blocks(instance)
            annotations.append(entry)
        expected.append(Sample(images=sample.images, instances=objects, meta={"id": file}))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "info": {},
        "licenses": [],
        "images": images,
        "type": "instances",
        "annotations": annotations,
        "categories": categories(),
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return expected


def write(out: Path, splits: Splits) -> Expected:
    """Writes `annotations/instances_<split>.json` and `<split>/`."""
    return {
        split: dump(
            out / "annotations" / f"instances_{split}.json",
            scenes,
            lambda number: f"{number + 1:012d}.jpg",
            out / split,
        )
        for split, scenes in splits.items()
    }


def write_vhr10(out: Path, splits: Splits) -> Expected:
    """Writes `annotations.json` and `positive image set/`; there is one split."""
    every = (sample for scenes in splits.values() for sample in scenes)
    folder = out / "positive image set"
    return {
        "all": dump(
            out / "annotations.json", every, lambda n: f"{n + 1:03d}.jpg", folder, polygons=True
        )
    }


def write_ssdd(out: Path, splits: Splits) -> Expected:
    """Writes `SSDD.json` and `JPEGImages/`; the last digit of its number says a picture's split."""
    every = [sample for scenes in splits.values() for sample in scenes]
    samples = dump(
        out / "SSDD.json",
        every,
        lambda n: f"{n + 1:06d}.jpg",
        out / "JPEGImages",
        polygons=True,
    )
    testing = [Path(str(s.meta["id"])).stem[-1] in "19" for s in samples]
    return {
        split: [s for s, test in zip(samples, testing, strict=True) if test == (split == "test")]
        for split in ("train", "test")
    }


FORMAT = Format(write, parts=("masks",))
VHR10 = Format(write_vhr10, parts=("masks",))
SSDD = Format(write_ssdd, parts=("masks",))
