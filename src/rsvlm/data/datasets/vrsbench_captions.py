"""VRSBench's captions: 29,614 aerial images with one detailed caption each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry, FileDataset, listed
from rsvlm.data.datasets.dialogues import Faults
from rsvlm.data.datasets.locate import locate
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError

_FILES = {
    "train": ("VRSBench_train.json", "Images_train"),
    "test": ("VRSBench_EVAL_Cap.json", "Images_val"),
}
_MARK = "[caption]"


class VRSBenchCaptions(FileDataset):
    """VRSBench's captions as released, training file and evaluation file.

    The training file mixes captions, questions and references as conversations; those whose
    question has the identifier [caption] are taken. The evaluation file has a record a caption.
    Captions of one image become one sample.

    Args:
        root: folder of VRSBench_train.json, VRSBench_EVAL_Cap.json, Images_train/ and Images_val/.
        split: `train` or `test` (the validation images, on which results are reported).
        missing: what becomes of images that are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no such file or split, malformed JSON, or no caption.
    """

    name = "vrsbench_captions"
    title: ClassVar[str] = "VRSBench"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    VRSBench_train.json      Images_train/   20,264 files\n"
        "    VRSBench_EVAL_Cap.json   Images_val/     9,350 files, 512 x 512"
    )
    licence = "CC-BY-4.0 (annotations); DOTA's and DIOR's images for academic use only"
    paper = (
        "X. Li, J. Ding, M. Elhoseiny. VRSBench: A versatile vision-language benchmark dataset for "
        "remote sensing image understanding. NeurIPS 2024. arXiv:2406.12384"
    )
    homepage = "https://huggingface.co/datasets/xiang709/VRSBench"
    published_counts: ClassVar[dict[str, int]] = {"train": 20264, "test": 9350}

    def __init__(
        self,
        root: str | Path,
        split: str = "test",
        *,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if split not in _FILES:
            raise UserError(f"VRSBench has no split {split!r}; it has {', '.join(_FILES)}.")
        name, images = _FILES[split]
        file = self.root / name
        if not file.is_file():
            raise self.not_found(f"there is no {name}.")
        faults = Faults()
        found: dict[str, list[str]] = {}
        for i, record in enumerate(read_records(file)):
            read = _training if split == "train" else _evaluation
            said = read(record, f"{name}[{i}]", faults)
            if said is not None:
                found.setdefault(said[0], []).append(said[1])
        if not found:
            raise UserError(f"{file} holds no caption. {' '.join(faults.sentences())}")
        # The archive unpacks to a folder of its name, or into the one it is unpacked in.
        folders = [self.root / images / images, self.root / images]
        paths = locate(folders, found)
        lost = [image for image, path in zip(found, paths, strict=True) if not path]
        self.problems += faults.sentences()
        twice = [image for image, texts in found.items() if len(texts) > 1]
        if twice:
            self.problems.append(
                f"{len(twice)} image(s) have more than one caption: {listed(twice)}."
            )
        problem = report_missing(lost, len(found), str(folders[1]), missing)
        if problem:
            self.problems.append(problem)
        self.entries = [
            Entry(image, path or str(folders[1] / image), tuple(dict.fromkeys(texts)))
            for (image, texts), path in zip(found.items(), paths, strict=True)
            if path or missing == "keep"
        ]
        if not self.entries:
            raise self.not_found(f"no image of split {split!r} is there.")


def _training(record: Any, who: str, faults: Faults) -> tuple[str, str] | None:
    """Image and caption of a conversation; None where it is of another task."""
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not all(isinstance(t, dict) for t in turns) or not turns:
        faults.add("record(s) hold no conversation and were left out", who)
        return None
    if _MARK not in str(turns[0].get("value")):
        return None
    answer = turns[1].get("value") if len(turns) > 1 else None
    return _checked(record.get("image"), answer, who, faults)


def _evaluation(record: Any, who: str, faults: Faults) -> tuple[str, str] | None:
    record = record if isinstance(record, dict) else {}
    return _checked(record.get("image_id"), record.get("ground_truth"), who, faults)


def _checked(image: Any, text: Any, who: str, faults: Faults) -> tuple[str, str] | None:
    if not isinstance(image, str) or not image:
        faults.add("record(s) name no image and were left out", who)
    elif not isinstance(text, str) or not text.strip():
        faults.add("record(s) have no caption with a word in it and were left out", who)
    else:
        return image, text.strip()
    return None
