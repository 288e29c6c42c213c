"""FloodNet's questions: a JSON of numbered questions a split, answers withheld for the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.chat import asked, turns, write_json
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_FILES = {
    "train": ("Training Question.json", "Train_Image"),
    "val": ("Valid Question.json", "Valid_Image"),
    "test": ("Test_Question.json", "Test_Image"),
}
#: The scenes' kinds of questions → FloodNet's; numbers are numbers there, words begin with a
#: capital.
_TYPES = {"presence": "Yes_No", "comp": "Yes_No", "count": "Simple_Counting"}


def write(out: Path, splits: Splits) -> Expected:
    """Writes `Questions/` and `Images/`. Scenes know no flood, so that no question is about one."""
    expected: dict[str, list[Sample]] = {}
    for split, (file, folder) in _FILES.items():
        questions: dict[str, dict[str, Any]] = {}
        expected[split] = []
        for number, sample in enumerate(splits[split]):
            name = f"{number + 10000}.JPG"
            save(sample.images[0], out / "Images" / folder / name)
            for a in asked(sample):
                if a.kind not in _TYPES:
                    continue
                kind, id = _TYPES[a.kind], str(len(questions))
                said = turns((a.question, a.answer.capitalize(), kind))
                record: dict[str, Any] = {"Image_ID": name, "Question": a.question}
                if split != "test":
                    number_or_word = said[1].text
                    record["Ground_Truth"] = (
                        int(number_or_word) if number_or_word.isdigit() else number_or_word
                    )
                else:
                    said = said[:1]
                questions[id] = record | {"Question_Type": kind}
                expected[split].append(
                    Sample(sample.images, turns=said, meta={"id": id, "image": name})
                )
        write_json(out / "Questions" / file, questions)
    return expected


FORMAT = Format(write, parts=("turns",))
