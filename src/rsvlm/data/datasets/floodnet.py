"""FloodNet's questions: drone images after hurricane Harvey."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.dialogues import DialogueDataset, Group
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError

#: Split → names that the releases give to its questions and to the folder of its images.
_FILES: dict[str, tuple[tuple[str, ...], str]] = {
    "train": (("Training Question.json", "Train_Question.json"), "Train_Image"),
    "val": (("Valid Question.json", "Valid_Question.json"), "Valid_Image"),
    "test": (("Test_Question.json", "Test Question.json"), "Test_Image"),
}


class FloodNet(DialogueDataset):
    """FloodNet's questions (track 2 of the EarthVision 2021 challenge).

    The types are Condition_Recognition, Yes_No, Simple_Counting and Complex_Counting. Where a file
    has no answers at all (the challenge withheld them), its samples are questions alone and
    `answered` is false; where some lack them, that is told.

    Args:
        root: folder of Questions/ and Images/.
        split: `train`, `val` or `test`.
        group: `question` or `image` (see `dialogues.Group`).
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Attributes:
        answered: whether the file holds answers.

    Raises:
        UserError: files are missing or malformed, or an option is unknown.
    """

    name = "floodnet"
    title: ClassVar[str] = "FloodNet"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    Questions/   Training Question.json  Valid Question.json  Test_Question.json\n"
        "    Images/      Train_Image/  Valid_Image/  Test_Image/"
    )
    licence = "CDLA-Permissive-1.0"
    paper = (
        "M. Rahnemoonfar, T. Chowdhury, A. Sarkar, D. Varshney, M. Yari, R. R. Murphy. FloodNet: A "
        "high resolution aerial imagery dataset for post flood scene understanding. IEEE Access 9, "
        "2021. arXiv:2012.02951"
    )
    homepage = "https://github.com/BinaLab/FloodNet-Challenge-EARTHVISION2021"
    published_counts: ClassVar[dict[str, int]] = {"train": 4511}

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        group: Group = "question",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, group=group, convert=convert)
        check_missing(missing)
        if split not in _FILES:
            raise UserError(f"{self.title} has no split {split!r}; it has {', '.join(_FILES)}.")
        names, folder = _FILES[split]
        places = [self.root / part / name for part in ("Questions", ".") for name in names]
        file = next((path for path in places if path.is_file()), None)
        if file is None:
            raise self.not_found(f"there is no Questions/{names[0]}.")
        self.answered = False
        self._read(file)
        self.close({"": [self.root / "Images" / folder, self.root / folder]}, missing)

    def _read(self, file: Path) -> None:
        content = read_json(file)
        if not isinstance(content, dict) or not content:
            raise UserError(f"{file} holds no questions by number.")
        self.answered = any(
            isinstance(r, dict) and _answer(r) is not None for r in content.values()
        )
        for number, record in content.items():
            record = record if isinstance(record, dict) else {}
            image, question = record.get("Image_ID"), record.get("Question")
            if not (isinstance(image, str) and isinstance(question, str) and question.strip()):
                self.faults.add("question(s) lack Image_ID or Question and were left out", number)
                continue
            answer = _answer(record)
            if self.answered and answer is None:
                self.faults.add("question(s) have no Ground_Truth and were left out", number)
                continue
            kind = record.get("Question_Type")
            self.ask(number, image, question.strip(), answer, None if kind is None else str(kind))


def _answer(record: dict[str, object]) -> str | None:
    """Words or a number, as text."""
    value = record.get("Ground_Truth")
    return str(value) if isinstance(value, str | int | float) and str(value).strip() else None
