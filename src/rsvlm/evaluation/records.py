"""From a run's files of predictions to its values."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsvlm.config.overrides import PACING
from rsvlm.data.prediction_files import (
    FOLDER,
    WHOLE,
    Predictions,
    different,
    parts_of,
    read_predictions,
    write_whole,
)
from rsvlm.data.prediction_records import Header, PredictionRecord
from rsvlm.errors import UserError
from rsvlm.evaluation.base import Evaluation, Measurement
from rsvlm.metrics.names import metric_name, parse

#: Keys of an evaluation that change no prediction.
_MEASURING = ("bootstrap", "bootstrap_seed", "metrics", "val_metrics")
_SAMPLE = 4096
_BLOCKS = 64


@dataclass
class Place:
    """Where the predictions of one split lie.

    Attributes:
        parts: folder of the parts.
        whole: the file that they become.
        fingerprint: of the run, see `fingerprint`.
    """

    parts: Path
    whole: Path
    fingerprint: dict[str, str] = field(default_factory=dict)

    def read(self) -> Predictions | None:
        """What is there: the whole file, else the parts; None where nothing is.

        Raises:
            UserError: files that cannot be read or do not belong together.
        """
        if self.whole.is_file():
            found = read_predictions([self.whole])
            if found is not None:
                return found
        return read_predictions(parts_of(self.parts))

    def held(self) -> Predictions | None:
        """What is there of this very run.

        Raises:
            UserError: it is of another one.
        """
        found = self.read()
        if found is not None and self.fingerprint:
            own = Header(found.header.protocol, found.header.facts, self.fingerprint)
            if different(found.header, own):
                raise UserError(
                    f"{self.parts} holds predictions of another run: "
                    f"{different(found.header, own)}. Evaluate in a new folder."
                )
        return found

    def clear(self) -> None:
        """Removes what is there: of a model that has learnt on since."""
        for path in (*parts_of(self.parts), self.whole):
            path.unlink(missing_ok=True)


def place_of(out: Path, dataset: str | None, fingerprint: dict[str, str] | None = None) -> Place:
    """Where a run keeps predictions.

    Args:
        out: the run's folder.
        dataset: its name, in a run of several; None in a run of one.
        fingerprint: see `fingerprint`.
    """
    parts = out / FOLDER if dataset is None else out / FOLDER / dataset
    whole = out / WHOLE if dataset is None else parts / WHOLE
    return Place(parts, whole, dict(fingerprint or {}))


def places_in(out: Path) -> list[Place]:
    """All places of predictions in a run's folder."""
    own = place_of(out, None)
    found = [own] if own.whole.is_file() or parts_of(own.parts) else []
    folders = sorted(path for path in (out / FOLDER).glob("*") if path.is_dir())
    several = [place_of(out, path.name) for path in folders]
    return found + [p for p in several if p.whole.is_file() or parts_of(p.parts)]


def fingerprint(config: Mapping[str, Any], checkpoint: str | None) -> dict[str, str]:
    """What must be the same for predictions to belong together.

    Args:
        config: the run's, as a plain dict: model, data, evaluation, seed, init.
        checkpoint: path of the weights that are measured, or where they came from.
    """
    evaluation = {
        key: value
        for key, value in (config.get("evaluation") or {}).items()
        if key not in _MEASURING
    }
    held = {key: config.get(key) for key in ("model", "data", "seed", "init")}
    model = held["model"] or {}
    if str(model.get("_target_", "")).endswith(".APIModel"):
        held["model"] = {k: v for k, v in model.items() if k not in PACING}
    if (config.get("knowledge") or {}).get("path"):
        held["knowledge"] = config["knowledge"]
    text = json.dumps(held | {"evaluation": evaluation}, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"configuration": digest, "checkpoint": weights_digest(checkpoint)}


def weights_digest(checkpoint: str | None) -> str:
    """Size and sampled bytes of a checkpoint's files; its name where it is no file."""
    if not checkpoint:
        return "none"
    path = Path(checkpoint)
    if not path.exists():
        return checkpoint
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for one in files:
        size = one.stat().st_size
        digest.update(f"{one.relative_to(path)} {size}\n".encode())
        with one.open("rb") as file:
            for n in range(_BLOCKS):
                file.seek(size * n // _BLOCKS)
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:16]


@dataclass
class Outcome:
    """What one split's predictions give.

    Attributes:
        rows: of metrics.json.
        records: sorted and complete.
        skipped: samples that could not be read.
        measured: values and statistics.
    """

    rows: list[dict[str, Any]]
    records: list[PredictionRecord]
    skipped: list[str]
    measured: Measurement


def measure_place(evaluation: Evaluation, place: Place, *, unfinished: bool = False) -> Outcome:
    """Measures the predictions of a split, and writes them as one file where that is not there.

    Args:
        evaluation: not started; its model is not needed.
        place: where the predictions lie.
        unfinished: also measure where samples are missing, as a limit of batches leaves them.

    Raises:
        UserError: no predictions, unfinished ones, or such as this evaluation cannot read.
    """
    if not evaluation.from_records:
        raise UserError(
            f"a {type(evaluation).__name__} is not measured from records: {evaluation.reason}. "
            "Evaluate again."
        )
    found = place.read()
    if found is None:
        raise UserError(f"{place.parts} holds no predictions.")
    protocol = evaluation.protocol
    if found.header.protocol != protocol:
        raise UserError(
            f"{place.parts} holds predictions under protocol {found.header.protocol}, and this "
            f"evaluation's is {protocol}: two protocols are two evaluations."
        )
    if found.missing and not unfinished and not place.whole.is_file():
        raise UserError(
            f"{len(found.missing)} of {found.header.facts.samples} samples have no prediction yet: "
            "the evaluation was stopped. Go on with it: rsvlm eval resume=<the run's folder>"
        )
    evaluation.stage = "test"
    facts = found.header.facts
    if not found.records:
        raise UserError(evaluation.nothing(facts), code="nothing_to_measure")
    found.records = evaluation.complete(found.records, facts)
    if not place.whole.is_file():
        write_whole(place.whole, found)
    measured = evaluation.measure(found.records, facts)
    rows = result_rows(
        "test", facts.name, facts.split, protocol, measured, skipped=len(found.skipped)
    )
    if facts.more.get("drawn"):
        rows = [row | {"drawn": facts.more["drawn"]} for row in rows]
    return Outcome(rows, found.records, found.skipped, measured)


def endpoint_notes(records: Sequence[PredictionRecord]) -> list[str]:
    """What a reader must know of the answers of an endpoint: refused ones, and such as were cut."""
    asked = [one for one in records if one.asked]
    silent = [str(one.asked["note"]) for one in asked if one.asked.get("note")]
    cut = sum(not one.finished for one in asked)
    notes = []
    if silent:
        why, count = Counter(silent).most_common(1)[0]
        most = f" ({count} times)" if count < len(silent) else ""
        notes.append(
            f"{len(silent)} of {len(records)} questions have no answer and count as wrong: {why}"
            f"{most}."
        )
    if cut:
        notes.append(
            f"{cut} of {len(records)} answers were cut at their greatest length: model.max_tokens=."
        )
    return notes


def tokens_of(records: Sequence[PredictionRecord]) -> tuple[int, int] | None:
    """Tokens of questions and answers as an endpoint counts them; None where it did not say."""
    asked = [one.asked for one in records if one.prediction or one.asked]
    held = [one["tokens"] for one in asked if "tokens" in one]
    if not held or any("tokens" not in one and "note" not in one for one in asked):
        return None
    return sum(one[0] for one in held), sum(one[1] for one in held)


def result_rows(
    stage: str, dataset: str, split: str, protocol: str, found: Measurement, *, skipped: int
) -> list[dict[str, Any]]:
    """Rows of metrics.json.

    Args:
        stage: `val` or `test`.
        dataset: its name.
        split: its split.
        protocol: of words that name no other one.
        found: values and facts.
        skipped: how many samples could not be read.
    """
    rows = []
    for word, value in found.values.items():
        facts = dict(found.facts[word])
        own = facts.pop("protocol", protocol)
        row = {
            "name": metric_name(stage, dataset, own, word),
            "value": float(value),
            "protocol": own,
            "dataset": dataset,
            "split": split,
            "skipped": skipped,
        }
        rows.append(row | facts)
    return rows


def suite_means(
    rows: Sequence[Mapping[str, Any]], suite: str, protocol: str, splits: Sequence[Any]
) -> list[dict[str, Any]]:
    """The means over the data sets of a suite, each data set counting once.

    Args:
        rows: of all data sets.
        suite: its name.
        protocol: of the means.
        splits: of the data sets.
    """
    means = []
    tested = [row for row in rows if row["name"].startswith("test/")]
    for word in dict.fromkeys(parse(row["name"]).metric for row in tested):
        same = [row for row in tested if parse(row["name"]).metric == word]
        mean = dict(same[0]) | {
            "name": metric_name("test", suite, protocol, word),
            "dataset": suite,
            "split": "+".join(map(str, splits)),
        }
        for key in ("low", "high", "level", "bootstrap", "seed"):
            mean.pop(key, None)  # those are one data set's
        for key in ("value", "chance"):
            if key in mean:
                mean[key] = sum(row[key] for row in same) / len(same)
        mean["count"] = sum(row["count"] for row in same)
        means.append(mean)
    return means
