"""ERA-VQA: questions about aerial videos, as SkyEye-968k has them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.conversations import read_conversation
from rsvlm.data.datasets.dialogues import DialogueDataset
from rsvlm.data.datasets.frames import COMMAND, check_count, chosen
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import check_names
from rsvlm.data.sample import Layout
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError

#: The archive spells it so.
_FILE = "vqa/EARVqa.json"


class ERAVQA(DialogueDataset):
    """ERA-VQA's questions on frames of ERA's videos; a sample is a video and its conversation.

    Args:
        root: the folder that SkyEye-968k's archive unpacks to.
        split: `train`, the only one.
        frames: frames of a sample, spread evenly over the video.
        images: the folder of the videos' folders of frames, relative to `root`. A video is looked
            for there by its path in the file, by its name, and in Train/, Test/ and the event's
            folder, as ERA has it.
        missing: what becomes of videos whose frames are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no such file or split, or no sample.
    """

    name = "era_vqa"
    title: ClassVar[str] = "ERA-VQA"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    vqa/EARVqa.json\n"
        "    frames/Train/Flood/Flood_001/001.jpg ...\n"
        "  from ERA's Videos/Train/Flood/Flood_001.mp4 by\n    "
        + COMMAND.replace("{", "<").replace("}", ">")
    )
    sample_layout: ClassVar[Layout] = "frames"
    licence = "CC BY 4.0 (annotations); ERA's videos are YouTube's, for research"
    paper = (
        "Y. Zhan, Z. Xiong, Y. Yuan. SkyEyeGPT: Unifying remote sensing vision-language tasks via "
        "instruction tuning with large language model. ISPRS JPRS 221, 2025. arXiv:2401.09712"
    )
    homepage = "https://huggingface.co/datasets/ZhanYang-nwpu/SkyEye-968k"

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        frames: int = 8,
        images: str = "frames",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        check_count(frames)
        if split not in ("train", "all"):
            raise UserError(f"ERA-VQA has no split {split!r}; it has train.")
        file = self.root / _FILE
        if not file.is_file():
            raise self.not_found(f"there is no {_FILE}.")
        folder = self.root / images
        lost: list[str] = []
        records = read_records(file)
        for i, record in enumerate(records):
            who = f"{file.name}[{i}]"
            parsed = read_conversation(record, who, self.faults)
            if parsed is None:
                continue
            (video, *rest), turns = parsed
            if rest:
                self.faults.add("conversation(s) are about several videos and were left out", who)
                continue
            check_names([video], [folder], str(file))
            paths = next(
                (found for place in _places(folder, video) if (found := chosen(place, frames))), []
            )
            if not paths:
                lost.append(video)
                if missing == "skip":
                    continue
                paths = [str(folder / _stem(video) / "001.jpg")]
            # The marker of the video stands for all of its frames.
            shown = tuple(range(len(paths)))
            turns = [replace(t, image_ids=shown if t.image_ids else ()) for t in turns]
            for turn in turns:
                turn.kind = turn.kind or "vqa"
            id = record.get("id", record.get("question_id"))
            name = who if id is None else str(id)
            names = [os.path.relpath(path, folder) for path in paths]
            self.add(name, names, turns, meta={"video": video})
        problem = report_missing(
            lost,
            len(records),
            str(folder),
            missing,
            what="videos",
            kept="Their dialogues were kept.",
        )
        if not len(self._rows):
            raise self.not_found(f"no frame of {_FILE} is there.")
        # What is lost is told by its video, not by the frame that stands for it.
        self.close({"": [folder]}, "keep" if lost else missing)
        self.problems = [p for p in self.problems if "dialogues were kept" not in p]
        if problem:
            self.problems.append(problem)


def _stem(video: str) -> str:
    name = Path(video).name
    return name.rsplit(".", 1)[0].strip() if "." in name else name


def _places(folder: Path, video: str) -> list[Path]:
    """Where the frames of a video may be."""
    stem = _stem(video)
    event = stem.split("_")[0]
    return [
        (folder / video).with_name(stem),
        folder / stem,
        folder / event / stem,
        *(folder / part / event / stem for part in ("Train", "Test")),
    ]
