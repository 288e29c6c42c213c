"""Where a base's records come from: a folder of pictures with a file of records, or RSWK."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_records import KnowledgeRecord, read_records

SOURCES = ("folder", "rswk")


def folder_records(root: Path, records: Path | None) -> tuple[list[KnowledgeRecord], list[str]]:
    """Records of a file, or without one a record for each picture of a folder, which has its name.

    Args:
        root: folder of the pictures.
        records: .jsonl or .json; see `knowledge_records.KnowledgeRecord` for the fields.

    Returns:
        The records, and what is strange.

    Raises:
        UserError: neither records nor pictures, or a picture's name that leaves the folder.
    """
    from rsvlm.data.folders import check_names, is_picture, walk

    if not root.is_dir():
        raise UserError(f"--root {root}: there is no such folder.")
    if records is not None:
        found = list(read_records(records))
        check_names((record.image for record in found if record.image), [root], str(records))
        return found, []
    paths = sorted(Path(at, n) for at, names in walk(root) for n in names if is_picture(n))
    if not paths:
        raise UserError(f"--root {root}: there are no pictures in it, and no --records are given.")
    names = [path.relative_to(root).as_posix() for path in paths]
    return [
        KnowledgeRecord(name, name=Path(name).stem.replace("_", " "), image=name) for name in names
    ], ["no --records: each picture is known by its file's name alone."]


def rswk_records(root: Path, splits: str) -> tuple[list[KnowledgeRecord], list[str]]:
    """Records of RSWK's dialogues: one a landmark, whose name is its picture's.

    The JSON files that the published base is made of are not published
    (`released_knowledge.released_records` reads them where somebody has them). What the dialogues
    say of a landmark is its class, its description, and facts as question and answer.

    Args:
        root: RSWK's folder.
        splits: as the reader takes them; `train` leaves out what test questions are asked about.

    Returns:
        The records, and what the reader found wrong.

    Raises:
        UserError: see `rsvlm.data.datasets.rswk.RSWK`.
    """
    from rsvlm.data.datasets.rswk import RSWK

    found: dict[str, KnowledgeRecord] = {}
    problems: list[str] = []
    for split in splits.split("+"):
        data = RSWK(root, split, missing="skip")
        problems += data.problems
        for i in range(len(data)):
            path = Path(data.entries[i].path)
            if path.stem not in found:
                where = path.relative_to(root) if path.is_relative_to(root) else path.resolve()
                found[path.stem] = KnowledgeRecord(
                    path.stem, name=path.stem, image=str(where), split=split
                )
            _tell(found[path.stem], data.turns(i))
    if not found:
        raise UserError(f"--root {root}: RSWK's {splits} has no landmark whose picture is there.")
    return list(found.values()), list(dict.fromkeys(problems))


def _tell(record: KnowledgeRecord, turns: Any) -> None:
    for asked, said in zip(turns[::2], turns[1::2], strict=False):
        answer = said.text.strip()
        if asked.kind == "classification":
            record.category = record.category or answer
        elif asked.kind == "caption":
            record.description = record.description or answer
        elif (text := f"{asked.text.strip()} {answer}") not in record.texts:
            record.texts.append(text)
