"""One question about many pictures (a folder, a pattern, a list), in batches, to a file."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from rsvlm.data.folders import is_picture, walk
from rsvlm.data.sample import Answer, SampleError
from rsvlm.errors import UserError
from rsvlm.files import WriteError, trouble
from rsvlm.inference.mask_files import coco_rows, write_masks

#: Endings of a file of answers.
TABLES = (".jsonl", ".csv")
COLUMNS = ("path", "answer", "score", "boxes", "masks", "error")
#: The file of answers in a folder of them.
ANSWERS = "answers.jsonl"


def listed(given: str) -> list[str] | None:
    """The pictures that a folder, a pattern or a list names; None for one picture.

    Args:
        given: as typed.

    Raises:
        UserError: there is no picture in it.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        found = [str(Path(at) / name) for at, names in walk(path) for name in names]
        found = [name for name in found if is_picture(name)]
    elif path.suffix.lower() in (".txt", ".lst") and path.is_file():
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        found = [_beside(line.strip(), path) for line in lines if line.strip()]
    elif not path.exists() and glob.has_magic(given):
        found = [n for n in sorted(glob.glob(str(path), recursive=True)) if is_picture(n)]
    else:
        return None
    if not found:
        raise UserError(f"{given} holds no picture (looked from {Path.cwd()}).")
    return found


def _beside(line: str, file: Path) -> str:
    """A path of a list: from here, or from where the list lies."""
    path = Path(line).expanduser()
    return str(path if path.is_absolute() or path.exists() else file.parent / path)


def pairs(before: str, after: str) -> list[tuple[str, str]] | None:
    """The pairs of two folders, by the names that both have; None for two pictures.

    Raises:
        UserError: one of them is no folder, or a picture of one is not in the other.
    """
    first, second = Path(before).expanduser(), Path(after).expanduser()
    if not first.is_dir() and not second.is_dir():
        return None
    for name, folder in (("before", first), ("after", second)):
        if not folder.is_dir():
            raise UserError(f"{name}={folder} is no folder, and the other date is: give two.")
    names = [{str(Path(n).relative_to(f)) for n in listed(str(f)) or ()} for f in (first, second)]
    alone = sorted(names[0] ^ names[1])
    if alone:
        raise UserError(
            f"{len(alone)} pictures are in one of before={first} and after={second} only, such as "
            f"{alone[0]}: each pair has one name in both."
        )
    return [(str(first / name), str(second / name)) for name in sorted(names[0])]


def ask_all(
    model: Any,
    shown: Sequence[Sequence[str]],
    prompt: str,
    *,
    out: Path | None = None,
    batch_size: int = 8,
) -> list[tuple[str, Answer | str]]:
    """Asks about each picture, or pair, and writes each answer as soon as it is there.

    A picture that cannot be read is told, and the others go on. Masks are in a .jsonl as COCO's
    annotations, in a .csv by their number; a folder has the files of `write_masks` too.

    Args:
        model: ready to be asked.
        shown: for each question the files that it shows.
        prompt: the question, or candidate texts.
        out: a .jsonl or .csv file, or a folder for `ANSWERS` and masks; None prints.
        batch_size: questions at a time.

    Returns:
        (path, answer or what was wrong) of each; without masks where these were written.

    Raises:
        UserError: a question that the model does not take, or a file that cannot be written.
    """
    if batch_size < 1:
        raise UserError(f"batch_size={batch_size}: give 1 or more.")
    found: list[tuple[str, Answer | str]] = []
    wrong = 0
    pictures = out if out is not None and out.suffix.lower() not in TABLES else None
    table = out if pictures is None else pictures / ANSWERS
    with _written(table) if table is not None else nullcontext() as write:
        for start in range(0, len(shown), batch_size):
            part = shown[start : start + batch_size]
            for paths, answer in zip(part, _batch(model, part, prompt), strict=True):
                path = paths[0]
                wrong += isinstance(answer, str)
                found.append((path, answer))
                if write is None:
                    print(f"{path}\t{_line(answer)}")
                    continue
                write(path, answer)
                if isinstance(answer, Answer):
                    if pictures is not None:
                        write_masks(answer, path, pictures / _name(path, shown), quiet=True)
                    answer.masks = []  # of many large pictures they would fill the memory
    print(
        f"{len(found) - wrong} of {len(found)} asked"
        + (f", {wrong} could not be (see error)" if wrong else "")
        + (f": {out}" if out is not None else "")
    )
    return found


def _line(answer: Answer | str) -> str:
    """An answer in a line of the terminal."""
    if isinstance(answer, str):
        return answer
    count = len(answer.masks)
    said = [f"{count} mask{'s' if count > 1 else ''}"] if count else []
    return "  ".join([answer.text, *(f"({text})" for text in [*said, *answer.notes])])


def _name(path: str, shown: Sequence[Sequence[str]]) -> Path:
    """Where in a folder the files of a picture go: as it lies below all of them."""
    folders = [os.path.dirname(os.path.abspath(paths[0])) for paths in shown]
    return Path(os.path.relpath(os.path.abspath(path), os.path.commonpath(folders))).with_suffix(
        ".png"
    )


def _batch(model: Any, part: Sequence[Sequence[str]], prompt: str) -> list[Answer | str]:
    from rsvlm.data.images import read_any
    from rsvlm.inference import api, ask
    from rsvlm.models.protocols import is_generator

    read: dict[str, list[Any]] = {}
    said: dict[str, Answer | str] = {}
    for number, paths in enumerate(part):
        try:
            read[str(number)] = [read_any(path)[0] for path in paths]
        except SampleError as error:
            said[str(number)] = str(error)
    if read and not is_generator(model):
        said |= api.predict_many(model, read, prompt)
    elif read:
        try:
            said |= ask.ask_many(model, read, prompt)
        except SampleError:  # pictures that do not go into one batch
            for id, pictures in read.items():
                try:
                    said |= ask.ask_many(model, {id: pictures}, prompt)
                except SampleError as error:
                    said[id] = str(error)
    return [said[str(number)] for number in range(len(part))]


@contextmanager
def _written(out: Path) -> Iterator[Any]:
    """A function that writes an answer's line at once, so that a long job's are not lost."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8", newline="") as file:
            yield _table(file) if out.suffix == ".csv" else _lines(file)
    except OSError as error:
        why = trouble(error) or error.strerror or str(error)
        raise WriteError(f"out={out} cannot be written: {why}.") from error


def _row(path: str, answer: Answer | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"path": path, "error": answer}
    row: dict[str, Any] = {"path": path, "answer": answer.text, "score": answer.score}
    if answer.boxes:
        row["boxes"] = [[round(v, 2) for v in box] for box in answer.boxes]
    if any(angle is not None for angle in answer.angles):
        row["angles"] = answer.angles
    if answer.sources:
        row["sources"] = answer.sources
    if answer.candidates:
        row["candidates"] = [[text, score] for text, score in answer.candidates]
    if answer.masks:
        row["masks"] = coco_rows(answer)
    if answer.parts:
        row["parts"] = [asdict(part) for part in answer.parts]
    if answer.notes:
        row["notes"] = answer.notes
    return row


def _lines(file: TextIO) -> Any:
    def write(path: str, answer: Answer | str) -> None:
        file.write(json.dumps(_row(path, answer), ensure_ascii=False) + "\n")
        file.flush()

    return write


def _table(file: TextIO) -> Any:
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
    writer.writeheader()

    def write(path: str, answer: Answer | str) -> None:
        row = _row(path, answer)
        boxes = json.dumps(row["boxes"]) if "boxes" in row else ""
        writer.writerow(row | {"boxes": boxes, "masks": len(row.get("masks", ())) or ""})
        file.flush()

    return write
