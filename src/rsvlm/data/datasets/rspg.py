"""RSPG: captions of aerial pictures whose phrases have boxes, the grounding part of SkyEye-968k."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from rsvlm.data.datasets.conversations import Conversations, Identifiers, check_identifiers
from rsvlm.data.datasets.dialogues import DialogueDataset
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.geometry import identity
from rsvlm.data.images import BrokenImage
from rsvlm.data.sample import Instance, Sample
from rsvlm.data.text.box_codecs import Found, codec
from rsvlm.data.transforms import sides


class RSPG(Conversations):
    """RSPG's phrase grounding; a sample is a picture with a question and an answer with boxes.

    The answer is `<p>a phrase</p> {<x0><y0><x1><y1>}<delim>{...}`, whole numbers from 0 to 100. It
    stays as it is in the turn, whose `instance_ids` name the objects that are made of it: the
    phrase is their category, and their `phrase` too where it has one box only. The names of the
    JSON's keys are written nowhere; `conversations`, or `text` and `ground_truth`, are read.

    Args:
        root: the folder that SkyEye-968k's archive unpacks to, or of diorpg_train.json alone.
        split: `train`, the only one.
        images: folder or folders of DIOR's pictures, relative to `root`.
        identifiers: `keep` or `strip` (see `Conversations`).
        missing: what becomes of pictures that are not there (`datasets/missing.py`).
        convert: turn pictures that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: see `Conversations`.
    """

    name = "rspg"
    title: ClassVar[str] = "RSPG"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    phrasegrounding/diorpg_train.json   or diorpg_train.json\n"
        "    images/DIOR/                        or images/, JPEGImages/"
    )
    licence = "CC BY 4.0 (annotations); images under the terms of DIOR"
    paper = (
        "Y. Zhan, Z. Xiong, Y. Yuan. SkyEyeGPT: Unifying remote sensing vision-language tasks via "
        "instruction tuning with large language model. ISPRS JPRS 221, 2025. arXiv:2401.09712"
    )
    homepage = "https://huggingface.co/datasets/ZhanYang-nwpu/SkyEye-968k"
    image_folders: ClassVar[tuple[str, ...]] = ("images/DIOR", "images", "JPEGImages")

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str | Sequence[str] | None = None,
        identifiers: Identifiers = "keep",
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        DialogueDataset.__init__(self, root, split, convert=convert)
        check_missing(missing)
        check_identifiers(identifiers)
        self.identifiers = identifiers
        if split != "train":
            raise self.not_found(f"it has no split {split!r}, but train.")
        places = [self.root / "phrasegrounding", self.root]
        files = [place / "diorpg_train.json" for place in places]
        file = next((path for path in files if path.is_file()), None)
        if file is None:
            raise self.not_found("there is no diorpg_train.json.")
        self.add_file(file, kind="grounding")
        folders = [images] if isinstance(images, str) else list(images or self.image_folders)
        self.close({"": [self.root / folder for folder in folders]}, missing)
        self._check()

    def _check(self) -> None:
        """Tells of answers without a box, and of what only looks like one."""
        for index, entry in enumerate(self.entries):
            for turn in self.turns(index):
                if turn.role != "assistant":
                    continue
                found = codec("mini0_100").parse(turn.text, identity(100, 100))
                if found.unparsable:
                    self.faults.add("answer(s) hold a box that cannot be read", entry.id)
                if found.clipped:
                    self.faults.add("answer(s) hold a box beyond its picture, cut there", entry.id)
                if not found.boxes and not found.unparsable:
                    self.faults.add("answer(s) hold no box", entry.id)
        self.problems += self.faults.sentences()

    def annotate(self, sample: Sample, index: int) -> None:
        """Adds the dialogue, and the objects of its answers."""
        super().annotate(sample, index)
        try:
            frame = identity(*sides(sample.images[0]))
        except BrokenImage:
            return  # without its picture, a box has no pixels; the dialogue stands
        for turn in sample.turns:
            if turn.role != "assistant":
                continue
            found = codec("mini0_100").parse(turn.text, frame).boxes
            first = len(sample.instances)
            sample.instances += [_instance(first + k, box, found) for k, box in enumerate(found)]
            turn.instance_ids = tuple(range(first, first + len(found)))


def _instance(id: int, found: Found, every: list[Found]) -> Instance:
    phrase = found.phrase
    alone = phrase is not None and sum(other.phrase == phrase for other in every) == 1
    return Instance(id, phrase or "object", phrase=phrase if alone else None, box=found.box)
