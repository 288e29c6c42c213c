"""GAIA: web images of Earth observation with five captions each, written by a language model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry, FileDataset
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.datasets.shards import Shards, caption_list
from rsvlm.data.folders import EXTENSIONS, check_names, walk
from rsvlm.data.sample import SampleError
from rsvlm.data.text_files import parse_json, read_json
from rsvlm.errors import UserError

_LICENCE = "annotations MIT; images under the terms of the sites they come from"
_PAPER = (
    "A. Zavras, D. Michail, X. X. Zhu, B. Demir, I. Papoutsis. GAIA: A global, multimodal, "
    "multiscale vision-language dataset for remote sensing image analysis. IEEE GRSM 14(2), 2026. "
    "arXiv:2502.09598"
)
_HOMEPAGE = "https://huggingface.co/datasets/azavras/GAIA"


class GAIA(FileDataset):
    """GAIA's JSON with a folder of images.

    The release is a JSON per split with addresses of images. An image is found by its record's
    `id` as the stem of its file (`images/<id>.png`) or, where img2dataset wrote files, by the `id`
    or the address in the JSON beside it. Since some addresses are always dead, images that are not
    there are left out and told, unless `missing` says otherwise.

    Captions begin with "The image showcases:" and are long: many are cut at 77 tokens, which
    `rsvlm inspect` counts.

    Args:
        root: folder of train_data.json, val_data.json and test_data.json.
        split: `train`, `val` or `test`.
        images: folder or folders of the images, relative to `root`; by default `images` and the
            split's name.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no JSON of that split, or a malformed record (by position).
    """

    name = "gaia"
    title: ClassVar[str] = "GAIA"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    train_data.json  val_data.json  test_data.json\n"
        "    images/<id>.png   or <split>/00000/000000000.png with .json (img2dataset, files)"
    )
    licence = _LICENCE
    paper = _PAPER
    homepage = _HOMEPAGE

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str | Sequence[str] | None = None,
        missing: Missing = "skip",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        places = [self.root / name for name in (f"{split}_data.json", f"GAIA_{split}_data.json")]
        found = [path for path in places if path.is_file()]
        if not found:
            raise self.not_found(f"there is no {split}_data.json.")
        self.file = found[0]
        records = read_json(self.file)
        if not isinstance(records, list) or not records:
            raise UserError(f"{self.file} holds no list of records.")
        folders = [images] if isinstance(images, str) else list(images or ("images", split))
        by_id, by_address = _files([self.root / folder for folder in folders])
        lost = []
        for i, record in enumerate(records):
            id, texts = self._check(record, i)
            path = by_id.get(id) or by_address.get(str(record.get("image_src")))
            if path is None:
                lost.append(id)
                if missing != "keep":
                    continue
                check_names([id], [self.root / folders[0]], str(self.file))
            self.entries.append(
                Entry(id, path or str(self.root / folders[0] / id), texts, meta=record_meta(record))
            )
        where = " or ".join(str(self.root / folder) for folder in folders)
        problem = report_missing(lost, len(records), where, missing)
        if problem:
            self.problems.append(problem)
        if not self.entries:
            raise self.not_found(f"no image of split {split!r} is there.")

    def _check(self, record: Any, index: int) -> tuple[str, tuple[str, ...]]:
        id = record.get("id") if isinstance(record, dict) else None
        if not isinstance(id, str | int) or id == "":
            raise UserError(f"{self.file}: [{index}] has no id.")
        try:
            texts = tuple(text for text in caption_list(record.get("captions")) if text.strip())
        except (ValueError, SyntaxError) as error:
            raise UserError(f"{self.file}: [{index}] ({id}): {error}.") from error
        if not texts:
            raise UserError(f"{self.file}: [{index}] ({id}) has no caption with a word in it.")
        return str(id), texts


class GAIAShards(Shards):
    """GAIA as img2dataset rebuilds it: tars of `.png`, `.txt` and `.json`.

    The text member is the page's alternative text; the five captions are in the JSON, and only
    these are taken.

    Args:
        root: folder of train/, val/ and test/ with their tars.
    """

    name = "gaia"
    title: ClassVar[str] = "GAIA"
    layout: ClassVar[str] = (
        "  {root}/\n    train/00000.tar ...   val/00000.tar ...   test/00000.tar ..."
    )
    licence = _LICENCE
    paper = _PAPER
    homepage = _HOMEPAGE
    side_fields: ClassVar[tuple[str, ...]] = ("json",)
    needed_fields: ClassVar[tuple[str, ...]] = ("json",)

    def sample_facts(self, parts: dict[str, bytes]) -> Entry:
        """The JSON's captions, never the scraped text."""
        content = parse_json(parts["json"].decode("utf-8-sig"))
        if not isinstance(content, dict):
            raise SampleError("the JSON is not an object")
        texts = tuple(text for text in caption_list(content.get("captions")) if text.strip())
        if not texts:
            raise SampleError(
                "its JSON has no captions; was --save_additional_columns \"['id','captions']\" "
                "given to img2dataset?"
            )
        id = content.get("id")
        return Entry("" if id is None else str(id), "", texts, meta=record_meta(content))


def record_meta(record: dict[str, Any]) -> dict[str, Any]:
    """All of a record but captions and id, with `lonlat` where it has a place."""
    meta = {k: v for k, v in record.items() if k not in ("id", "captions", "caption", "key")}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        meta["lonlat"] = (float(meta["lon"]), float(meta["lat"]))
    return meta


def _files(folders: Sequence[Path]) -> tuple[dict[str, str], dict[str, str]]:
    """Images by id and by address, from their stems or from the JSON beside them."""
    by_id: dict[str, str] = {}
    by_address: dict[str, str] = {}
    for folder in folders:
        for parent, names in walk(folder) if os.path.isdir(folder) else ():
            held = set(names)
            for name in names:
                stem, ext = os.path.splitext(name)
                if ext.lower() not in EXTENSIONS:
                    continue
                path = os.path.join(parent, name)
                if f"{stem}.json" not in held:
                    by_id.setdefault(stem, path)
                    continue
                facts = read_json(Path(parent, f"{stem}.json"))
                if isinstance(facts, dict):
                    if facts.get("id") is not None:
                        by_id.setdefault(str(facts["id"]), path)
                    if facts.get("url"):
                        by_address.setdefault(str(facts["url"]), path)
    return by_id, by_address
