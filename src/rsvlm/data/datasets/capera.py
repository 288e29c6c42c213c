"""CapERA: 2,864 aerial videos of 25 kinds of events with five captions each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.base import Entry, FileDataset, listed
from rsvlm.data.datasets.frames import COMMAND, check_count, chosen
from rsvlm.data.datasets.missing import Missing, check_missing, report_missing
from rsvlm.data.folders import check_names
from rsvlm.data.sample import Layout
from rsvlm.data.text_files import read_json
from rsvlm.errors import UserError

_FILES = {
    "train": ("CapERA_DATASET_train.json", "Train"),
    "test": ("CapERA_DATASET_test.json", "Test"),
}


class CapERA(FileDataset):
    """CapERA's captions on frames of ERA's videos.

    Videos are published as Videos/Train/Flood/Flood_001.mp4; frames are read, so each video is
    first unpacked to a folder of its name (`frames.COMMAND`). A sample is a video, its label the
    kind of event.

    Args:
        root: folder of CapERA_DATASET_train.json, CapERA_DATASET_test.json and frames/.
        split: `train` or `test`.
        frames: frames of a sample, spread evenly over the video.
        images: the folder of Train/ and Test/ with the frames, relative to `root`.
        missing: what becomes of videos whose frames are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no such file or split, or a malformed record (by position).
    """

    name = "capera"
    title: ClassVar[str] = "CapERA"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    CapERA_DATASET_train.json  CapERA_DATASET_test.json\n"
        "    frames/Train/Flood/Flood_001/001.jpg ...   frames/Test/...\n"
        "  from Videos/Train/Flood/Flood_001.mp4 by\n    "
        + COMMAND.replace("{", "<").replace("}", ">")
    )
    sample_layout: ClassVar[Layout] = "frames"
    licence = "no licence text; for research (ERA's videos are YouTube's)"
    paper = (
        "L. Bashmal, Y. Bazi, M. M. Al Rahhal, M. Zuair, F. Melgani. CapERA: Captioning events in "
        "aerial videos. Remote Sensing 15(8), 2139, 2023"
    )
    homepage = "https://lcmou.github.io/ERA_Dataset/"
    published_counts: ClassVar[dict[str, int]] = {"train": 1473, "test": 1391}

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
        if split not in _FILES:
            raise UserError(f"CapERA has no split {split!r}; it has {', '.join(_FILES)}.")
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        records = {word: self._records(file) for word, (file, _) in _FILES.items()}
        if not records[split]:
            raise self.not_found(f"there is no {_FILES[split][0]}.")
        # Over both splits, so that a label means the same event in each.
        kinds = {_kind(name) for found in records.values() for name, _ in found}
        self.classes = sorted(kinds)
        labels = {kind: i for i, kind in enumerate(self.classes)}
        lost = []
        check_names([name for name, _ in records[split]], [self.root / images])
        for name, texts in records[split]:
            stem = name.rsplit(".", 1)[0].strip()
            folder = self.root / images / _FILES[split][1] / _kind(name) / stem
            paths = chosen(folder, frames)
            if not paths:
                lost.append(name)
                if missing == "skip":
                    continue
                paths = [str(folder / "001.jpg")]
            self.entries.append(
                Entry(
                    id=name,
                    path=paths[0],
                    texts=texts,
                    label=labels[_kind(name)],
                    more=tuple(paths[1:]),
                )
            )
        where = str(self.root / images)
        problem = report_missing(lost, len(records[split]), where, missing, what="videos")
        if problem:
            self.problems.append(problem)
        if not self.entries:
            raise self.not_found(f"no frame of split {split!r} is there.")

    def _records(self, file: str) -> list[tuple[str, tuple[str, ...]]]:
        """Videos and captions of a file; none where it is not there."""
        path = self.root / file
        if not path.is_file():
            return []
        content = read_json(path)
        records = content.get("ERA_caption") if isinstance(content, dict) else content
        if not isinstance(records, list) or not records:
            raise UserError(f"{path} holds no list under `ERA_caption`.")
        return [self._record(record, f"{path}: [{i}]") for i, record in enumerate(records)]

    def _record(self, record: Any, who: str) -> tuple[str, tuple[str, ...]]:
        name = record.get("video_id") if isinstance(record, dict) else None
        if not isinstance(name, str) or "_" not in name:
            raise UserError(f"{who} has no video_id such as Flood_001.mp4.")
        note = record.get("annotation")
        texts = note.get("English_caption") if isinstance(note, dict) else None
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{who} ({name}) has no list of texts annotation.English_caption.")
        said = tuple(text.strip() for text in texts if text.strip())
        if not said:
            raise UserError(f"{who} ({name}) has no caption with a word in it: {listed(texts)}.")
        return name, said


def _kind(name: str) -> str:
    """The event: what stands before the number, which is also the folder's name."""
    return name.split("_")[0]
