r"""Conversations as LLaVA trains from them: a JSON list of records, each an image and its turns.

`[{"id", "image", "conversations": [{"from": "human", "value": "<image>\n..."}, {"from": "gpt",
"value": "..."}]}]`
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from rsvlm.data.datasets.dialogues import DialogueDataset, Faults
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.sample import Role, Turn
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError, near

#: `keep` leaves task identifiers in the text, as published; `strip` takes them out, for prompts
#: that write them from `Turn.kind`.
Identifiers = Literal["keep", "strip"]

_ROLES: dict[str, Role] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "assistant": "assistant",
    "system": "system",
}
# LLaVA's marker, and that of MiniGPT-v2's prompts.
_MARKER = re.compile(r"\s*(?:<Img>\s*<ImageHere>\s*</Img>|<image>)\s*")
_IDENTIFIER = re.compile(r"^\s*\[(\w+)\]\s*")


class Conversations(DialogueDataset):
    """A data set in LLaVA's format. Subclasses name it, or give `root` and `annotations`.

    `<image>` markers become `Turn.image_ids`; task identifiers as `[refer]` become `Turn.kind` of
    the question and its answer; boxes in the text stay text. As LLaVA does, an answer before the
    first question is left out, and an image without a marker is shown by the first question. What
    is malformed (roles that do not alternate, more markers than images, no image at all) is left
    out; every kind of fault is counted in `problems`.

    Args:
        root: the folder of the JSON and the images.
        split: a word in the JSON's name, or `all`.
        annotations: the JSON or JSON lines, relative to `root`; by default those whose name
            holds the split's word, else the only one.
        images: folder or folders of the images, relative to `root`.
        identifiers: what becomes of task identifiers in the text, `keep` or `strip`.
        missing: what becomes of images that are not there (`datasets/missing.py`).
        name: word for metric names.
        convert: turn images that are not 8-bit RGB into it, instead of refusing them.

    Raises:
        UserError: no JSON, malformed JSON, an unknown option, missing images, or no conversation.
    """

    title: ClassVar[str] = "A data set of conversations"
    layout: ClassVar[str] = (
        "  {root}/\n"
        "    <split>.json   or .jsonl: records of image and conversations (from, value)\n"
        "    images/        others with images="
    )
    image_folders: ClassVar[tuple[str, ...]] = ("images", ".")
    #: The JSON of a data set that has no other, and that is all for training.
    required_file: ClassVar[str | None] = None

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        annotations: str | Sequence[str] | None = None,
        images: str | Sequence[str] | None = None,
        identifiers: Identifiers = "keep",
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        check_identifiers(identifiers)
        self.name: str = name or self.name or "conversations"
        self.identifiers = identifiers
        if self.required_file and split not in ("train", "all"):
            raise UserError(f"{self.title} has no split {split!r}; it has train.")
        files = self._files(annotations or self.required_file)
        for file in files:
            self.add_file(file, prefix=f"{file.stem}/" if len(files) > 1 else "")
        folders = [images] if isinstance(images, str) else list(images or self.image_folders)
        self.close({"": [self.root / folder for folder in folders]}, missing)

    def _files(self, given: str | Sequence[str] | None) -> list[Path]:
        if not self.root.is_dir():
            raise self.not_found("there is no such folder.")
        if given is not None:
            files = [self.root / word for word in ([given] if isinstance(given, str) else given)]
            lacking = [file for file in files if not file.is_file()]
            if lacking:
                raise self.not_found(f"there is no {lacking[0].relative_to(self.root)}.")
            return files
        held = sorted(p for p in self.root.iterdir() if p.suffix.lower() in (".json", ".jsonl"))
        if self.split == "all":
            found = held
        else:
            word = re.compile(rf"(?<![a-z]){re.escape(self.split.lower())}(?![a-z])")
            found = [file for file in held if word.search(file.stem.lower())]
            if not found and len(held) == 1 and self.split == "train":
                found = held
        if not found:
            there = f" There is {', '.join(p.name for p in held)}; choose with annotations=."
            raise self.not_found(
                f"no .json or .jsonl has {self.split!r} in its name.{there if held else ''}"
            )
        return found

    def add_file(
        self, file: Path, *, prefix: str = "", place: str = "", kind: str | None = None
    ) -> None:
        """Adds the records of a file.

        Args:
            file: JSON or JSON lines.
            prefix: goes before the ids.
            place: the word of the folders with its images.
            kind: the task, where a record does not say.

        Raises:
            UserError: it is not JSON, or holds no list.
        """
        for i, record in enumerate(read_records(file)):
            who = f"{file.name}[{i}]"
            parsed = read_conversation(record, who, self.faults, identifiers=self.identifiers)
            if parsed is None:
                continue
            images, turns = parsed
            if kind is not None:
                for turn in turns:
                    turn.kind = turn.kind or kind
            id = next((record[k] for k in ("id", "question_id") if record.get(k) is not None), None)
            rest = {k: v for k, v in record.items() if k not in _TAKEN}
            name = f"{file.stem}_{i}" if id is None else str(id)
            self.add(prefix + name, images, turns, place=place, meta=rest)


_TAKEN = frozenset(
    {"id", "question_id", "image", "images", "conversations", "text", "ground_truth"}
)


def check_identifiers(word: str) -> None:
    """Holds `identifiers` against the known words.

    Raises:
        UserError: it is none of them.
    """
    if word not in get_args(Identifiers):
        raise UserError(f"identifiers={word!r} is not known. {near(word, get_args(Identifiers))}")


def read_conversation(
    record: Any, who: str, faults: Faults, *, identifiers: Identifiers = "keep"
) -> tuple[list[str], list[Turn]] | None:
    """Images and turns of a record.

    Args:
        record: `image` (or `images`), and `conversations` or `text` with `ground_truth`.
        who: what `faults` call it.
        faults: takes what is wrong.
        identifiers: see `Identifiers`.

    Returns:
        None where the record cannot be used.
    """
    if not isinstance(record, Mapping):
        faults.add("record(s) are no object and were left out", who)
        return None
    images = record.get("image", record.get("images"))
    images = [images] if isinstance(images, str) else images
    if not isinstance(images, list) or not images or not all(_worded(name) for name in images):
        faults.add("conversation(s) have no image and were left out", who)
        return None
    said = _said(record)
    if said is None:
        faults.add("conversation(s) hold something else than from and value and were left out", who)
        return None
    turns = to_turns(said, len(images), who, faults, identifiers=identifiers)
    return None if turns is None else (images, turns)


def _said(record: Mapping[str, Any]) -> list[tuple[Role, str]] | None:
    """Roles and texts as the record has them, None where they are malformed."""
    conversations = record.get("conversations")
    if conversations is None and isinstance(record.get("ground_truth"), str):
        question = record.get("text", record.get("question"))
        if not isinstance(question, str) or not question:
            return None
        return [("user", question), ("assistant", record["ground_truth"])]
    if not isinstance(conversations, list) or not conversations:
        return None
    said = []
    for turn in conversations:
        role = _ROLES.get(str(turn.get("from", "")).lower()) if isinstance(turn, Mapping) else None
        if role is None or not isinstance(turn.get("value"), str):
            return None
        said.append((role, turn["value"]))
    return said


def to_turns(
    said: Iterable[tuple[Role, str]],
    images: int,
    who: str,
    faults: Faults,
    *,
    identifiers: Identifiers = "keep",
) -> list[Turn] | None:
    """Roles and texts with image markers as turns; see `Conversations`.

    Args:
        said: roles and texts.
        images: how many images the dialogue has.
        who: what `faults` call it.
        faults: takes what is wrong.
        identifiers: see `Identifiers`.

    Returns:
        None where the dialogue cannot be used.
    """
    turns: list[Turn] = []
    shown = 0
    kind: str | None = None
    speaker: Role = "assistant"
    for role, text in said:
        markers = len(_MARKER.findall(text))
        ids = tuple(range(shown, shown + markers))
        shown += markers
        text = _MARKER.sub(" ", text).strip() if markers else text.strip()
        if role != "system":
            if role == speaker:
                if not any(turn.role != "system" for turn in turns):
                    faults.add("answer(s) before the first question were left out", who)
                    shown -= markers
                    continue
                faults.add("conversation(s) whose roles do not alternate were left out", who)
                return None
            speaker = role
        if role == "user":
            found = _IDENTIFIER.match(text)
            kind = found.group(1) if found else None
            if found and identifiers == "strip":
                text = text[found.end() :].strip()
        if role == "assistant" and not text:
            faults.add("conversation(s) have an empty answer and were left out", who)
            return None
        turns.append(Turn(role, text, ids, kind=kind if role != "system" else None))
    first = next((turn for turn in turns if turn.role == "user"), None)
    if first is None or not any(turn.role == "assistant" for turn in turns):
        faults.add("conversation(s) without question and answer were left out", who)
        return None
    if shown > images:
        faults.add("conversation(s) speak of more images than they have and were left out", who)
        return None
    if shown < images:
        if shown:
            faults.add("conversation(s) do not say where each of their images stands", who)
        first.image_ids = (*range(shown, images), *first.image_ids)
    if speaker == "user":
        faults.add("conversation(s) end with a question; it was kept", who)
    return turns


def _worded(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip())
