"""Captioned images in the JSON that Karpathy's image-caption splits made common.

RSICD, RSITMD, UCM-Captions and Sydney-Captions are published in it:
`{"dataset", "images": [{"filename", "split", "sentences": [{"raw", ...}], ...}]}`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import (
    Entry,
    FileDataset,
    listed,
    metric_word,
    missing_files,
    split_error,
)
from rsvlm.data.folders import check_names
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError


class Karpathy(FileDataset):
    """A data set in Karpathy's format.

    Captions are given as `sentences[].raw` words them. An optional key `scene` of an image is its
    scene class. Splits are those of the file (`train`, `val`, `test`, `restval`), several joined
    with `+` (`train+restval`), or `all`.

    Args:
        root: folder with the JSON and the images' folder.
        split: which part.
        annotations: the JSON, relative to `root`; by default the only `dataset*.json` there.
        images: the images' folder, relative to `root`; by default the first of `image_folders`.
        name: word for metric names; by default the file's `dataset`.
        convert: turn images that are not 8-bit RGB into it (`read_image`), instead of refusing.

    Attributes:
        empty_captions: captions without a word, which were left out.

    Raises:
        UserError: files are missing or damaged, the split is unknown, or an image has no caption.
    """

    title: ClassVar[str] = "A data set in Karpathy's format"
    layout: ClassVar[str] = (
        "  {root}/\n    dataset.json   or dataset_<name>.json\n    images/        or imgs/"
    )
    image_folders: ClassVar[tuple[str, ...]] = ("images", "imgs")
    #: The JSON of a data set that has no other.
    required_file: ClassVar[str | None] = None

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        annotations: str | None = None,
        images: str | None = None,
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        records, title = self._records(annotations or self.required_file)
        self.name: str = name or self.name or metric_word(title)
        self.empty_captions = 0
        self._captionless: list[str] = []
        self._scenes(records)
        known = Counter(str(self._get(r, i, "split", str)) for i, r in enumerate(records))
        wanted = set(known) if split == "all" else set(split.split("+"))
        for part in sorted(wanted - set(known)):
            raise split_error(part, dict(known), str(self.file))
        chosen = [(i, r) for i, r in enumerate(records) if r["split"] in wanted]
        folder = self._find_images(
            images, [str(self._get(r, i, "filename", str)) for i, r in chosen]
        )
        self.entries = [self._entry(r, i, folder) for i, r in chosen]
        if self._captionless:
            raise UserError(
                f"{self.file}: {len(self._captionless)} image(s) have no caption with a word in "
                f"it: {listed(self._captionless)}. Write one, or take them out of the file."
            )
        if self.empty_captions:
            self.problems.append(f"{self.empty_captions} empty caption(s) were left out.")

    def _records(self, annotations: str | None) -> tuple[list[Any], str]:
        """The images of the file, all splits, and what it calls itself."""
        self.file = self._find_annotations(annotations)
        content = read_json(self.file)
        records = content.get("images") if isinstance(content, dict) else None
        if not isinstance(records, list) or not records:
            raise UserError(
                f"{self.file} holds no list under `images`, so it is not in Karpathy's format."
            )
        return records, str(content.get("dataset", "dataset"))

    def _find_annotations(self, given: str | None) -> Path:
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if given:
            if not (self.root / given).is_file():
                raise self.not_found(f"there is no {given}.")
            return self.root / given
        found = sorted(self.root.glob("dataset*.json"))
        if not found:
            raise self.not_found("there is no dataset*.json.")
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise UserError(f"{self.root} holds {names}; choose one with annotations=.")
        return found[0]

    def _find_images(self, given: str | None, names: list[str]) -> Path:
        candidates = (given,) if given else self.image_folders
        folders = [self.root / word for word in candidates if (self.root / word).is_dir()]
        if not folders:
            raise self.not_found(f"there is no folder {' or '.join(candidates)}.")
        check_names(names, folders, str(self.file))
        lacking = {folder: missing_files(folder, names) for folder in folders}
        folder = min(folders, key=lambda f: len(lacking[f]))
        if lacking[folder]:
            raise UserError(
                f"{len(lacking[folder])} of {len(names)} images of split {self.split!r} are not "
                f"in {folder}: {listed(lacking[folder])}. Was the archive unpacked in full?"
            )
        return folder

    def _get(self, record: Any, index: int, key: str, kind: type) -> Any:
        value = record.get(key) if isinstance(record, dict) else None
        if not isinstance(value, kind):
            who = record.get("filename", "?") if isinstance(record, dict) else "?"
            raise UserError(
                f"{self.file}: images[{index}] ({who}) has no {key!r} that is a {kind.__name__}."
            )
        return value

    def _scenes(self, records: list[Any]) -> None:
        # Over all splits, so that a label means the same class in each.
        scenes = {r["scene"] for r in records if isinstance(r, dict) and r.get("scene")}
        self.classes = sorted(map(str, scenes)) or None
        self._labels = {name: i for i, name in enumerate(self.classes or ())}

    def _entry(self, record: dict[str, Any], index: int, folder: Path) -> Entry:
        filename = record["filename"]
        texts = []
        for sentence in self._get(record, index, "sentences", list):
            raw = self._raw(sentence)
            if not isinstance(raw, str):
                raise UserError(
                    f"{self.file}: images[{index}] ({filename}) has a sentence without `raw` text."
                )
            if raw.strip():
                texts.append(raw)
            else:
                self.empty_captions += 1
        if not texts:
            self._captionless.append(filename)
        return Entry(
            id=filename,
            path=str(folder / filename),
            texts=tuple(texts),
            label=self._labels.get(str(record.get("scene"))),
            meta={"split": record["split"]},
        )

    def _raw(self, sentence: Any) -> Any:
        """The caption of a sentence; no text where it has none."""
        return sentence.get("raw") if isinstance(sentence, dict) else None
