"""What is known of a place: typed records, and the chunks of text that a base is searched by.

Fields and chunk types are RS-RAG's (arXiv 2504.04988; CongcongWen1208/RS-RAG 8a93ba2); the wording
is ours: a field that is empty is no part of a chunk. `released_knowledge` has the published one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from rsvlm.data.text_files import read_records as read_lines_of
from rsvlm.errors import UserError, near

#: Types of chunks, in the order of a base's row groups.
CHUNK_TYPES = (
    "basic_info_and_history",
    "architecture_and_function",
    "culture_and_visitor",
    "expert_knowledge",
    "monthly_expert_knowledge",
    "image_description",
    "caption",
    "text",
)
#: Task -> types of chunks that answer it, as `TASKS/answer_utils.py` lists them; `text`, which the
#: published base lacks, is asked beside them.
TASKS: dict[str, tuple[str, ...]] = {
    "caption": ("caption", "text"),
    "vqa": (*CHUNK_TYPES[:5], "text"),
    "classification": ("basic_info_and_history", "image_description", "text"),
}
_BASIC = ("Area", "Address", "Physical_Area", "Construction_Period")
_QUANTITY = re.compile(
    r"\s*([-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*((?:[^\W\d_]|[°%‰]).*)?$"
)
_DATE = re.compile(r"\d{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12]\d|3[01])(?:[T ].*)?)?)?$")
_POSITION = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)\s*°?\s*[,;]\s*([-+]?\d+(?:\.\d+)?)\s*°?\s*$")


class Quantity(NamedTuple):
    """A measured number, in the digits that it was written with, and its unit; "" without one."""

    number: str
    unit: str = ""

    @classmethod
    def parse(cls, text: str) -> Quantity | None:
        """A number and its unit as published, `100718.73Pa`; None of anything else, as `3/4`."""
        found = _QUANTITY.match(text)
        return None if found is None else cls(found[1], (found[2] or "").strip())

    @property
    def value(self) -> float:
        """The number."""
        return float(self.number.replace(",", "").replace("−", "-"))

    def __str__(self) -> str:
        return f"{self.number} {self.unit}".strip()


@dataclass(frozen=True)
class Chunk:
    """A piece of a record's text with the vector's key.

    Attributes:
        type: one of `CHUNK_TYPES`.
        text: what is embedded and quoted.
        span: first and last character within the whole chunk that this is a window of.
        order: position in the published order; -1 where the base's own stands.
    """

    type: str
    text: str
    span: tuple[int, int] = (0, 0)
    order: int = -1


@dataclass
class KnowledgeRecord:
    """A place.

    Attributes:
        id: unique in a base.
        name: of the place.
        category: a class, as `Stadium`.
        location: `lat, lon` in degrees, or a place's name.
        date: ISO, of the picture or of the knowledge; "" where none is known.
        split: of the data set that it is from; a base for `test` is made without its test records.
        image: its picture, relative to the base's root; "" without one.
        world: world-knowledge fields by name; `Major_Events` a list of {Event, Year, Description}.
        expert: expert fields by name (`NDVI 2019`), with units.
        monthly: month (`2019 July`) -> expert fields.
        description: what the picture shows.
        texts: further texts, each a chunk.
        chunks: ready-made chunks that stand for all of these; of the published base.
    """

    id: str
    name: str = ""
    category: str = ""
    location: str = ""
    date: str = ""
    split: str = ""
    image: str = ""
    world: dict[str, Any] = field(default_factory=dict)
    expert: dict[str, str] = field(default_factory=dict)
    monthly: dict[str, dict[str, str]] = field(default_factory=dict)
    description: str = ""
    texts: list[str] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees; None where the location is a name."""
        found = _POSITION.match(self.location)
        return (float(found[1]), float(found[2])) if found else None

    def line(self) -> str:
        """One line of JSON, which `from_mapping` takes."""
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)


_FIELDS = tuple(KnowledgeRecord.__dataclass_fields__)
_TEXTS = ("id", "name", "category", "location", "date", "split", "image", "description")


def from_mapping(held: Any, where: str) -> KnowledgeRecord:
    """A record from a line of JSON.

    Args:
        held: what the line holds.
        where: file and line, for errors.

    Raises:
        UserError: a field that is unknown or of another type, or no id and no name.
    """
    if not isinstance(held, Mapping):
        raise UserError(f"{where}: a record is an object {{...}}, not {type(held).__name__}.")
    for key in held:
        if key not in _FIELDS:
            raise UserError(f"{where}: a record has no field {key!r}. {near(str(key), _FIELDS)}")
    values: dict[str, Any] = {key: held[key] for key in held if held[key] is not None}
    for key in _TEXTS:
        if not isinstance(values.get(key, ""), str | int | float):
            raise UserError(f"{where}: {key} is a text, not {type(values[key]).__name__}.")
        if key in values:
            values[key] = str(values[key]).strip()
    for key in ("world", "expert", "monthly"):
        if not isinstance(values.get(key, {}), Mapping):
            raise UserError(f"{where}: {key} is an object of field and value.")
    texts = values.get("texts", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: texts is a list of texts.")
    values["expert"] = _told(values.get("expert", {}), where)
    values["monthly"] = {m: _told(v, where) for m, v in values.get("monthly", {}).items()}
    try:
        values["chunks"] = [
            Chunk(
                str(c["type"]),
                str(c["text"]),
                (int(c["span"][0]), int(c["span"][1])),
                int(c["order"]),
            )
            for c in values.get("chunks", [])
        ]
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{where}: chunks are those of a base that was published, each with type, text, span "
            "and order; a text of your own belongs to texts."
        ) from error
    values.setdefault("id", values.get("name", ""))
    if not values["id"]:
        raise UserError(f'{where}: a record needs an id or a name: add "id": "...".')
    return KnowledgeRecord(**values)


def _told(fields: Any, where: str) -> dict[str, str]:
    """Expert fields as texts; `{"value": 3, "unit": "mm"}` is taken too."""
    if not isinstance(fields, Mapping):
        raise UserError(f"{where}: expert fields are an object of field and value.")
    said = {}
    for key, value in fields.items():
        if isinstance(value, Mapping):
            value = " ".join(_text(value.get(part)) for part in ("value", "unit"))
        said[str(key)] = _text(value)
    return said


def read_records(path: Path) -> Iterator[KnowledgeRecord]:
    """The records of a .jsonl or .json file.

    Raises:
        UserError: a file or a record that cannot be used; names the line.
    """
    for number, held in enumerate(read_lines_of(path), 1):
        where = f"{path}, record {number}"
        record = from_mapping(held, where)
        if record.date and not _DATE.match(record.date):
            raise UserError(f"{where}: the date {record.date!r} is not ISO, as 2021-06-01 or 2021.")
        if record.position is not None:
            lat, lon = record.position
            if abs(lat) > 90 or abs(lon) > 180:
                raise UserError(
                    f"{where}: the location {record.location!r} is no latitude, longitude in "
                    "degrees (-90 to 90, -180 to 180): the latitude comes first."
                )
        yield record


def chunks_of(record: KnowledgeRecord) -> list[Chunk]:
    """Whole chunks of a record, by type; those of the published base as they are."""
    if record.chunks:
        return list(record.chunks)
    world = {key: text for key, value in record.world.items() if (text := _text(value))}
    basic = _fields({"Name": record.name, "Category": record.category, **_only(world, _BASIC)})
    basic += _fields({"Location": record.location, "Date": record.date})
    events = "; ".join(_event(e) for e in _list(record.world.get("Major_Events")) if _event(e))
    parts = {
        "basic_info_and_history": [
            "; ".join(basic),
            *_fields(_only(world, ("Historical_Background",))),
            *([f"Major events: {events}"] if events else []),
        ],
        "architecture_and_function": _fields(
            _only(world, ("Architectural_Characteristics", "Primary_Function", "Details"))
        ),
        "culture_and_visitor": _fields(_only(world, ("Cultural_Significance", "Notable_Visitors"))),
        "expert_knowledge": [_measured(record.expert)],
    }
    listed = {"Major_Events", "Name", "Category", "Location", *_BASIC}
    listed |= {"Historical_Background", "Architectural_Characteristics", "Primary_Function"}
    listed |= {"Details", "Cultural_Significance", "Notable_Visitors"}
    parts["basic_info_and_history"] += _fields(
        {key: text for key, text in world.items() if key not in listed}
    )
    found = [Chunk(kind, text) for kind, lines in parts.items() if (text := _join(lines))]
    whole = [chunk.text for chunk in found]
    for month, fields in record.monthly.items():
        if told := _measured(fields):
            found.append(
                Chunk("monthly_expert_knowledge", f"{record.name} {month}: {told}".strip())
            )
    if record.description.strip():
        found.append(Chunk("image_description", record.description.strip()))
        whole.append(record.description.strip())
        found.append(Chunk("caption", "\n".join(whole)))
    found += [Chunk("text", text.strip()) for text in record.texts if text.strip()]
    return [Chunk(c.type, c.text, (0, len(c.text))) for c in found]


def windows(chunk: Chunk, count: Callable[[str], int], limit: int, overlap: int) -> Iterable[Chunk]:
    """A long chunk as overlapping windows of whole words.

    A word of more than `limit` tokens, as a text in a script without blanks, is parted within.

    Args:
        chunk: a whole one.
        count: tokens of a word.
        limit: most tokens of a window.
        overlap: tokens that a window repeats of the one before it; less than `limit`.
    """
    words = [
        span
        for found in re.finditer(r"\S+", chunk.text)
        for span in _parted(chunk.text, found.start(), found.end(), count, limit)
    ]
    sizes = [max(1, count(chunk.text[a:b])) for a, b in words]
    if sum(sizes) <= limit:
        yield Chunk(chunk.type, chunk.text, (0, len(chunk.text)), chunk.order)
        return
    first = 0
    while first < len(words):
        last, used = first, 0
        while last < len(words) and (last == first or used + sizes[last] <= limit):
            used += sizes[last]
            last += 1
        a, b = words[first][0], words[last - 1][1]
        yield Chunk(chunk.type, chunk.text[a:b], (a, b), chunk.order)
        if last == len(words):
            return
        back, kept = last, 0
        while back - 1 > first and kept + sizes[back - 1] <= overlap:
            back -= 1
            kept += sizes[back]
        first = back


def _parted(
    text: str, first: int, last: int, count: Callable[[str], int], limit: int
) -> list[tuple[int, int]]:
    """A word as it is where it fits a window, or in pieces of about an eighth of one."""
    tokens = count(text[first:last])
    if tokens <= limit or last - first < 2:
        return [(first, last)]
    pieces = min(last - first, -(-8 * tokens // limit))
    cuts = [first + (last - first) * i // pieces for i in range(pieces + 1)]
    return [span for a, b in pairwise(cuts) for span in _parted(text, a, b, count, limit)]


def _only(world: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: world[name] for name in names if name in world}


def _fields(held: Mapping[str, str]) -> list[str]:
    return [f"{key.replace('_', ' ')}: {text}" for key, text in held.items() if text]


def _measured(fields: Mapping[str, str]) -> str:
    told = {key: str(Quantity.parse(text) or text) for key, text in fields.items()}
    return "; ".join(f"{key}: {text}" for key, text in told.items() if text.strip())


def _event(held: Any) -> str:
    if not isinstance(held, Mapping):
        return _text(held)
    what = [_text(held.get(key)) for key in ("Event", "Description")]
    year = _text(held.get("Year"))
    said = ": ".join(text for text in what if text)
    return f"{said} ({year})" if year and said else said


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(text for entry in value if (text := _text(entry)))
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {text}" for key, v in value.items() if (text := _text(v)))
    return "" if value is None else str(value).strip()


def _join(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if line.strip())
