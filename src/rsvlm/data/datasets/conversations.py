r"""Conversations about images, in the formats of `conversation_formats`: a list of records.

LLaVA's, which is the commonest:
`[{"id", "image", "conversations": [{"from": "human", "value": "<image>\n..."}, {"from": "gpt",
"value": "..."}]}]`
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from rsvlm.data import columnar
from rsvlm.data.datasets import conversation_formats, sources
from rsvlm.data.datasets.base import file_and_folder
from rsvlm.data.datasets.dialogues import DialogueDataset, Faults
from rsvlm.data.datasets.divisions import dividing
from rsvlm.data.datasets.file_names import FileNames
from rsvlm.data.datasets.missing import Missing, check_missing
from rsvlm.data.datasets.splitting import SplitRule
from rsvlm.data.sample import Role, Turn
from rsvlm.data.text_files import read_records
from rsvlm.errors import UserError, near

#: `keep` leaves task identifiers in the text, as published; `strip` takes them out, for prompts
#: that write them from `Turn.kind`.
Identifiers = Literal["keep", "strip"]

# LLaVA's marker, and that of MiniGPT-v2's prompts.
_MARKER = re.compile(r"\s*(?:<Img>\s*<ImageHere>\s*</Img>|<image>)\s*")
_IDENTIFIER = re.compile(r"^\s*\[(\w+)\]\s*")


class Conversations(DialogueDataset):
    """Conversations in LLaVA's format or another of `conversation_formats`, found from the keys.

    Subclasses name a data set, or give `root` and `annotations`.

    `<image>` markers become `Turn.image_ids`; task identifiers as `[refer]` become `Turn.kind` of
    the question and its answer; boxes in the text stay text. As LLaVA does, an answer before the
    first question is left out, and an image without a marker is shown by the first question. What
    is malformed (roles that do not alternate, more markers than images, no image at all) is left
    out; every kind of fault is counted in `problems`.

    Args:
        root: the folder of the JSON and the images, or the JSON in it.
        split: a word in the JSON's name, or `all`.
        annotations: the JSON, JSON lines or Parquet, relative to `root`; by default those whose
            name holds the split's word, else the only one; or what `save_to_disk` wrote.
        images: folder or folders of the images, relative to `root`.
        shares: split → share of a file for all splits, divided by image; None divides nothing.
        split_seed, split_by, cell, margin, split_file: see `splitting.SplitRule`; columns are keys
            of a record.
        strip: what names of images have in front that is no part of `root`.
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
    #: Of files of one's own; published sets that are made of several files have none.
    rule: SplitRule = SplitRule()
    names_of: FileNames | None = None

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        annotations: str | Sequence[str] | None = None,
        images: str | Sequence[str] | None = None,
        identifiers: Identifiers = "keep",
        shares: Mapping[str, float] | None = None,
        split_seed: int = 0,
        split_by: str | None = None,
        cell: float | None = None,
        margin: float = 0.0,
        split_file: str | None = None,
        strip: str | None = None,
        missing: Missing = "error",
        name: str | None = None,
        convert: bool = False,
    ) -> None:
        root, annotations = file_and_folder(root, annotations, _ENDINGS)
        super().__init__(root, split, convert=convert)
        check_missing(missing)
        check_identifiers(identifiers)
        self.name: str = name or self.name or "conversations"
        self.identifiers = identifiers
        self.notes: list[str] = []
        if self.required_file and split not in ("train", "all"):
            raise UserError(f"{self.title} has no split {split!r}; it has train.")
        self.rule = SplitRule(shares, split_seed, split_by, cell, margin, split_file)
        self.names_of = names_of = FileNames(self.root, strip)
        files = self._files(annotations or self.required_file)
        for file in files:
            self.add_file(file, prefix=f"{file.stem}/" if len(files) > 1 else "")
        self.problems += names_of.told()
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
        disk = sources.saved(self.root / self.split) or sources.saved(self.root)
        if disk:
            return list(disk)
        held = sorted(p for p in self.root.iterdir() if p.suffix.lower() in _ENDINGS)
        if self.split == "all":
            found = held
        else:
            word = re.compile(rf"(?<![a-z]){re.escape(self.split.lower())}(?![a-z])")
            found = [file for file in held if word.search(file.stem.lower())]
            if not found and len(held) == 1 and (self.split == "train" or self.rule.shares):
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
        records = _records(file)
        if self.names_of is not None:
            forms = Counter(conversation_formats.form(record) for record in records)
            counted = ", ".join(f"{form} ({n})" for form, n in forms.most_common())
            self.notes.append(f"{file.name}: records in the format {counted}.")
        kept = self._of_split(records, file) if self.rule.shares else None
        for i, record in enumerate(records):
            who = f"{file.name}[{i}]"
            if kept is not None and i not in kept:
                continue
            parsed = read_conversation(record, who, self.faults, identifiers=self.identifiers)
            if parsed is None:
                continue
            images, turns = parsed
            if self.names_of is not None:
                images = [self._named(name, who) for name in images]
            if kind is not None:
                for turn in turns:
                    turn.kind = turn.kind or kind
            id = next((record[k] for k in ("id", "question_id") if record.get(k) is not None), None)
            rest = {k: v for k, v in record.items() if k not in _TAKEN}
            name = f"{file.stem}_{i}" if id is None else str(id)
            self.add(prefix + name, images, turns, place=place, meta=rest)

    def _named(self, name: str, who: str) -> str:
        """The name of an image below the folder."""
        if columnar.is_reference(name) or self.names_of is None:
            return name
        return self.names_of(name, who)

    def _of_split(self, records: list[Any], file: Path) -> set[int]:
        """Positions of the records of the split, in a file for all splits; an image stays whole."""
        places, firsts = [], []
        for i, record in enumerate(records):
            images = conversation_formats.read(record).images if isinstance(record, dict) else None
            if images and _worded(images[0]):
                places.append(i)
                firsts.append(images[0])
        words = (*self.rule.columns, "split")
        columns = {
            word: [records[i].get(word) for i in places]
            for word in words
            if any(word in records[i] for i in places)
        }
        lacking = [word for word in self.rule.columns if word not in columns]
        if lacking:
            known = {key for i in places for key in records[i]}
            raise UserError(
                f"{file}: no record has the key {lacking[0]!r}, by which they are to be divided "
                f"(data.dataset.split_by=). {near(lacking[0], known)}"
            )
        kept = dividing(self, firsts, columns, self.rule, file.name)
        return {places[i] for i in kept}


def _records(file: Path) -> list[Any]:
    if file.suffix.lower() in columnar.ENDINGS:
        return list(columnar.read_rows(file)[1])
    return read_records(file)


_ENDINGS = (".json", ".jsonl", ".parquet")
_TAKEN = frozenset(
    {"id", "question_id", "image", "images", "conversations", "text", "ground_truth", "messages"}
    | {"question", "answer"}
    | {"query", "response", "history", "system"}
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
        record: in a format of `conversation_formats`, or `text` with `ground_truth`.
        who: what `faults` call it.
        faults: takes what is wrong.
        identifiers: see `Identifiers`.

    Returns:
        None where the record cannot be used.

    Raises:
        UserError: an image that is no file.
    """
    if not isinstance(record, Mapping):
        faults.add("record(s) are no object and were left out", who)
        return None
    try:
        found = conversation_formats.read(record)
    except UserError as error:
        raise UserError(f"{who}: {error}") from error
    images = found.images
    if not images or not all(_worded(name) for name in images):
        faults.add("conversation(s) have no image and were left out", who)
        return None
    if found.turns is None:
        faults.add("conversation(s) hold something else than from and value and were left out", who)
        return None
    turns = to_turns(found.turns, len(images), who, faults, identifiers=identifiers)
    return None if turns is None else (images, turns)


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
