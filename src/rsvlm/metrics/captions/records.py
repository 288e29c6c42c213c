"""Predictions and references: what a caption metric is given, checked at the edge."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rsvlm.data.prediction_records import is_note
from rsvlm.data.text_files import parse_json, read_text
from rsvlm.errors import UserError
from rsvlm.metrics.gather import Id, digest

Missing = Literal["error", "empty"]


@dataclass(frozen=True)
class Record:
    """One image.

    Attributes:
        id: position in the data set, or a name.
        prediction: the answer; empty where the model said nothing, which counts as said nothing.
        references: at least one.
        flag: whether the pair has changed, where that is known (change captions).
    """

    id: Id
    prediction: str
    references: tuple[str, ...]
    flag: bool | None = None

    def line(self) -> str:
        """JSON, to travel between processes and files."""
        return json.dumps([self.id, self.prediction, self.references, self.flag])


def record(
    id: Id,
    prediction: Any,
    references: Any,
    *,
    token_ids: bool = False,
    flag: bool | None = None,
) -> Record:
    """Checks one image's prediction and references.

    Args:
        id: position or name.
        prediction: a string.
        references: a list of strings.
        token_ids: also takes lists of integers, which become `"12 7 5"`.
        flag: whether the pair has changed.

    Raises:
        UserError: anything else, or no references.
    """
    if isinstance(id, bool) or not isinstance(id, int | str):
        raise UserError(f"image id {id!r} must be a string or an integer.")
    if isinstance(references, str):
        raise UserError(
            f"image {id!r}: references must be a list of strings, not one string; put it in a list."
        )
    if not isinstance(references, Sequence) or not references:
        raise UserError(
            f"image {id!r} has no references; a caption metric needs at least one per image."
        )
    return Record(
        id,
        _text(prediction, f"image {id!r}: the prediction", token_ids),
        tuple(
            _text(ref, f"image {id!r}: reference {n}", token_ids)
            for n, ref in enumerate(references)
        ),
        flag,
    )


def _text(value: Any, what: str, token_ids: bool) -> str:
    if isinstance(value, str):
        return value
    if token_ids and isinstance(value, Sequence) and all(type(part) is int for part in value):
        return " ".join(map(str, value))
    absent = value is None or (isinstance(value, float) and math.isnan(value))
    hint = ' Write "" where the model gave no answer.' if absent else ""
    raise UserError(f"{what} is {value!r} ({type(value).__name__}), not a string.{hint}")


def distinct(records: Iterable[Record]) -> list[Record]:
    """Each image once, integers first, then names, in ascending order.

    Samplers pad the last batch with copies; the same image with another prediction is an error.

    Raises:
        UserError: two predictions or lists of references for one image.
    """
    kept: dict[Id, Record] = {}
    for one in records:
        known = kept.setdefault(one.id, one)
        if known != one:
            raise UserError(
                f"image {one.id!r} was given twice, with {known.prediction!r} and "
                f"{one.prediction!r} or with other references: give each image once."
            )
    return sorted(kept.values(), key=lambda r: (isinstance(r.id, str), r.id))


def fingerprint(records: Iterable[Record]) -> str:
    """Tells whether two scores rest on the same references, whatever the ids and the order."""
    return digest(one.references for one in records)


# Files ---------------------------------------------------------------------------------------


def read_records(
    predictions: Path,
    references: Path | None = None,
    *,
    split: str = "test",
    missing: Missing = "error",
    token_ids: bool = False,
) -> list[Record]:
    """Reads predictions, and references from the same file or from another one.

    Args:
        predictions: JSON Lines or a JSON list of `{"prediction": ..., "references": [...], "id":
            ...}`; also COCO's `{"image_id": ..., "caption": ...}`. Without ids the line counts.
        references: None where the predictions bring them; else JSON Lines of `{"id": ...,
            "references": [...]}`, COCO's annotations, or a data set in Karpathy's format.
        split: the part to take of a file in Karpathy's format.
        missing: `empty` counts an image without a prediction as an empty one.
        token_ids: also takes lists of integers.

    Raises:
        UserError: files that cannot be read, or ids that do not fit together.
    """
    rows = read_rows(predictions)
    if not rows:
        raise UserError(f"{predictions} holds no predictions.")
    guesses: dict[Id, Any] = {}
    own: dict[Id, Any] = {}
    for number, row in enumerate(rows):
        where = f"{predictions}, entry {number + 1}"
        if not isinstance(row, Mapping):
            raise UserError(f"{where}: {str(row)[:60]!r} is not an object with a prediction.")
        id = row.get("id", row.get("image_id", number))
        key = next((k for k in ("prediction", "caption") if k in row), None)
        if key is None:
            raise UserError(f"{where} has no 'prediction'; it has {', '.join(map(repr, row))}.")
        if id in guesses:
            raise UserError(f"{where}: image {id!r} has a prediction already.")
        guesses[id] = row[key]
        if "references" in row:
            own[id] = row["references"]
    if references is None:
        absent = [id for id in guesses if id not in own]
        if absent:
            raise UserError(
                f"{predictions}: {len(absent)} of {len(guesses)} images have no 'references' "
                f"(first: {absent[:3]}); add them, or give --references <file>."
            )
        return [record(id, guess, own[id], token_ids=token_ids) for id, guess in guesses.items()]
    found = _read_references(references, split)
    return join(guesses, found, missing=missing, token_ids=token_ids)


def join(
    predictions: Mapping[Id, Any],
    references: Mapping[Id, Sequence[str]],
    *,
    missing: Missing = "error",
    token_ids: bool = False,
) -> list[Record]:
    """Puts predictions and references together by id, in the order of the references.

    Args:
        predictions: id -> answer.
        references: id -> references.
        missing: `empty` counts an image without a prediction as an empty one.
        token_ids: also takes lists of integers.

    Raises:
        UserError: ids on one side only.
    """
    extra = [id for id in predictions if id not in references]
    if extra:
        raise UserError(
            f"{len(extra)} of {len(predictions)} predictions are of images without references "
            f"(first: {extra[:3]}; references have ids like {list(references)[:3]}): take them "
            "out, or give the references they belong to."
        )
    absent = [id for id in references if id not in predictions]
    if absent and missing != "empty":
        raise UserError(
            f"{len(absent)} of {len(references)} images have no prediction (first: {absent[:3]}): "
            "add them, or count them as empty answers with missing='empty' (--missing empty)."
        )
    return [
        record(id, predictions.get(id, ""), refs, token_ids=token_ids)
        for id, refs in references.items()
    ]


def _read_references(path: Path, split: str) -> dict[Id, Any]:
    rows = read_rows(path)
    found: dict[Id, Any] = {}
    if isinstance(rows, Mapping) and "annotations" in rows:
        for row in rows["annotations"]:
            found.setdefault(row["image_id"], []).append(row["caption"])
    elif isinstance(rows, Mapping) and "images" in rows:
        for row in rows["images"]:
            if row.get("split") == split:
                raw = [s["raw"] for s in row["sentences"]]
                found.setdefault(row["filename"], []).extend(raw)
    elif isinstance(rows, list):
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping) or "references" not in row:
                raise UserError(f"{path}, entry {number + 1} has no 'references'.")
            id, references = row.get("id", row.get("image_id", number)), row["references"]
            known = found.setdefault(id, [])
            if known and not (isinstance(known, list) and isinstance(references, list)):
                raise UserError(
                    f"{path}, entry {number + 1}: id {id!r} was there already, and its references "
                    "are not a list that could be joined to the former ones."
                )
            # A line a reference is a common form: those of one image belong together.
            found[id] = [*known, *references] if known else references
    if not found:
        raise UserError(
            f"{path} holds no references (split {split!r}): expected JSON Lines with 'id' and "
            "'references', COCO's 'annotations', or Karpathy's 'images'."
        )
    return found


def read_rows(path: Path) -> Any:
    """What a file of JSON or JSON Lines holds.

    Raises:
        UserError: it cannot be read, or is neither.
    """
    text = read_text(path)
    if path.suffix != ".jsonl":
        with suppress(ValueError):  # JSON Lines under another name
            found = parse_json(text)
            # One line of them is an object by itself.
            single = isinstance(found, dict) and not {"annotations", "images"} & set(found)
            return [found] if single and "\n" not in text.strip() else found
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(parse_json(line))
            except ValueError as error:
                raise UserError(f"{path}, line {number} is not JSON: {error}") from None
    return _of_run(rows)


def _of_run(rows: list[Any]) -> list[Any]:
    """A run's predictions.jsonl without its header and ends, what `more` holds beside the rest."""
    if not rows or not isinstance(rows[0], Mapping) or "rsvlm_predictions" not in rows[0]:
        return rows
    named = {"dataset": rows[0]["facts"]["name"]}
    records = [row for row in rows if not is_note(row)]
    return [
        named | {k: v for k, v in row.items() if k != "more"} | row.get("more", {})
        for row in records
    ]
