"""RSVQA-LR and RSVQA-HR: questions about images that OpenStreetMap answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.dialogues import DialogueDataset, Group
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError, near


class RSVQA(DialogueDataset):
    """RSVQA in its published JSON: three files a split, of questions, answers and images.

    Each file lists the entries of the whole release; those of other splits are placeholders
    (`{"id", "active": false}`), which are passed over. Numbers and areas are given as published
    ("17", "123m2"); an evaluation puts them into classes.

    Args:
        root: folder of the JSON files and of the images.
        split: one of `published_counts`.
        types: kinds of questions to keep, as ["presence", "comp"]; all by default.
        images: the images' folder, relative to `root`; by default the first of `image_folders`.
        group: `question` or `image` (see `dialogues.Group`).
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
        check_missing(missing)
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
