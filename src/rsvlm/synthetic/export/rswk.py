"""RSWK: messages of the mini set and compositional questions, with their published defects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.rswk import CLASSES
from rsvlm.data.sample import Sample, Turn
from rsvlm.synthetic.export.chat import asked, description, turns, write_json, write_lines
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

_ASK = (
    "What is the category of the site in the remote image? Answer the question using a single word "
    "or phrase from the following 16 categories: "
)
#: The mini set's prompts leave two classes out.
_PROMPT = _ASK + ", ".join(c for c in CLASSES if c not in ("Casino", "Tower")) + "."
#: The mini set's test files name images with the folder of their authors' machine.
_ELSEWHERE = "/home/user/RSGPT_dataset/images"
#: Tasks as the training file names them.
_TASKS = {
    "caption": "Image Captioning",
    "classification": "Image Classification",
    "vqa": "Visual Question Answering",
}


def write(out: Path, splits: Splits) -> Expected:
    """Writes `DATASET/` and `images/`, from the scenes of `train` and `test`.

    As published, classes outside the sixteen occur (scenes have their own), test prompts list
    fourteen, test files name folders that are elsewhere, and the compositional questions of one
    image are a text instead of a list.
    """
    mini = Path("DATASET/DATASET_MINI")
    expected: dict[str, list[Sample]] = {"train": []}
    train = _Messages("mini_train")
    for sample, name, label in _landmarks(out, splits, "train"):
        for kind, (question, answer) in _tasks(sample, label, _ASK + ", ".join(CLASSES) + "."):
            train.add(sample, name, kind, question, answer, task=_TASKS[kind])
    train.write(out / mini / "train" / f"mini_train_{len(train.records)}.jsonl")
    expected["train"] = train.samples
    tests = {
        "caption": _Messages("image_captioning_mini_test"),
        "classification": _Messages("image_classification_mini_test"),
        "vqa": _Messages("image_vqa_mini_test"),
    }
    nested: list[dict[str, Any]] = []
    expected["full_test_vqa_c"] = []
    for sample, name, label in _landmarks(out, splits, "test"):
        for kind, (question, answer) in _tasks(sample, label, _PROMPT):
            tests[kind].add(sample, name, kind, question, answer, folder=f"{_ELSEWHERE}/")
        output = [
            {"question": a.question, "answer": a.answer} for a in asked(sample) if a.kind == "comp"
        ] + [{"question": "What is the overall view?", "answer": description(sample)}]
        expected["full_test_vqa_c"] += [
            Sample(
                sample.images,
                turns=turns((pair["question"], pair["answer"], "vqa")),
                meta={"id": f"{name}#{j}", "image": name},
            )
            for j, pair in enumerate(output)
        ]
        text = f"```json\n{json.dumps(output, indent=2)}\n```"
        nested.append({"image_name": name, "gpt_output": output if nested else text})
    for kind, messages in tests.items():
        count = len(messages.records)
        messages.write(out / mini / "test" / f"{messages.stem}_{count}.jsonl")
        expected[f"test_{kind}"] = messages.samples
    listed = sum(len(record["gpt_output"]) for record in nested[1:])
    folder = out / "DATASET/DATASET_FULL/vqa/vqa_c"
    write_json(folder / f"vqa_c_full_test_{listed}.json", nested)
    return expected


class _Messages:
    """Records of a file, and the samples that a reader must give for them."""

    def __init__(self, stem: str) -> None:
        self.stem = stem
        self.records: list[dict[str, Any]] = []
        self.samples: list[Sample] = []

    def add(
        self,
        sample: Sample,
        name: str,
        kind: str,
        question: str,
        answer: str,
        *,
        task: str | None = None,
        folder: str = "",
    ) -> None:
        record: dict[str, Any] = {
            "messages": [
                {"role": "user", "content": f"<image>{question}"},
                {"role": "assistant", "content": answer},
            ],
            "images": [f"{folder}{name}.png"],
        }
        self.records.append(record | ({"task": task} if task else {}))
        said: list[Turn] = turns((question, answer, kind))
        # The training file mixes tasks and names them; its samples are turns alone.
        known = not task and kind == "classification" and answer in CLASSES
        self.samples.append(
            Sample(
                sample.images,
                texts=[answer] if kind == "caption" and not task else [],
                turns=said,
                label=CLASSES.index(answer) if known else None,
                meta={"id": f"{self.stem}_{len(self.records)}", "image": f"{name}.png"}
                | ({"task": task} if task else {}),
            )
        )

    def write(self, path: Path) -> None:
        write_lines(path, self.records)


def _landmarks(out: Path, splits: Splits, split: str) -> list[tuple[Sample, str, str]]:
    """Scenes with a name and a class, their pictures stored."""
    found = []
    for number, sample in enumerate(splits[split]):
        label = splits[split].classes[sample.label or 0].title()
        name = f"{label} № {number + 1} ({split})"
        save(sample.images[0], out / "images" / f"{name}.png")
        found.append((sample, name, label))
    return found


def _tasks(sample: Sample, label: str, prompt: str) -> list[tuple[str, tuple[str, str]]]:
    said = [
        ("caption", ("Describe the landmark in the image in detail.", description(sample))),
        ("classification", (prompt, label)),
    ]
    kinds = ("presence", "count", "place")
    said += [("vqa", (a.question, a.answer)) for a in asked(sample) if a.kind in kinds]
    return said


FORMAT = Format(
    write,
    parts=("turns",),
    told=(
        r"class\(es\) are none of the 16",
        r"prompt\(s\) list no Casino and no Tower",
        r"text instead of a list, whose questions were read",
    ),
)
