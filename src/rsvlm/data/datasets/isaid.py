"""iSAID: DOTA's pictures with a mask for each of 655,451 objects of 15 classes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from rsvlm.data.datasets.base import Entry, listed
from rsvlm.data.datasets.coco import CocoFile, read_coco, size
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.datasets.regions import Regions
from rsvlm.data.images import BrokenImage, read_image
from rsvlm.data.palette import RGB, read_palette
from rsvlm.data.sample import Instance, Sample
from rsvlm.data.transforms import sides
from rsvlm.errors import UserError

Source = Literal["auto", "masks", "json"]

#: Classes by id and their colours (iSAID_Devkit, cityscapesscripts/helpers/labels.py).
PALETTE: dict[str, RGB] = {
    "unlabeled": (0, 0, 0),
    "ship": (0, 0, 63),
    "storage_tank": (0, 63, 63),
    "baseball_diamond": (0, 63, 0),
    "tennis_court": (0, 63, 127),
    "basketball_court": (0, 63, 191),
    "Ground_Track_Field": (0, 63, 255),
    "Bridge": (0, 127, 63),
    "Large_Vehicle": (0, 127, 127),
    "Small_Vehicle": (0, 0, 127),
    "Helicopter": (0, 0, 191),
    "Swimming_pool": (0, 0, 255),
    "Roundabout": (0, 191, 127),
    "Soccer_ball_field": (0, 127, 191),
    "plane": (0, 127, 255),
    "Harbor": (0, 100, 155),
}
_PICTURE = re.compile(r"\w+\.(png|jpg|tif)", re.IGNORECASE)
_IDS, _COLOURS = "_instance_id_RGB.png", "_instance_color_RGB.png"
#: Bytes that the masks of one sample may take.
_ROOM = 8 << 30


class ISAID(Regions):
    """iSAID as published: a sample is a picture, or a cut of one, with all its objects.

    Objects are given twice: as pictures of colours (one for the objects, one for their classes)
    and as COCO's JSON, whose polygons are the outlines of those. The pictures are read where they
    are there; then the objects' numbers are their colours (red + 256 green + 65,536 blue) and are
    known once the pictures are read. An object whose pixels are of several classes is of the one
    that most of them are, and `meta["mixed"]` names it. Classes stand in the order of the devkit's
    ids, whose JSON numbers them by first appearance.

    Args:
        root: folder of train/, val/ and test/ (without annotations).
        split: `train`, `val` or `test`.
        source: `masks`, `json`, or `auto` for the masks where there are any.
        masks: serve masks; whole pictures may have a thousand objects on 100 million pixels.
        missing: what becomes of pictures that the JSON names and that are not there.
        convert: turn pictures that are not 8-bit RGB into it (some of DOTA's have one band),
            instead of refusing them.

    Raises:
        UserError: files are missing or damaged, or the split is unknown.
    """

    name = "isaid"
    title: ClassVar[str] = "iSAID"
    layout: ClassVar[str] = (
        "  {root}/train/   also val/, test/\n"
        "    images/P0005.png                      of DOTA v1.0, or cut from it\n"
        "    images/P0005_instance_id_RGB.png      or in Instance_masks/images/\n"
        "    images/P0005_instance_color_RGB.png   or in Semantic_masks/images/\n"
        "    Annotations/iSAID_train.json          or iSAID_train.json; instead of the masks"
    )
    licence = "academic use only (iSAID, DOTA)"
    paper = (
        "S. W. Zamir et al. iSAID: A large-scale dataset for instance segmentation in aerial "
        "images. CVPR Workshops 2019. arXiv:1905.12886"
    )
    homepage = "https://captain-whu.github.io/iSAID"
    published_counts: ClassVar[dict[str, int]] = {"train": 1411, "val": 458, "test": 937}

    def __init__(
        self,
        root: str | Path,
        split: str = "val",
        *,
        source: Source = "auto",
        masks: bool = True,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if split not in self.published_counts:
            raise UserError(f"{self.title} has no split {split!r}; it has train, val and test.")
        if source not in ("auto", "masks", "json"):
            raise UserError(f"source={source!r}: it is auto, masks or json.")
        self.serve_masks = masks
        self.categories = list(PALETTE)[1:]
        self._pairs: list[tuple[Path, Path] | None] = []
        folder = self.root / split
        if not folder.is_dir():
            raise self.not_found(f"there is no folder {split}.")
        found = self._mask_files(folder) if source != "json" and split != "test" else {}
        jsons = [
            *sorted((folder / "Annotations").glob("*.json")),
            *sorted(folder.glob("*.json")),
        ]
        if source == "masks" and not found:
            raise self.not_found(f"there is no *{_IDS} in {split}/.")
        if found or split == "test":
            self._from_pictures(folder, found)
        elif jsons:
            named = [path for path in jsons if re.search(rf"{split}\b|{split}_", path.stem)]
            self._from_json((named or jsons)[0], folder, missing)
        else:
            raise self.not_found(f"there is no *{_IDS} and no JSON in {split}/.")
        self.tell()

    def _mask_files(self, folder: Path) -> dict[str, tuple[Path, Path]]:
        """Name of a picture → its two pictures of masks."""
        out = {}
        unpaired = []
        for place, other in (
            (folder / "images", folder / "images"),
            (folder / "Instance_masks" / "images", folder / "Semantic_masks" / "images"),
        ):
            for ids in sorted(place.glob(f"*{_IDS}")):
                stem = ids.name.removesuffix(_IDS)
                colours = other / f"{stem}{_COLOURS}"
                if not colours.is_file():
                    unpaired.append(colours.name)
                out[stem] = (ids, colours)
        if unpaired:
            raise UserError(
                f"{folder}: {len(unpaired)} picture(s) of objects have none of classes beside "
                f"them: {listed(unpaired)}. Both come in the data set's archives."
            )
        return out

    def _from_pictures(self, folder: Path, found: dict[str, tuple[Path, Path]]) -> None:
        images = folder / "images"
        if (images / "images").is_dir():  # as the archives unpack
            images = images / "images"
        names = sorted(path.name for path in images.glob("*")) if images.is_dir() else []
        names = [n for n in names if _PICTURE.fullmatch(n) and not n.endswith((_IDS, _COLOURS))]
        stems = {Path(name).stem: name for name in names}
        lost = sorted(set(found) - set(stems))
        if lost:
            raise UserError(
                f"{len(lost)} of {len(found)} pictures that have masks are not in {images}: "
                f"{listed(lost)}. They are DOTA's, and come in its archives."
            )
        bare = [name for stem, name in stems.items() if stem not in found]
        if bare and self.split != "test":
            self.problems.append(
                f"{len(bare)} of {len(stems)} pictures have no masks: {listed(bare)}."
            )
        for stem, name in stems.items():
            self.add(Entry(name, str(images / name)), ())
            self._pairs.append(found.get(stem))

    def _from_json(self, path: Path, folder: Path, missing: Missing) -> None:
        found: CocoFile = read_coco(self, path, masks=self.serve_masks)
        unknown = sorted(set(found.categories) - set(self.categories))
        if unknown:
            raise UserError(f"{path} has classes that are not iSAID's: {listed(unknown)}.")
        number = {name: i for i, name in enumerate(self.categories)}
        places = [folder / "images", folder / "images" / "images", folder]
        names = [record["file_name"] for record in found.images.values()]
        paths = self.located([p for p in places if p.is_dir()], names, missing)
        for key, record in found.images.items():
            name = record["file_name"]
            if name in paths:
                regions = [
                    replace(r, category_id=number.get(r.category)) for r in found.regions[key]
                ]
                self.add(Entry(name, paths[name]), regions, size(record))
                self._pairs.append(None)

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the objects.

        Raises:
            BrokenImage: a picture of masks cannot be used: another size than the picture, a colour
                off the palette, an object without a class.
            UserError: the masks would take too much memory.
        """
        pair = self._pairs[index]
        if pair is None:
            super().annotate(sample, index)
            return
        pixels = np.asarray(read_image(pair[0])).astype(np.int32)
        packed = pixels[..., 0] | pixels[..., 1] << 8 | pixels[..., 2] << 16
        classes = read_palette(pair[1], PALETTE)
        shown = sides(sample.images[0])
        for path, array in zip(pair, (packed, classes), strict=True):
            if array.shape != shown:
                raise BrokenImage(
                    str(path),
                    f"is {array.shape[1]} x {array.shape[0]}, its picture {sample.meta['path']} is "
                    f"{shown[1]} x {shown[0]}. Were only the pictures cut or resized?",
                )
        found, mixed = self._objects(packed, classes, str(pair[1]))
        sample.instances += found
        if mixed:
            sample.meta["mixed"] = mixed

    def _objects(
        self, packed: np.ndarray, classes: np.ndarray, name: str
    ) -> tuple[list[Instance], list[int]]:
        """The objects, and the numbers of those whose pixels are not all of one class."""
        height, width = packed.shape
        rows, columns = packed.nonzero()
        ids, which = np.unique(packed[rows, columns], return_inverse=True)
        if self.serve_masks and len(ids) * height * width > _ROOM:
            raise UserError(
                f"{name}: {len(ids)} masks of {height} x {width} pixels do not fit into memory. "
                "Cut the pictures first, as iSAID's devkit does (800 pixels), or set "
                "data.dataset.masks=false."
            )
        order = np.argsort(which, kind="stable")
        starts = np.searchsorted(which[order], np.arange(len(ids) + 1))
        out: list[Instance] = []
        mixed: list[int] = []
        for k, number in enumerate(ids.tolist()):
            at = order[starts[k] : starts[k + 1]]
            y, x = rows[at], columns[at]
            kinds = np.bincount(classes[y, x], minlength=len(PALETTE))
            if kinds.max() < len(y):
                mixed.append(number)
            if not kinds[1:].any():
                raise BrokenImage(name, f"object {number} lies where nothing has a class.")
            mask = None
            if self.serve_masks:
                mask = np.zeros((height, width), bool)
                mask[y, x] = True
            box = (float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1))
            category = int(kinds[1:].argmax())
            out.append(Instance(number, self.categories[category], category, box=box, mask=mask))
        return out, mixed
