"""Data sets of objects in COCO's JSON, and one that is published in it: SSDD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from rsvlm.data.datasets.base import Entry, file_and_folder, listed, metric_word
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.regions import Region, Regions, bounds
from rsvlm.data.datasets.tables import differ_by_case
from rsvlm.data.sample import Instance, Sample
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError, near

#: An id: a number, or a text that is none.
Key = int | str


@dataclass(slots=True)
class CocoFile:
    """What a COCO JSON says.

    Attributes:
        images: id → its record.
        regions: id of an image → its objects, in the order of the file.
        crowds: ids of objects that stand for a crowd.
        categories: names of the classes, in the order of their published ids.
    """

    images: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    regions: dict[Key, list[Region]] = field(default_factory=dict)
    crowds: set[int] = field(default_factory=set)
    categories: list[str] = field(default_factory=list)


#: Pixels that no side of a picture has.
_LARGEST = 10**6


def read_coco(owner: Regions, path: Path, *, masks: bool = True) -> CocoFile:
    """Reads `{"images", "annotations", "categories"}`.

    Boxes are [x, y, width, height] there. What is wrong with single objects is noted with `owner`.

    Args:
        owner: the data set, for its notes.
        path: the JSON.
        masks: keep the masks.

    Raises:
        UserError: it is not such a file, or images repeat.
    """
    content = read_json(path)
    parts: dict[str, list[Any]] = {}
    for part in ("images", "annotations", "categories"):
        found = content.get(part) if isinstance(content, dict) else None
        if not isinstance(found, list):
            raise UserError(f"{path} has no list under {part!r}, so it is not in COCO's format.")
        parts[part] = found
    out = CocoFile()
    names = {}
    for record in parts["categories"]:
        key = _key(record, "id", path, "categories")
        names[key] = str(record.get("name", key))
    ordered = sorted(names, key=lambda key: (isinstance(key, str), key))
    out.categories = [names[key] for key in ordered]
    for pair in differ_by_case(out.categories):
        owner.fault("pair(s) of classes differ by case alone: give both one name", pair)
    place = {key: i for i, key in enumerate(ordered)}
    for record in parts["images"]:
        key = _key(record, "id", path, "images")
        if key in out.images:
            raise UserError(f"{path}: two images have the id {key}; which one is meant is unclear.")
        if not isinstance(record.get("file_name"), str):
            raise UserError(f"{path}: image {key} has no file_name.")
        out.images[key] = record
        out.regions[key] = []
    seen: set[Key] = set()
    for number, record in enumerate(parts["annotations"]):
        image = _key(record, "image_id", path, f"annotations[{number}]")
        who = f"annotation {record.get('id', number)}"
        if image not in out.images:
            owner.fault("object(s) belong to an image that is not listed, and are left out", who)
            continue
        given = plain_id(record.get("id"))
        if given is None or given in seen:
            owner.fault("object(s) have an id that repeats, and were numbered anew", who)
            given = None
        else:
            seen.add(given)
        # Within rsvlm an object's id is a number; a text says no more than its place in the file.
        object_id = given if isinstance(given, int) else -1 - number
        category = plain_id(record.get("category_id"))
        if category is None or category not in names:
            owner.fault("object(s) are of a class that is not listed", who)
            category = None
        frame = size(out.images[image])
        mask = None
        if masks and "segmentation" in record:
            stored = record["segmentation"]
            if isinstance(stored, list) and stored and isinstance(stored[0], int | float):
                stored = [stored]  # one polygon without its brackets
            mask = owner.mask(stored, who, frame)
        if record.get("iscrowd"):
            out.crowds.add(object_id)
        out.regions[image].append(
            Region(
                object_id,
                names.get(category, "unknown") if category is not None else "unknown",
                place.get(category) if category is not None else None,
                box=owner.box(corners(record.get("bbox")), who, frame),
                mask=mask,
            )
        )
    return out


def size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width of an image record, where it has them."""
    return whole_sides([image.get(key) for key in ("height", "width")])


def whole_sides(sides: Any) -> tuple[int, int] | None:
    """Height and width, if they are two numbers that a picture may have."""
    if not isinstance(sides, list) or len(sides) != 2:
        return None
    whole = [side for side in sides if type(side) is int and 0 < side <= _LARGEST]
    return (whole[0], whole[1]) if len(whole) == 2 else None


def corners(box: Any) -> Any:
    """[x, y, width, height] as (x0, y0, x1, y1); what is not that is given back as it is."""
    try:
        x, y, width, height = map(float, box)
    except (TypeError, ValueError):
        return box if isinstance(box, Sequence) and len(box) != 4 else None
    return x, y, x + width, y + height


def _key(record: Any, key: str, path: Path, where: str) -> Key:
    value = plain_id(record.get(key) if isinstance(record, dict) else None)
    if value is None:
        raise UserError(
            f"{path}: an entry of {where} has no whole number and no text under {key!r}."
        )
    return value


def plain_id(value: Any) -> Key | None:
    """An id as it is compared: `"12"` is 12, other texts stay; None where it is neither."""
    if isinstance(value, str):
        value = value.strip()
        return int(value) if value.isascii() and value.isdecimal() else value or None
    return value if type(value) is int else None  # a truth value is an `int`, too


class Coco(Regions):
    """A data set in COCO's format: a sample is an image with all its objects.

    The JSON of a split is the first there is of annotations/instances_<split>.json,
    annotations/<split>.json, <split>.json, <split>/_annotations.coco.json (Roboflow's); for the
    split `all` also annotations.json, or the only JSON in the folder or in annotations/. Classes
    are numbered anew from 0, in the order of their published ids.
    `meta["crowd"]` names the objects that stand for a crowd.

    Args:
        root: folder of JSON and images, or the JSON itself.
        split: which JSON; `all` where there is one.
        annotations: the JSON, relative to `root`; `{split}` stands for the split.
        images: the images' folder, relative to `root`; by default images/, JPEGImages/, one named
            after the split, or `root` itself, wherever an image is found.
        name: word for metric names; by default the folder's.
        masks: serve masks.
        objects: `each`, or `class` to join the masks of a class in an image, as questions for
            "the ships" need them; crowds are joined too.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: files are missing or damaged.
    """

    title: ClassVar[str] = "A data set in COCO's format"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    annotations/instances_<split>.json   or <split>.json, annotations.json\n"
        "    images/                              or JPEGImages/, <split>/"
    )
    image_folders: ClassVar[tuple[str, ...]] = ("images", "JPEGImages", "{split}", ".")
    #: Names of the JSON, and the splits, where a data set has its own.
    file_names: ClassVar[tuple[str, ...]] = ()
    splits: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        root: str | Path,
        split: str = "all",
        *,
        annotations: str | None = None,
        images: str | None = None,
        name: str | None = None,
        masks: bool = True,
        objects: Literal["each", "class"] = "each",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        root, annotations = file_and_folder(root, annotations, (".json",))
        super().__init__(root, split, convert=convert)
        if objects not in ("each", "class"):
            raise UserError(f"objects={objects!r} is not known. {near(objects, ('each', 'class'))}")
        self.objects = objects
        if self.splits and split not in self.splits:
            known = " and ".join(
                [", ".join(self.splits[:-1])] * (len(self.splits) > 1) + [self.splits[-1]]
            )
            raise UserError(f"{self.title} has no split {split!r}; it has {known}.")
        self.file = self._json(annotations)
        self.name = name or self.name or metric_word(self.root.name)
        found = read_coco(self, self.file, masks=masks)
        self.categories = found.categories
        words = (images,) if images else self.image_folders
        folders = [self.root / word.format(split=split) for word in words]
        folders = [folder for folder in folders if folder.is_dir()] or [self.root]
        chosen = {key: r for key, r in found.images.items() if self.serves(r["file_name"])}
        paths = self.located(folders, [r["file_name"] for r in chosen.values()], missing)
        for key, record in chosen.items():
            file = record["file_name"]
            if file not in paths:
                continue
            crowd = [r.id for r in found.regions[key] if r.id in found.crowds]
            meta: dict[str, Any] = {"image": file} | ({"crowd": crowd} if crowd else {})
            self.add(Entry(file, paths[file], meta=meta), found.regions[key], size(record))
        self.tell()

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the objects, or with `objects=class` one for each class that has masks."""
        super().annotate(sample, index)
        if self.objects == "class":
            joined: dict[str, Instance] = {}
            for each in sample.instances:
                if each.mask is None:
                    continue
                one = joined.setdefault(
                    each.category, Instance(each.id, each.category, each.category_id)
                )
                one.mask = each.mask if one.mask is None else one.mask | each.mask
                one.box = bounds(one.mask)
            sample.instances = list(joined.values())

    def serves(self, file: str) -> bool:
        """Whether an image of the JSON belongs to the split."""
        return True

    def _json(self, given: str | None) -> Path:
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        words = [given] if given else self.candidates()
        for word in words:
            path = self.root / word.format(split=self.split)
            if path.is_file():
                return path
        held = sorted([*self.root.glob("*.json"), *self.root.glob("annotations/*.json")])
        if len(held) == 1 and not given and self.split == "all":
            return held[0]
        there = ""
        if held:
            names = [path.relative_to(self.root).as_posix() for path in held]
            there = (
                f" There is {listed(names, 5)}: choose one with "
                f"data.dataset.annotations={names[0]}, and leave splits out that have none "
                "(data.splits.val=null data.splits.test=null)."
            )
        raise self.not_found(f"there is no {' or '.join(words).format(split=self.split)}.{there}")

    def candidates(self) -> list[str]:
        """Names that the JSON may have, the first one that is there is read."""
        if self.file_names:
            return list(self.file_names)
        names = ["annotations/instances_{split}.json", "annotations/{split}.json", "{split}.json"]
        names.append("{split}/_annotations.coco.json")
        return [*names, "annotations.json"] if self.split == "all" else names


class SSDD(Coco):
    """SSDD: 1,160 radar images with 2,586 ships and their outlines.

    The official split: images whose number ends in 1 or 9 are for testing.

    Args:
        root: folder of SSDD.json (or annotations.json) and JPEGImages/.
        split: `train`, `test` or `all`.
        images: the images' folder, relative to `root`.
        masks: serve masks.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `Coco`.
    """

    name = "ssdd"
    title: ClassVar[str] = "SSDD (COCO)"
    layout: ClassVar[str] = (
        "  {root}/\n    SSDD.json       or annotations.json\n    JPEGImages/     000001.jpg ..."
    )
    licence = "no licence text; for research"
    paper = (
        "T. Zhang et al. SAR Ship Detection Dataset (SSDD): Official release and comprehensive "
        "data analysis. Remote Sensing 13(18), 2021"
    )
    homepage = "https://github.com/TianwenZhang0825/Official-SSDD"
    published_counts: ClassVar[dict[str, int]] = {"train": 928, "test": 232}
    image_folders: ClassVar[tuple[str, ...]] = ("JPEGImages", "images", ".")
    file_names: ClassVar[tuple[str, ...]] = ("SSDD.json", "annotations.json")
    splits: ClassVar[tuple[str, ...]] = ("train", "test", "all")

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        images: str | None = None,
        masks: bool = True,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, images=images, masks=masks, missing=missing, convert=convert)

    def serves(self, file: str) -> bool:
        """Whether the number in a file's name is of the split."""
        testing = Path(file).stem.endswith(("1", "9"))
        return self.split == "all" or testing == (self.split == "test")
