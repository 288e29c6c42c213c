"""SkyScript: millions of images with captions made from OpenStreetMap's tags."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import missing_files
from rsvlm.data.datasets.missing import Missing, report_missing
from rsvlm.data.datasets.pairs import PairsTable, known_part
from rsvlm.data.datasets.pickles import read_pickle
from rsvlm.data.folders import check_names
from rsvlm.errors import UserError

_PAPER = (
    "Z. Wang, R. Prabha, T. Huang, J. Wu, R. Rajagopal. SkyScript: A large and semantically "
    "diverse vision-language dataset for remote sensing. AAAI 2024. arXiv:2312.12856"
)
_HOMEPAGE = "https://github.com/wangzhecheng/SkyScript"

#: Source code in a file's name → sensor and metres a pixel (paper, Table 1; NAIP's varies).
SOURCES: dict[str, tuple[str, float | None]] = {
    "CH": ("SWISSIMAGE", 0.1),
    "ES": ("PNOA", 0.1),
    "DE": ("Brandenburg orthophotos", 0.2),
    "FI": ("Finland orthophotos", 0.5),
    "US": ("NAIP", None),
    "P3": ("SkySat RGB", 0.8),
    "P5": ("SkySat multispectral", 2.0),
    "S2": ("Sentinel-2", 10.0),
    "L8": ("Landsat 8", 30.0),
    "L9": ("Landsat 9", 30.0),
}
_NAME = re.compile(r"([awn]\d+)_([A-Z0-9]{2})_(\d\d)\.")


def name_meta(name: str) -> dict[str, Any]:
    """What `images2/a198234555_CH_19.jpg` says: OSM object, sensor, resolution, year."""
    match = _NAME.match(name.rsplit("/", 1)[-1])
    if not match:
        return {}
    sensor, gsd = SOURCES.get(match[2], (match[2], None))
    meta: dict[str, Any] = {"osm": match[1], "sensor": sensor, "year": 2000 + int(match[3])}
    return meta | ({"gsd": gsd} if gsd else {})


class SkyScript(PairsTable):
    """SkyScript's tables: comma-separated, `filepath`, `title`, `title_multi_objects`.

    The table holds one line an image, so lines are not grouped. `meta` carries what the file's
    name says, and with `tags` what its pickle in meta2/ to meta7/ says: `bounds` (west, south,
    east, north), `lonlat` (its middle), `dates`, and OpenStreetMap's `center_tags` and
    `surrounding_tags`. The pickles are read without running their code (`datasets/pickles.py`).

    Args:
        root: folder of images2/ to images7/ and of the tables, which may lie in dataframe/.
        split: `train`, `val` (5K) or `test` (30K).
        subset: of the training images, `top30pct`, `top50pct` or `unfiltered`.
        filtered_by: the CLIP that ranked the pairs, `CLIP_openai` or `CLIP_laion_RS`.
        polished: training captions reworded by a language model (`unfiltered`, or
            `CLIP_laion_RS`).
        text_column: `title` (the object in focus), `title_multi_objects` (and what surrounds it),
            or both.
        tags: read each image's pickle too.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: an unknown option, or see `PairsTable`.
    """

    name = "skyscript"
    title: ClassVar[str] = "SkyScript"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    SkyScript_train_top50pct_filtered_by_CLIP_openai.csv ...   or in dataframe/\n"
        "    images2/ ... images7/   and for tags=true meta2/ ... meta7/"
    )
    licence = "no licence text for the whole; tags ODbL (OpenStreetMap), images by source"
    paper = _PAPER
    homepage = _HOMEPAGE
    image_columns: ClassVar[tuple[str, ...]] = ("filepath",)
    separators: ClassVar[tuple[str, ...]] = (",",)
    encodings: ClassVar[tuple[str, ...]] = ("utf-8-sig",)
    meta_of: ClassVar[Callable[[str], dict[str, Any]] | None] = staticmethod(name_meta)

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        subset: str = "top50pct",
        filtered_by: str = "CLIP_openai",
        polished: bool = False,
        text_column: str | Sequence[str] = "title",
        tags: bool = False,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        known_part(split, ("train", "val", "test"), "split")
        known_part(subset, ("top30pct", "top50pct", "unfiltered"), "subset")
        known_part(filtered_by, ("CLIP_openai", "CLIP_laion_RS"), "filtered_by")
        table = {
            "train": f"SkyScript_train_{subset}_filtered_by_{filtered_by}",
            "val": f"SkyScript_val_5K_filtered_by_{filtered_by}",
            "test": f"SkyScript_test_30K_filtered_by_{filtered_by}",
        }[split]
        if split == "train" and subset == "unfiltered":
            table = "SkyScript_train_unfiltered_5M"
        if split == "train" and polished:
            if subset != "unfiltered" and filtered_by != "CLIP_laion_RS":
                raise UserError(
                    "polished captions were published for filtered_by=CLIP_laion_RS and for "
                    "subset=unfiltered only."
                )
            table += "_language_polished"
        table += ".csv"
        if (Path(root).expanduser() / "dataframe" / table).is_file():
            table = f"dataframe/{table}"
        super().__init__(
            root,
            split,
            table=table,
            text_column=text_column,
            group=False,
            missing=missing,
            convert=convert,
        )
        self.tags = tags
        if tags:
            names = [meta_name(entry.id) for entry in self.entries]
            check_names(names, [self.root])
            lost = missing_files(self.root, names)
            still = "Their images were kept."
            problem = report_missing(
                lost,
                len(names),
                str(self.root),
                missing,
                what="files of tags",
                left=still,
                kept=still,
            )
            if problem:
                self.problems.append(problem)

    def facts(self, index: int) -> dict[str, Any]:
        """What the image's name says, and its pickle where that is asked for.

        Raises:
            UserError: the pickle is damaged, wants to run code, or is not SkyScript's.
        """
        entry = self.entries[index]
        path = self.root / meta_name(entry.id)
        if not self.tags or not path.is_file():
            return entry.meta
        return entry.meta | tag_meta(read_pickle(path), path)


def meta_name(image: str) -> str:
    """Where the tags of an image lie: `meta2/x.pickle` for `images2/x.jpg`."""
    folder, _, name = image.rpartition("/")
    return f"{folder.replace('images', 'meta', 1)}/{name.rsplit('.', 1)[0]}.pickle"


def tag_meta(content: Any, path: Path) -> dict[str, Any]:
    """What a pickle of tags says, under the words of `Sample.meta`.

    Args:
        content: the unpickled dictionary.
        path: its file, for errors.

    Raises:
        UserError: it is no dictionary, or `box` or `time` are not as published.
    """
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no dictionary of box, time and tags.")
    meta = {key: content[key] for key in ("center_tags", "surrounding_tags") if key in content}
    try:
        if content.get("box") is not None:
            west, south, east, north = (float(value) for value in content["box"])
            meta["bounds"] = (west, south, east, north)
            meta["lonlat"] = ((west + east) / 2, (south + north) / 2)
        if content.get("time") is not None:
            year, month, day, hour, minute = (int(value) for value in content["time"])
            meta["dates"] = [f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}"]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{path}: box must be four numbers and time five ({error}); they are "
            f"{content.get('box')!r} and {content.get('time')!r}."
        ) from error
    return meta
