"""One typed record for what a model answered, whatever the task, and the lines it is kept in.

A file of predictions is JSON Lines; docs/predictions.md documents it. Its first line is a header
(`Header`), then come records, and behind the records of each batch a line that says which samples
are done. What stands behind the last of these was cut off by a kill or a full disk and does not
count.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rsvlm.errors import UserError, near

#: Version of the schema, the value of a header's `rsvlm_predictions`.
SCHEMA = 1

#: A position in a data set, a name, or `<position>#<k>` for the k-th question on a sample.
Id = int | str


def position(id: Id) -> int:
    """Where in its data set the sample of a question stands; see `evaluation.question_ids`."""
    return id if isinstance(id, int) else int(id.partition("#")[0])


def image_of(id: Id) -> Id:
    """The image that a question belongs to: what stands before its `#`."""
    if isinstance(id, int):
        return id
    name = id.partition("#")[0]
    return int(name) if name.isdecimal() else name


def record_order(id: Id) -> tuple[bool, tuple[int, ...], str]:
    """The data set's order: by sample, then by question; other names behind them."""
    parts = str(id).split("#")
    numbers = all(part.isdecimal() for part in parts)
    return not numbers, tuple(map(int, parts)) if numbers else (), str(id)


@dataclass(slots=True)
class PredictionRecord:
    """What a model answered to one question, and what is true. A field that is empty is not kept.

    Attributes:
        id: the sample's position in its data set, or `<position>#<k>` for the k-th question on it.
        sample: the data set's own name for the sample.
        question: what was asked.
        prediction: the text that the model wrote.
        finished: False where it was cut at its greatest length.
        answer: the true answer.
        references: what people wrote, for captions.
        boxes: (x0, y0, x1, y1) of the answer, in pixels of the image as stored.
        angles: of `boxes`, degrees counter-clockwise, None of an upright one; empty where all are.
        true_boxes: likewise, what is true.
        true_angles: likewise.
        masks: of the answer at the image's own size, as `data.rle.encode` gives them.
        true_masks: likewise, what is true.
        scores: one of each class, in the order of the header's `classes`, higher is better.
        label: the true class's place in `classes`.
        ranks: of retrieval, the place of every right candidate, from 0, ascending.
        retrieved: of retrieval, the ten best candidates: [id, score].
        parts: what each expert of a model gave: `expert`, `prompt`, `text`, `weight`, `score`.
        knowledge: of a model with a knowledge base: `sources`, the passages that it was given (see
            `data.sample.Passage`), and `own`, ids of the records on the question's own picture.
        asked: of a model behind an endpoint, see `data.sample.Answer`.
        values: numbers that were measured of this item while its image was at hand.
        features: vectors that a metric over the whole set needs, see `pack_features`.
        more: what only this evaluation keeps, such as the type of question.
        dataset: the data set's name; kept in the header.
        split: its split; kept in the header.
    """

    id: Id
    sample: str = ""
    question: str = ""
    prediction: str = ""
    finished: bool = True
    answer: str | None = None
    references: list[str] = field(default_factory=list)
    boxes: list[list[float]] = field(default_factory=list)
    angles: list[float | None] = field(default_factory=list)
    true_boxes: list[list[float]] = field(default_factory=list)
    true_angles: list[float | None] = field(default_factory=list)
    masks: list[dict[str, Any]] = field(default_factory=list)
    true_masks: list[dict[str, Any]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    label: int | None = None
    ranks: list[int] = field(default_factory=list)
    retrieved: list[list[Any]] = field(default_factory=list)
    parts: list[dict[str, Any]] = field(default_factory=list)
    knowledge: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    features: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)
    dataset: str = ""
    split: str = ""

    def row(self, *, whole: bool = False) -> dict[str, Any]:
        """What a line holds: the fields that say something; `prediction` always.

        Args:
            whole: also give what stands in the header.
        """
        out: dict[str, Any] = {}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if (name in _IN_HEADER and not whole) or (value == default and name not in _ALWAYS):
                continue
            out[name] = value
        return out

    def line(self) -> str:
        """The record as one line of JSON, without its end."""
        return json.dumps(self.row(), ensure_ascii=False)


_DEFAULTS: dict[str, Any] = {
    one.name: one.default_factory() if callable(one.default_factory) else one.default
    for one in dataclasses.fields(PredictionRecord)
}
_ALWAYS, _IN_HEADER = ("id", "prediction"), ("dataset", "split")
_KINDS: dict[str, tuple[type, ...]] = {
    name: (str, int) if name == "id" else (type(default),) for name, default in _DEFAULTS.items()
} | {"answer": (str, type(None)), "label": (int, type(None))}


def record_of(row: Any, where: str) -> PredictionRecord:
    """A record from what a line holds.

    Args:
        row: the line, read as JSON.
        where: file and line, for the error.

    Raises:
        UserError: it is no object, lacks its id, or a field is unknown or of another kind.
    """
    if not isinstance(row, Mapping) or "id" not in row:
        raise UserError(f"{where} is no prediction: a record is an object with an id.")
    for name, value in row.items():
        if name not in _KINDS:
            raise UserError(
                f"{where}: a prediction has no field {name!r} in schema {SCHEMA}. "
                f"{near(name, _KINDS)}"
            )
        kinds = _KINDS[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise UserError(
                f"{where}: {name} is {value!r:.60}, not {' or '.join(k.__name__ for k in kinds)}."
            )
    return PredictionRecord(**row)


@dataclass(slots=True)
class DatasetFacts:
    """What measuring needs of a data set and a model beside the records; it stands in the header.

    Attributes:
        name: the data set's name.
        split: its split.
        samples: how many it has.
        classes: its class names, in the order of labels and scores.
        more: what an evaluation adds, such as a vocabulary.
    """

    name: str
    split: str = "test"
    samples: int = 0
    classes: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Header:
    """The first line of a file of predictions.

    Attributes:
        protocol: the evaluation's.
        facts: of the data set.
        fingerprint: `checkpoint`, `config`, ...: what must be the same for predictions to belong
            together; see `evaluation.records.fingerprint`.
    """

    protocol: str
    facts: DatasetFacts
    fingerprint: dict[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """The header as one line of JSON, without its end."""
        return json.dumps({"rsvlm_predictions": SCHEMA, **dataclasses.asdict(self)})


def header_of(row: Any, where: str) -> Header:
    """A header from what a first line holds.

    Raises:
        UserError: it is none, or of another version.
    """
    version = row.get("rsvlm_predictions") if isinstance(row, Mapping) else None
    if version is None:
        raise UserError(f"{where} is no file of predictions: its first line is no header.")
    if version != SCHEMA:
        raise UserError(
            f"{where} is of version {version} of the schema, and this rsvlm reads {SCHEMA}: "
            "evaluate again, or read it with the rsvlm that wrote it."
        )
    try:
        facts = DatasetFacts(**row["facts"])
        return Header(str(row["protocol"]), facts, dict(row["fingerprint"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: its header cannot be read: {error}.") from None


def is_note(row: Any) -> bool:
    """Whether a line is no record but a header or the end of a batch."""
    return isinstance(row, Mapping) and ("rsvlm_predictions" in row or "done" in row)


def pack_features(rows: np.ndarray) -> str:
    """[n, D] or [D] float32 as text: its shape, and its bytes (little endian) in base64."""
    held = np.ascontiguousarray(rows, dtype="<f4")
    shape = "x".join(map(str, held.shape))
    return f"{shape}:{base64.b64encode(held.tobytes()).decode('ascii')}"


def unpack_features(text: str) -> np.ndarray:
    """What `pack_features` was given.

    Raises:
        UserError: it is nothing of that kind.
    """
    shape, _, data = text.partition(":")
    try:
        values = np.frombuffer(base64.b64decode(data, validate=True), "<f4")
        return values.reshape([int(side) for side in shape.split("x")]).astype(np.float32)
    except ValueError as error:
        raise UserError(f"features {text[:30]!r}... cannot be read: {error}.") from None
