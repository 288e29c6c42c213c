"""NWPU-Captions: 31,500 aerial images of 45 classes with five captions each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry, FileDataset, listed, missing_files, split_error
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import check_names
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError

CAPTIONS = ("raw", "raw_1", "raw_2", "raw_3", "raw_4")

#: An image that users of the release leave out: its file is not in the published archive.
KNOWN_BAD = "airplane_111.jpg"


class NWPUCaptions(FileDataset):
    """NWPU-Captions in its own JSON: `{class: [{filename, split, raw, raw_1 ... raw_4}]}`.

    The row of airplane_111.jpg is known to be bad. Where its image or a caption of it is not
    there, it is left out and told among the problems; the same in any other row is an error.

    Args:
        root: folder with dataset_nwpu.json and NWPU_images/<class>/ (or images/).
        split: `train`, `val`, `test`, several joined with `+`, or `all`.
        images: the images' folder, relative to `root`; by default the first of `image_folders`.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        empty_captions: captions without a word, which were left out.

    Raises:
        UserError: files are missing or damaged, the split is unknown, or a row is malformed.
    """

    name = "nwpu_captions"
    title: ClassVar[str] = "NWPU-Captions"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    dataset_nwpu.json\n"
        "    NWPU_images/<class>/   or images/<class>/; airplane/airplane_001.jpg ..."
    )
    image_folders: ClassVar[tuple[str, ...]] = ("NWPU_images", "images")
    licence = "no licence text; for research (Google Earth)"
    paper = (
        "Q. Cheng, H. Huang, Y. Xu, Y. Zhou, H. Li, Z. Wang. NWPU-Captions dataset and MLCA-Net "
        "for remote sensing image captioning. IEEE TGRS 60, 2022"
    )
    homepage = "https://github.com/HaiyanHuang98/NWPU-Captions"
    published_counts: ClassVar[dict[str, int]] = {"train": 25200, "val": 3150, "test": 3150}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        images: str | None = None,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        self.file = self.root / "dataset_nwpu.json"
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if not self.file.is_file():
            raise self.not_found("there is no dataset_nwpu.json.")
        content = read_json(self.file)
        if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
            raise UserError(f"{self.file} is not NWPU-Captions' JSON, a list of images per class.")
        raw = sorted(map(str, content))
        self.classes = [name.replace("_", " ") for name in raw]
        self.empty_captions = 0
        rows: list[tuple[str, str, list[str]]] = []
        known: Counter[str] = Counter()
        wanted = set(split.split("+"))
        for scene, records in content.items():
            for i, record in enumerate(records):
                part = self._get(record, "split", scene, i)
                known[part] += 1
                if split == "all" or part in wanted:
                    rows.append((scene, part, self._row(record, scene, i)))
        for part in sorted(wanted - set(known) - {"all"}):
            raise split_error(part, dict(known), str(self.file))
        rows = self._without_bad(rows)
        names = [f"{scene}/{row[0]}" for scene, _, row in rows]
        folder, lost = self._find(images, names, missing)
        self.entries = [
            Entry(
                id=name,
                path=str(folder / name),
                texts=tuple(row[1:]),
                label=raw.index(scene),
                meta={"split": part},
            )
            for name, (scene, part, row) in zip(names, rows, strict=True)
            if name not in lost
        ]
        if not self.entries:
            raise self.not_found(f"no image of split {split!r} is there.")
        if self.empty_captions:
            self.problems.append(f"{self.empty_captions} empty caption(s) were left out.")

    def _get(self, record: Any, key: str, scene: str, index: int) -> str:
        value = record.get(key) if isinstance(record, dict) else None
        if not isinstance(value, str) or not value:
            who = record.get("filename", "?") if isinstance(record, dict) else "?"
            raise UserError(f"{self.file}: {scene}[{index}] ({who}) has no {key!r} that is a str.")
        return value

    def _row(self, record: Any, scene: str, index: int) -> list[str]:
        """File name and captions; no caption where the row is the known bad one and lacks one."""
        name = self._get(record, "filename", scene, index)
        given = [record.get(key) for key in CAPTIONS]
        bad = [key for key, text in zip(CAPTIONS, given, strict=True) if not isinstance(text, str)]
        if bad and name == KNOWN_BAD:
            return [name]
        if bad:
            raise UserError(
                f"{self.file}: {scene}[{index}] ({name}) has no {bad[0]!r} that is a str."
            )
        texts = [text for text in given if text.strip()]
        self.empty_captions += len(given) - len(texts)
        if not texts and name != KNOWN_BAD:
            raise UserError(f"{self.file}: {scene}[{index}] ({name}) has no caption with a word.")
        return [name, *texts]

    def _without_bad(
        self, rows: list[tuple[str, str, list[str]]]
    ) -> list[tuple[str, str, list[str]]]:
        kept = [row for row in rows if len(row[2]) > 1]
        if len(kept) < len(rows):
            self.problems.append(f"{KNOWN_BAD} was left out: its captions are not in the file.")
        return kept

    def _find(self, given: str | None, names: list[str], missing: Missing) -> tuple[Path, set[str]]:
        """The images' folder, and the images to leave out."""
        candidates = [self.root / word for word in ((given,) if given else self.image_folders)]
        if missing != "keep" and not any(path.is_dir() for path in candidates):
            raise self.not_found(f"there is no folder {listed(p.name for p in candidates)}.")
        check_names(names, candidates, str(self.file))
        lacking = {folder: missing_files(folder, names) for folder in candidates}
        folder = min(candidates, key=lambda f: len(lacking[f]))
        lost = lacking[folder]
        if missing == "keep":
            bad, others = [], lost
        else:
            bad = [name for name in lost if name.endswith(f"/{KNOWN_BAD}")]
            others = [name for name in lost if name not in bad]
        if bad:
            self.problems.append(f"{KNOWN_BAD} was left out: its image is not in {folder}.")
        problem = report_missing(others, len(names), str(folder), missing)
        if problem:
            self.problems.append(problem)
        return folder, set() if missing == "keep" else set(lost)
