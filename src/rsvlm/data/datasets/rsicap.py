"""RSICap and RSIEval: detailed captions of DOTA patches, and questions about a hundred of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.dialogues import DialogueDataset, asked
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.text.subtasks import part
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError, near

#: Of RS-MoE's experts.
SUBTASKS = ("theme", "objects", "relations")
#: RSIEval's prompt for captions.
PROMPT = "Please provide a detailed description of the picture."
_LICENCE = "no licence text; images under DOTA's terms (academic use only)"
_PAPER = (
    "Y. Hu, J. Yuan, C. Wen, X. Lu, Y. Liu, X. Li. RSGPT: A remote sensing vision language model "
    "and benchmark. ISPRS JPRS 224, 2025. arXiv:2307.15266"
)
_HOMEPAGE = "https://github.com/Lavender105/RSGPT"


class RSICap(DialogueDataset):
    """RSICap: 2,585 patches, each with an instruction and a description of several sentences.

    The description is the caption and the answer to the instruction.

    Args:
        root: folder of captions.json and images/.
        split: `train`, the only one.
        subtask: keep to one part of each description, `theme`, `objects` or `relations`, by the
            rule of `data/text/subtasks.py`; RS-MoE's own split is not published. Descriptions
            without such a part are left out.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: captions.json is missing or malformed, or images are missing.
    """

    name = "rsicap"
    title: ClassVar[str] = "RSICap"
    layout: ClassVar[str] = "  {root}/\n    captions.json\n    images/   P0000_0018.png ..."
    licence = _LICENCE
    paper = _PAPER
    homepage = _HOMEPAGE
    published_counts: ClassVar[dict[str, int]] = {"train": 2585}

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        subtask: str | None = None,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if split not in ("train", "all"):
            raise UserError(f"{self.title} has no split {split!r}; it has train.")
        if subtask is not None and subtask not in SUBTASKS:
            raise UserError(f"subtask={subtask!r} is not known. {near(subtask, SUBTASKS)}")
        if subtask is not None:
            # Published is the number of descriptions.
            self.published_counts = {}  # type: ignore[misc]
        file = self.root / "captions.json"
        if not file.is_file():
            raise self.not_found("there is no captions.json.")
        for i, record in enumerate(read_records(file)):
            image, question, text = _strings(record, "filename", "text_input", "text_output")
            if not (image and question and text):
                what = "record(s) lack filename, text_input or text_output and were left out"
                self.faults.add(what, f"annotations[{i}]")
                continue
            if subtask is not None:
                text = part(text, subtask, SUBTASKS)
                if not text:
                    continue
            id = str(record.get("image_id", i))
            turns = asked(question, text, "caption")
            self.add(id, [image], turns, texts=[text], meta={"image": image})
        self.close({"": [self.root / "images"]}, missing)


class RSIEval(DialogueDataset):
    """RSIEval: 100 patches with a description and 936 open questions.

    Its splits are its two tasks: of `caption` a sample is an image with its description, of `vqa`
    a question, whose published type (presence, quantity, ab_position, ...) is the turns' kind.
    Questions were scored by people; no script is published.

    Args:
        root: folder of annotations.json and images/.
        split: `caption` or `vqa`.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: annotations.json is missing or malformed, or images are missing.
    """

    name = "rsieval"
    title: ClassVar[str] = "RSIEval"
    layout: ClassVar[str] = "  {root}/\n    annotations.json\n    images/   P1384_0054.png ..."
    licence = _LICENCE
    paper = _PAPER
    homepage = _HOMEPAGE
    published_counts: ClassVar[dict[str, int]] = {"caption": 100, "vqa": 936}

    def __init__(
        self,
        root: str | Path,
        split: str = "vqa",
        *,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if split not in self.published_counts:
            known = ", ".join(self.published_counts)
            raise UserError(f"{self.title} has no split {split!r}; it has {known}.")
        file = self.root / "annotations.json"
        if not file.is_file():
            raise self.not_found("there is no annotations.json.")
        for i, record in enumerate(read_records(file)):
            image, caption = _strings(record, "filename", "caption")
            if not image:
                self.faults.add("record(s) have no filename and were left out", f"annotations[{i}]")
            elif split == "vqa":
                self._questions(record, image)
            elif caption:
                turns = asked(PROMPT, caption, "caption")
                self.add(image, [image], turns, texts=[caption], meta={"image": image})
            else:
                self.faults.add("image(s) have no caption and were left out", image)
        self.close({"": [self.root / "images"]}, missing)

    def _questions(self, record: Mapping[str, Any], image: str) -> None:
        pairs = record.get("qa_pairs")
        for j, pair in enumerate(pairs if isinstance(pairs, list) else []):
            question, answer, kind = _strings(pair, "question", "answer", "type")
            if not (question and answer):
                self.faults.add(
                    "question(s) or answers are empty and were left out", f"{image}#{j}"
                )
                continue
            turns = asked(question, answer, kind or None)
            self.add(f"{image}#{j}", [image], turns, meta={"image": image})


def _strings(record: Any, *keys: str) -> list[str]:
    """The values of keys, stripped; empty where they are missing or no text."""
    record = record if isinstance(record, Mapping) else {}
    values = [record.get(key) for key in keys]
    return [value.strip() if isinstance(value, str) else "" for value in values]
