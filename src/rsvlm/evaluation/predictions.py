"""Predictions of an evaluation as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rsvlm.report.questions import Marks, Row


def write_answers(records: Sequence[Any], dataset: Any, path: Path) -> Path:
    """predictions.jsonl: one line per sample, as `rsvlm metrics captions` reads it.

    Args:
        records: `id` (the position), `prediction`, `references`.
        dataset: the data set that was answered.
        path: the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            row: dict[str, Any] = {"id": record.id, "dataset": dataset.name}
            row |= {"prediction": record.prediction, "references": list(record.references)}
            if getattr(record, "flag", None) is not None:
                row["changed"] = int(record.flag)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def write_predictions(
    rows: Sequence[Row], marks: Marks, dataset: Any, folder: Path, name: str = "predictions"
) -> Path:
    """predictions.jsonl: a line per question, as `rsvlm metrics vqa|grounding` reads it.

    Args:
        rows: `id`, `question`, `prediction`, `answer`, ... (`metrics.told`); those without a mark
            were not measured and are left out.
        marks: id -> how good the answer is.
        dataset: the data set that was asked about.
        folder: the run's `pictures`, or a data set's folder in it; the file lies beside the former
            and within the latter.
        name: of the file, without ending.
    """
    path = beside(folder) / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            if row["id"] in marks:
                line = {"id": row["id"], "dataset": dataset.name, **row}
                line["score"] = round(marks[row["id"]][0], 4)
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def beside(folder: Path) -> Path:
    """Where files of predictions lie that belong to a folder of pictures."""
    return folder.parent if folder.name == "pictures" else folder
