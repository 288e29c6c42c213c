"""RSWK: landmarks with world knowledge, in the messages that RS-RAG trains and tests with."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

from rsvlm.data.datasets.base import listed
from rsvlm.data.datasets.conversations import to_turns
from rsvlm.data.datasets.dialogues import DialogueDataset, asked
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.sample import Role
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError, near

CLASSES = (
    "Airport",
    "Amusement Park",
    "Beach",
    "Bridge",
    "Casino",
    "Church",
    "Government Building",
    "Historic Site",
    "Mansion",
    "Museum",
    "Park",
    "Stadium",
    "Theater",
    "Tower",
    "University",
    "Forest",
)
_KINDS = {
    "Image Captioning": "caption",
    "Image Classification": "classification",
    "Visual Question Answering": "vqa",
}
_STRING = r'("(?:[^"\\]|\\.)*")'
_PAIR = re.compile(rf'"question"\s*:\s*{_STRING}\s*,?\s*"answer"\s*:\s*{_STRING}', re.DOTALL)


class Part(NamedTuple):
    """A file of the release: patterns of its name (the first that is there), its task, its size."""

    patterns: tuple[str, ...]
    kind: str
    total: int = 0


_FULL = "DATASET_FULL"
PARTS: dict[str, Part] = {
    "train": Part(("DATASET_MINI/train/mini_train_*.jsonl",), "", 29988),
    "test_caption": Part(
        ("DATASET_MINI/test/image_captioning_mini_test_*.jsonl",), "caption", 1496
    ),
    "test_classification": Part(
        ("DATASET_MINI/test/image_classification_mini_test_*.jsonl",), "classification", 1600
    ),
    "test_vqa": Part(("DATASET_MINI/test/image_vqa_mini_test_*.jsonl",), "vqa", 5242),
    "full_train_caption": Part(
        # The published name says test; its number is that of the training images.
        (
            f"{_FULL}/image_captioning/image_captioning_full_train_*.jsonl",
            f"{_FULL}/image_captioning/image_captioning_full_test_11827.jsonl",
        ),
        "caption",
        11827,
    ),
    "full_test_caption": Part(
        (f"{_FULL}/image_captioning/image_captioning_full_test_2993.jsonl",), "caption", 2993
    ),
    "full_train_classification": Part(
        (f"{_FULL}/image_classification/image_classification_full_train_*.jsonl",),
        "classification",
        11827,
    ),
    "full_test_classification": Part(
        (f"{_FULL}/image_classification/image_classification_full_test_*.jsonl",),
        "classification",
        2993,
    ),
    "full_train_vqa_wk": Part((f"{_FULL}/vqa/vqa_wk/vqa_wk_full_train_*.jsonl",), "vqa", 11827),
    "full_test_vqa_wk": Part((f"{_FULL}/vqa/vqa_wk/vqa_wk_full_test_*.jsonl",), "vqa", 2993),
    "full_train_vqa_rsk": Part((f"{_FULL}/vqa/vqa_rsk/vqa_rsk_full_train_*.jsonl",), "vqa", 11827),
    "full_test_vqa_rsk": Part((f"{_FULL}/vqa/vqa_rsk/vqa_rsk_full_test_*.jsonl",), "vqa", 2993),
    "full_train_vqa_c": Part((f"{_FULL}/vqa/vqa_c/vqa_c_full_train_*.json",), "vqa"),
    "full_test_vqa_c": Part((f"{_FULL}/vqa/vqa_c/vqa_c_full_test_*.json",), "vqa"),
}


class RSWK(DialogueDataset):
    """RSWK: the mini set (`train`, `test_caption`, `test_classification`, `test_vqa`) and the full.

    Records are messages with `<image>`; a sample is a record, and its turns' kind is caption,
    classification or vqa. In a split of one task, captions are also the samples' texts, and a class
    of the sixteen their label; in `train`, which mixes tasks, samples have turns alone.

    Images are not published with it; they are looked for by their file's name, since some records
    name folders of the authors' machine.

    Told in `problems`: classes outside the sixteen (35 of the full test set), prompts that do not
    list all sixteen (the mini set's), and, in the compositional questions (`*_vqa_c`), which come
    as `{image_name, gpt_output}`, outputs that are a text of JSON where others are a list. Such
    texts (5 of the test file's 320, some without their commas) are read, and come on top of the
    4,501 questions that the file's name counts.

    Args:
        root: the folder DATASET, or the one that holds it.
        split: a word of `PARTS`, or several joined with `+`.
        images: the folder of the images, relative to `root` or absolute.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: the file is missing or malformed, an option is unknown, or images are missing.
    """

    name = "rswk"
    title: ClassVar[str] = "RSWK"
    layout: ClassVar[str] = (
        "  {root}/DATASET/\n"
        "    DATASET_MINI/train/mini_train_29988.jsonl\n"
        "    DATASET_MINI/test/image_captioning_mini_test_1496.jsonl, "
        "image_classification_..., image_vqa_...\n"
        "    DATASET_FULL/image_captioning/ image_classification/ vqa/vqa_wk/ vqa_rsk/ vqa_c/\n"
        "    images/   Muradiye Complex.png ...   beside DATASET or in it; another with images="
    )
    licence = "no licence text; images under ArcGIS' terms, for research"
    paper = (
        "C. Wen, Y. Lin, X. Qu, N. Li, Y. Liao, H. Lin, X. Li. RS-RAG: Bridging remote sensing "
        "imagery and comprehensive knowledge with a multi-modal dataset and retrieval-augmented "
        "generation model. IEEE GRSM 14(2), 2026. arXiv:2504.04988"
    )
    homepage = "https://github.com/CongcongWen1208/RS-RAG"
    published_counts: ClassVar[dict[str, int]] = {k: p.total for k, p in PARTS.items() if p.total}

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str = "images",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        top = self.root / "DATASET" if (self.root / "DATASET").is_dir() else self.root
        words = split.split("+")
        for word in words:
            if word not in PARTS:
                raise UserError(f"{self.title} has no split {word!r}. {near(word, PARTS)}")
        tasks = {PARTS[word].kind for word in words}
        self._task = tasks.pop() if len(tasks) == 1 else ""
        if self._task == "classification":
            self.classes = list(CLASSES)
        for word in words:
            part = PARTS[word]
            found = [path for pattern in part.patterns for path in sorted(top.glob(pattern))]
            if not found:
                raise self.not_found(f"there is no {part.patterns[0]}.")
            prefix = f"{word}/" if len(words) > 1 else ""
            if found[0].suffix == ".json":
                self._nested(found[0], prefix)
            else:
                self._messages(found[0], part.kind, prefix)
        self.close({"": list(dict.fromkeys([self.root / images, top / images]))}, missing)

    def _messages(self, file: Path, kind: str, prefix: str) -> None:
        strange: Counter[str] = Counter()
        for i, record in enumerate(read_records(file)):
            who = f"{file.name}, record {i + 1}"
            record = record if isinstance(record, Mapping) else {}
            said, images = _said(record.get("messages")), record.get("images")
            images = [images] if isinstance(images, str) else images
            if said is None or not isinstance(images, list) or not _names(images):
                self.faults.add("record(s) lack messages or images and were left out", who)
                continue
            turns = to_turns(said, len(images), who, self.faults)
            if turns is None:
                continue
            task = record.get("task")
            word = kind or _KINDS.get(str(task)) or _guess(turns[0].text)
            for turn in turns:
                turn.kind = word
            answer = turns[-1].text
            label = None
            if word == "classification":
                strange.update([answer] if answer not in CLASSES else [])
                if self.classes and answer in CLASSES:
                    label = CLASSES.index(answer)
                self._check_prompt(turns[0].text, who)
            names = [_base(name) for name in images]
            meta = {"image": names[0]} | ({"task": task} if task else {})
            texts = [answer] if self._task == "caption" else []
            id = f"{prefix}{file.stem.rsplit('_', 1)[0]}_{i + 1}"
            self.add(id, names, turns, texts=texts, label=label, meta=meta)
        if strange:
            shown = (f"{name} ({count})" for name, count in strange.most_common())
            self.problems.append(
                f"{sum(strange.values())} class(es) are none of the {len(CLASSES)} and have no "
                f"label: {listed(shown)}."
            )

    def _check_prompt(self, prompt: str, who: str) -> None:
        found = re.search(r"categories: (.*)", prompt)
        given = found.group(1).rstrip(". ").split(", ") if found else []
        lacking = [name for name in CLASSES if name not in given]
        if given and lacking:
            self.faults.add(f"prompt(s) list no {' and no '.join(lacking)}", who)

    def _nested(self, file: Path, prefix: str) -> None:
        """The compositional questions: `image_name` and `gpt_output`, a list or a text of one."""
        for i, record in enumerate(read_records(file)):
            record = record if isinstance(record, Mapping) else {}
            image, output = record.get("image_name"), record.get("gpt_output")
            who = f"record {i + 1} ({image})"
            if not isinstance(image, str) or not image:
                self.faults.add("record(s) have no image_name and were left out", who)
                continue
            if isinstance(output, str):
                output = _unwrap(output)
                what = "whose questions were read" if output else "without questions, left out"
                self.faults.add(f"output(s) are a text instead of a list, {what}", who)
            for j, pair in enumerate(output if isinstance(output, list) else [None]):
                pair = pair if isinstance(pair, Mapping) else {}
                question, answer = pair.get("question"), pair.get("answer")
                if not (isinstance(question, str) and question.strip() and _text(answer)):
                    self.faults.add("question(s) lack question or answer and were left out", who)
                    continue
                id = f"{prefix}{image}#{j}"
                turns = asked(question.strip(), _text(answer), "vqa")
                self.add(id, [f"{image}.png"], turns, meta={"image": image})


def _said(messages: Any) -> list[tuple[Role, str]] | None:
    """Roles and texts, None where they are malformed."""
    said: list[tuple[Role, str]] = []
    for message in messages if isinstance(messages, list) else []:
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ("system", "user", "assistant"):
            return None
        if not isinstance(message.get("content"), str):
            return None
        said.append((role, message["content"]))
    return said or None


def _names(images: list[Any]) -> bool:
    return bool(images) and all(isinstance(name, str) and name.strip() for name in images)


def _base(name: str) -> str:
    """The file's name alone where it stands with a folder of another machine."""
    return PurePosixPath(name).name if os.path.isabs(name) else name


def _guess(prompt: str) -> str:
    """The task of a record that does not name it, from its prompt."""
    if "categories:" in prompt:
        return "classification"
    return "caption" if re.search(r"\b(describe|description|caption)", prompt.lower()) else "vqa"


def _unwrap(text: str) -> list[dict[str, str]]:
    """The questions in a text of JSON, which may stand in a Markdown fence or lack commas."""
    # Texts of a language model hold line ends that JSON strings must not.
    read = json.JSONDecoder(strict=False).decode
    return [
        {"question": read(question), "answer": read(answer)}
        for question, answer in _PAIR.findall(text)
    ]


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int | float) else ""
