"""ChangeChat-105k: instructions on LEVIR-CC's pairs, of six kinds, in eight files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, ClassVar

from rsvlm.data.datasets.conversations import read_conversation
from rsvlm.data.datasets.dialogues import DialogueDataset
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.sample import Layout, Turn
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError, near

#: Split → the end of its file's name.
FILES = {
    "train": "train",
    "train_loc": "train_loc",
    "test": "test",
    "test_binary": "test_binary",
    "test_count": "test_count",
    "test_loc": "test_loc",
    "test_open": "test_open",
    "test_dialog": "test_dialog",
}
#: The published prompts of the kinds that have a fixed one.
PROMPTS = {
    "caption": "Please briefly describe the changes in these two images.",
    "binary": "Please judge whether these two images have changed. Please answer yes or no.",
    "count": "Please determine how many roads and buildings have changed?",
    "location": (
        "Please indicate the locations where changes have occurred in the buildings and roads, "
        "using a 3x3 grid (namely, 'top', 'center', and 'bottom' vertically and 'left', 'center', "
        "'right' horizontally)."
    ),
}
#: Ours, where it is not known what a region is: on the number and on the places.
REGIONS = {
    "count": "How many regions have changed?",
    "location": "In which cells of a 3x3 grid have regions changed?",
}
_KIND_OF_FILE = {
    "test": "caption",
    "test_binary": "binary",
    "test_count": "count",
    "test_loc": "location",
    "test_open": "open",
    "test_dialog": "dialogue",
}
_BY_PROMPT = {
    text.lower(): kind for prompts in (PROMPTS, REGIONS) for kind, text in prompts.items()
}


class ChangeChat(DialogueDataset):
    """ChangeChat-105k in its published JSON, on LEVIR-CC's images.

    A sample is a pair and one conversation. `Turn.kind` is `caption`, `binary`, `count`,
    `location`, `open` or `dialogue`: that of the file, in the training files that of the prompt.
    The caption test file has another schema, five captions a pair; they are `texts`, and the turns
    are the published prompt and the first of them. `meta["image"]` is the pair's file name,
    `meta["changeflag"]` whether anything changed. A test split alone is named after its file
    (`changechat_binary`), so that each has its own metrics.

    No validation file is published, though the published configuration names one; where there is
    one (`rsvlm curate pipeline=changechat` writes it), it is split `val`. Without one, `holdout` is
    the share of the training pairs that, with all that is said of them, are split `val` and left
    out of `train`.

    Args:
        root: folder of the eight JSON files (or of annotations/ with them) and images/.
        split: `train`, `train_loc` (another view of the same samples), `val`, or `test` (captions),
            `test_binary`, `test_count`, `test_loc`, `test_open`, `test_dialog`; several are joined
            with `+`.
        images: the folder of LEVIR-CC's train/, val/ and test/, relative to `root`.
        holdout: share of the training pairs that become `val`, 0 to less than 1; not used where
            there is a validation file.
        missing: what becomes of pairs whose images are not there (`datasets/missing.py`).
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: an unknown split, missing files, or no sample.
    """

    name = "changechat"
    title: ClassVar[str] = "ChangeChat-105k"
    sample_layout: ClassVar[Layout] = "before_after"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    changechat_105k_train.json  ..._train_loc.json  ..._test.json  ..._test_binary.json\n"
        "    ..._test_count.json  ..._test_loc.json  ..._test_open.json  ..._test_dialog.json\n"
        "    (or in annotations/; or train.json ...)\n"
        "    images/train/A/train_000001.png ...  images/train/B/   LEVIR-CC's images"
    )
    licence = "annotations CC-BY-4.0; LEVIR-CC's images (Google Earth) for academic use only"
    paper = (
        "P. Deng, W. Zhou, H. Wu. DeltaVLM: Interactive remote sensing image change analysis with "
        "instruction-guided difference perception. Remote Sensing 18(4), 541, 2026. "
        "arXiv:2507.22346"
    )
    homepage = "https://huggingface.co/datasets/hlwu/changechat-105k"
    published_counts: ClassVar[dict[str, int]] = {
        "train": 87935,
        "train_loc": 87935,
        "test": 1929,
        "test_binary": 1929,
        "test_count": 1929,
        "test_loc": 1929,
        "test_open": 7527,
        "test_dialog": 1929,
    }

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        images: str = "images",
        holdout: float = 0.0,
        missing: Missing = "error",
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        if not 0 <= holdout < 1:
            raise UserError(f"holdout={holdout} is a share of the training pairs: 0 to below 1.")
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        self.holdout = holdout
        parts = split.split("+")
        if len(parts) == 1 and split.startswith("test"):
            self.name = f"changechat{split.removeprefix('test') or '_caption'}"
        if {"train", "train_loc"} <= set(parts):
            raise UserError("train and train_loc are two views of the same samples; take one.")
        for part in parts:
            self._part(part, prefix=f"{part}/" if len(parts) > 1 else "")
        if "val" in parts and not len(self._rows):
            raise UserError(
                f"holdout={holdout} keeps none of the training pairs apart: there are too few of "
                "them for it. Raise data.dataset.holdout."
            )
        self.close({"": [self.root / images, self.root]}, missing)

    def _part(self, part: str, prefix: str) -> None:
        own = self._files("val")
        if part == "val" and not self.holdout and not own:
            raise UserError(
                "ChangeChat-105k publishes no validation file. data.dataset.holdout=0.05 keeps 5 % "
                "of the training pairs apart as split val; or validate on LEVIR-CC's own val split "
                "(data=levir_cc), which has captions only."
            )
        if part != "val" and part not in FILES:
            known = [*FILES, "val"]
            raise UserError(
                f"{self.title} has no split {part!r}; it has {', '.join(known)}. "
                f"{near(part, known)}"
            )
        if part == "val" and own:
            file = own[0]
        else:
            file = self._file(FILES["train" if part == "val" else part])
        # Of one file, when there is none of the validation split.
        shared = part in ("train", "val") and not own
        for i, record in enumerate(read_records(file)):
            who = f"{file.name}[{i}]"
            if isinstance(record, dict) and "captions" in record:
                self._captions(record, who, prefix)
            else:
                self._conversation(record, who, prefix, part, shared)

    def _files(self, word: str) -> list[Path]:
        names = [f"changechat_105k_{word}.json", f"{word}.json"]
        places = [self.root, self.root / "annotations"]
        return [p / name for p in places for name in names if (p / name).is_file()]

    def _file(self, word: str) -> Path:
        found = self._files(word)
        if not found:
            raise self.not_found(f"there is no changechat_105k_{word}.json.")
        return found[0]

    def _captions(self, record: dict[str, Any], who: str, prefix: str) -> None:
        """A record of the caption test file."""
        images = [record.get("image_A"), record.get("image_B")]
        captions = record["captions"]
        if not all(isinstance(name, str) and name for name in images):
            self.faults.add("record(s) do not name image_A and image_B and were left out", who)
            return
        if not isinstance(captions, list) or not all(isinstance(t, str) for t in captions):
            self.faults.add("record(s) have captions that are no texts and were left out", who)
            return
        texts = [text.strip() for text in captions if text.strip()]
        if not texts:
            self.faults.add("record(s) have no caption and were left out", who)
            return
        turns = [
            Turn("user", PROMPTS["caption"], (0, 1), kind="caption"),
            Turn("assistant", texts[0], kind="caption"),
        ]
        name = Path(str(images[0])).name
        meta = self._meta(record, name, who)
        self.add(prefix + name, [str(image) for image in images], turns, texts=texts, meta=meta)

    def _conversation(self, record: Any, who: str, prefix: str, part: str, shared: bool) -> None:
        """A record of one of the other files."""
        parsed = read_conversation(record, who, self.faults)
        if parsed is None:
            return
        images, turns = parsed
        if len(images) != 2:
            self.faults.add("conversation(s) are not about two images and were left out", who)
            return
        name = Path(images[0]).name
        if shared and self._held(name) != (part == "val"):
            return
        kind = _KIND_OF_FILE.get(part) or _kind(turns)
        for turn in turns:
            turn.kind = kind
        id = str(record["id"]) if record.get("id") is not None else who
        self.add(prefix + id, images, turns, meta=self._meta(record, name, who))

    def _held(self, name: str) -> bool:
        """Whether a training pair is kept apart; a function of its name alone."""
        return zlib.crc32(name.encode()) < self.holdout * 2**32

    def _meta(self, record: dict[str, Any], name: str, who: str) -> dict[str, Any]:
        flag = record.get("changeflag")
        if flag in (0, 1):
            return {"image": name, "changeflag": int(flag)}
        self.faults.add("record(s) have no changeflag of 0 or 1", who)
        return {"image": name}


def _kind(turns: list[Turn]) -> str:
    """The kind of a training conversation."""
    if len(turns) > 2:
        return "dialogue"
    return _BY_PROMPT.get(" ".join(turns[0].text.lower().split()), "open")
