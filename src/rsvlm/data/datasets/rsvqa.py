"""RSVQA-LR and RSVQA-HR: questions about images that OpenStreetMap answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.missing import Missing, check_word
from rsvlm.data.datasets.questions import Group, Questions
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError, near


class RSVQA(Questions):
    """RSVQA in its published JSON: three files a split, of questions, answers and images.

    Each file lists the entries of the whole release; those of other splits are placeholders
    (`{"id", "active": false}`), which are passed over. Numbers and areas are given as published
    ("17", "123m2"); an evaluation puts them into classes.

    Args:
        root: folder of the JSON files and of the images.
        split: one of `published_counts`.
        types: kinds of questions to keep, as ["presence", "comp"]; all by default.
        images: the images' folder, relative to `root`; by default the first of `image_folders`.
        group: `question` or `image` (see `questions.Group`).
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        inactive: placeholders among the questions, which were passed over.

    Raises:
        UserError: files are missing or malformed, or an option is unknown.
    """

    prefix: ClassVar[str] = ""
    image_folders: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[tuple[str, ...]] = ()
    aliases: ClassVar[dict[str, str]] = {}
    #: Splits that are a data set of their own in metric names.
    names: ClassVar[dict[str, str]] = {}
    paper = (
        "S. Lobry, D. Marcos, J. Murray, D. Tuia. RSVQA: Visual question answering for remote "
        "sensing data. IEEE TGRS 58(12), 2020. arXiv:2003.07333"
    )
    homepage = "https://rsvqa.sylvainlobry.com"

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        types: Sequence[str] | None = None,
        images: str | None = None,
        group: Group = "question",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, group=group, convert=convert)
        check_word(missing)
        self._part = self.aliases.get(split, split)
        if self._part not in type(self).published_counts:
            known = ", ".join(type(self).published_counts)
            raise UserError(f"{self.title} has no split {split!r}; it has {known}.")
        self.name = self.names.get(self._part, self.name)
        wanted = None if types is None else [types] if isinstance(types, str) else list(types)
        for word in wanted or ():
            if word not in self.kinds:
                raise UserError(
                    f"{self.title} has no questions of type {word!r}. {near(word, self.kinds)}"
                )
        if wanted is not None:
            self.published_counts = {}  # type: ignore[misc]
        self.inactive = 0
        self._read(wanted)
        folders = (images,) if images else self.image_folders
        self.close({"": [self.root / folder for folder in folders]}, missing)

    def _read(self, wanted: Sequence[str] | None) -> None:
        images = {record["id"] for record in self._records("images")}
        answers = {record["id"]: record.get("answer") for record in self._records("answers")}
        for record in self._records("questions", count=True):
            who = f"question {record['id']}"
            kind, question = record.get("type"), record.get("question")
            if not isinstance(question, str) or not question.strip():
                self.faults.add("question(s) have no words and were left out", who)
                continue
            if wanted is not None and kind not in wanted:
                continue
            if kind not in self.kinds:
                self.faults.add(f"question(s) are of the unknown type {kind!r}", who)
            if record.get("img_id") not in images:
                self.faults.add("question(s) name no active image and were left out", who)
                continue
            ids = record.get("answers_ids")
            ids = ids if isinstance(ids, list) else []
            given = [answers[i] for i in ids if answers.get(i) is not None]
            if not given:
                self.faults.add("question(s) have no active answer and were left out", who)
                continue
            if len(given) > 1:
                self.faults.add("question(s) have several answers; the first was taken", who)
            self.ask(
                str(record["id"]), f"{record['img_id']}.tif", question.strip(), str(given[0]), kind
            )

    def _records(self, what: str, *, count: bool = False) -> list[dict[str, Any]]:
        """The active entries of a file."""
        path = self.root / f"{self.prefix}_split_{self._part}_{what}.json"
        if not path.is_file():
            raise self.not_found(f"there is no {path.name}.")
        content = read_json(path)
        records = content.get(what) if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise UserError(f"{path} holds no list under `{what}`.")
        active = []
        for i, record in enumerate(records):
            if not isinstance(record, dict) or not isinstance(record.get("id"), int):
                raise UserError(f"{path}: {what}[{i}] has no id that is a number.")
            if record.get("active"):
                active.append(record)
        if count:
            self.inactive = len(records) - len(active)
        return active


class RSVQALR(RSVQA):
    """RSVQA-LR: 772 Sentinel-2 images of the Netherlands, 256 px at 10 m; 77,232 questions."""

    name = "rsvqa_lr"
    title: ClassVar[str] = "RSVQA-LR"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    LR_split_train_questions.json  LR_split_train_answers.json  "
        "LR_split_train_images.json\n"
        "    ... the same for val and test\n"
        "    Images_LR/   0.tif ... 771.tif"
    )
    prefix: ClassVar[str] = "LR"
    image_folders: ClassVar[tuple[str, ...]] = ("Images_LR", "Images_LR/Images_LR", "images")
    kinds: ClassVar[tuple[str, ...]] = ("rural_urban", "presence", "count", "comp")
    licence = "CC BY 4.0 (annotations); Copernicus Sentinel data"
    published_counts: ClassVar[dict[str, int]] = {"train": 57223, "val": 10005, "test": 10004}


class RSVQAHR(RSVQA):
    """RSVQA-HR: 10,659 aerial images (USGS), 512 px at 15 cm; a million questions.

    `test` shows the region of the training images, `test_phili` (also `test_2`) Philadelphia, which
    training has never seen. `types=[presence,comp]` leaves 62,554 questions of `test_phili`, the
    part that chat models are compared on.
    """

    name = "rsvqa_hr"
    title: ClassVar[str] = "RSVQA-HR"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    USGS_split_train_questions.json  USGS_split_train_answers.json  "
        "USGS_split_train_images.json\n"
        "    ... the same for val, test and test_phili\n"
        "    Data/   0.tif ... (or .png)"
    )
    prefix: ClassVar[str] = "USGS"
    image_folders: ClassVar[tuple[str, ...]] = ("Data", "images")
    kinds: ClassVar[tuple[str, ...]] = ("area", "presence", "count", "comp")
    aliases: ClassVar[dict[str, str]] = {"test_2": "test_phili", "test2": "test_phili"}
    names: ClassVar[dict[str, str]] = {"test_phili": "rsvqa_hr_phili"}
    licence = "CC BY 4.0 (annotations); images public domain (USGS)"
    published_counts: ClassVar[dict[str, int]] = {
        "train": 625340,
        "val": 102843,
        "test": 222684,
        "test_phili": 105647,
    }
