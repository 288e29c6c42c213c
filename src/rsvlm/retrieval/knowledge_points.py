"""Records and chunks as a Qdrant server's points, filters as its conditions, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsvlm.errors import UserError
from rsvlm.retrieval.knowledge_columns import names_of, place_of
from rsvlm.retrieval.knowledge_records import CHUNK_TYPES, Chunk, KnowledgeRecord, from_mapping
from rsvlm.retrieval.knowledge_store import SAME_PICTURE
from rsvlm.retrieval.knowledge_version import Counts, Floats, Part, Version, rows_in_groups

if TYPE_CHECKING:
    from rsvlm.retrieval.knowledge_search import Filter

#: The version before which a point ends that has not ended.
FOREVER = 1 << 31
#: Fields that filters read, with the kinds of their indexes.
INDEXED = {
    "since": "integer",
    "until": "integer",
    "type": "keyword",
    "id": "keyword",
    "names": "keyword",
    "category": "keyword",
    "split": "keyword",
    "first_day": "integer",
    "last_day": "integer",
    "position": "geo",
}
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")


class ServerVersion(Version):
    """A version whose rows stay on the server: `QdrantStore.narrow` brings those that are found.

    Args:
        store: a `QdrantStore`.
        number: of the version.
        said: what the server says of it.
    """

    remote = True

    def __init__(self, store: Any, number: int, said: dict[str, Any]) -> None:
        self.number, self.row_ids = number, None
        self.left_out, self.fingerprint = said["left_out"], said["fingerprint"]
        self._store, self._said = store, said

    def __getattr__(self, name: str) -> Any:
        if name == "records":  # read from the server when they are asked for
            self.records = self._store.records(self.number)
            return self.records
        if name in Version.__dataclass_fields__:
            raise UserError(
                f"{self._store.root} keeps its rows on its server, and this asks for all of them: "
                "build the base in a folder."
            )
        raise AttributeError(name)

    def __len__(self) -> int:
        return sum(self._said["kinds"].values())

    def counts(self) -> Counts:
        """How much it holds."""
        rank = {kind: i for i, kind in enumerate(CHUNK_TYPES)}
        kinds = sorted(self._said["kinds"].items(), key=lambda one: rank.get(one[0], len(rank)))
        return Counts(self._said["held"], self._said["pictures"], dict(kinds))

    def known(self, ids: Collection[str]) -> set[str]:
        """Which of some ids are those of its records."""
        return {record.id for record in self._store.records(self.number, ids)}


def record_of_point(point: Any) -> KnowledgeRecord:
    """A record from its point."""
    return from_mapping(json.loads(point.payload["line"]), "a record of the server")


def record_points(parts: Sequence[Part], first: int, number: int) -> Iterator[dict[str, Any]]:
    """Points of records, which have no vector of use.

    Args:
        parts: of new records.
        first: id of the first.
        number: of the version from which on they are there.
    """
    for part in parts:
        for record, image in zip(part.records, part.image_of, strict=True):
            held = {"id": record.id, "line": record.line(), "pictured": bool(image >= 0)}
            held |= {"since": number, "until": FOREVER}
            yield {"id": first, "vector": [0.0], "payload": held}
            first += 1


def chunk_points(
    parts: Sequence[Part], record: int, chunk: int, number: int
) -> Iterator[dict[str, Any]]:
    """Points of chunks: the vectors of their records' pictures (0 without one) and their own.

    Args:
        parts: of new records.
        record: id of the first record.
        chunk: id of the first chunk.
        number: of the version from which on they are there.
    """
    for part in parts:
        nothing = np.zeros(part.text.shape[1], dtype=np.float32)
        told = [_told(held) for held in part.records]
        for held, text, at in zip(part.chunks, part.text, part.record_of, strict=True):
            picture = int(part.image_of[at])
            image = part.image[picture] if picture >= 0 else nothing
            yield {
                "id": chunk,
                "vector": np.concatenate([image, text]).tolist(),
                "payload": {
                    "key": record + int(at),
                    "pictured": picture >= 0,
                    "type": held.type,
                    "text": held.text,
                    "span": list(held.span),
                    "order": held.order,
                    "since": number,
                    "until": FOREVER,
                    **told[at],
                },
            }
            chunk += 1
        record += len(part.records)


def live(models: Any, number: int) -> Any:
    """The condition of points of a version; `models` is qdrant_client's."""
    since = models.FieldCondition(key="since", range=models.Range(lte=number))
    until = models.FieldCondition(key="until", range=models.Range(gt=number))
    return models.Filter(must=[since, until])


def conditions(models: Any, number: int, types: Sequence[str] | None, where: Filter | None) -> Any:
    """What `knowledge_search.rows_of` chooses, as a server's condition."""
    made = live(models, number)

    def among(key: str, words: Sequence[str] | None) -> None:
        if words is not None:
            match = models.MatchAny(any=list(words))
            made.must.append(models.FieldCondition(key=key, match=match))

    def within(key: str, **span: int) -> None:
        made.must.append(models.FieldCondition(key=key, range=models.Range(**span)))

    among("type", types)
    if where is None:
        return made
    among("category", where.categories and [name.casefold() for name in where.categories])
    among("split", where.splits)
    among("id", where.records)
    if where.place:
        # MatchText is by words on a server, where its client's memory has it by letters.
        match = models.MatchSubstring(substring=where.place.casefold())
        made.must.append(models.FieldCondition(key="place", match=match))
    if where.near is not None:
        lat, lon, km = where.near
        round = models.GeoRadius(center=models.GeoPoint(lat=lat, lon=lon), radius=km * 1000)
        made.must.append(models.FieldCondition(key="position", geo_radius=round))
    if where.since is not None:
        within("last_day", gte=_days(where.since)[0])
    if where.until is not None:
        within("first_day", lte=_days(where.until)[1])
    if where.exclude:
        match = models.MatchAny(any=list(where.exclude))
        made.must_not = [models.FieldCondition(key="names", match=match)]
    return made


def check_places(release: str, root: object) -> None:
    """Refuses a filter by place on a server that cannot.

    Raises:
        UserError: it is older than 1.20.
    """
    if [int(part) for part in re.findall(r"\d+", release)[:2]] < [1, 20]:
        raise UserError(
            f"a filter by place (--place) needs a Qdrant server of 1.20 or later, and that of "
            f"{root} is {release}: leave it out, or take a newer server."
        )


def small_version(
    points: Sequence[Any], records: Mapping[int, KnowledgeRecord], number: int, dim: int
) -> Version:
    """What a search found, as a version that holds nothing else."""
    kinds = [*CHUNK_TYPES, *sorted({p.payload["type"] for p in points} - {*CHUNK_TYPES})]
    published = all(point.payload["order"] >= 0 for point in points)

    def place(point: Any) -> tuple[int, int]:
        held = point.payload
        return kinds.index(held["type"]), held["order"] if published else point.id

    points = sorted(points, key=place)
    keys = sorted(records)
    at = {key: i for i, key in enumerate(keys)}
    vectors = np.array([p.vector for p in points], dtype=np.float32).reshape(len(points), 2 * dim)
    record_of = np.array([at[p.payload["key"]] for p in points], dtype=np.int64)
    pictured = {at[p.payload["key"]]: i for i, p in enumerate(points) if p.payload["pictured"]}
    image_of = np.full(len(keys), -1, dtype=np.int64)
    image_of[list(pictured)] = np.arange(len(pictured))
    chunks = [
        Chunk(p.payload["type"], p.payload["text"], tuple(p.payload["span"]), place(p)[1])
        for p in points
    ]
    return rows_in_groups(
        number,
        chunks,
        np.ascontiguousarray(vectors[:, dim:]),
        np.ascontiguousarray(vectors[list(pictured.values()), :dim]),
        record_of,
        image_of,
        [records[key] for key in keys],
    )


def of_picture(point: Any, image: Floats) -> bool:
    """Whether a point's record has the picture of these numbers."""
    held = np.asarray(point.vector[: len(image)], dtype=np.float32)
    return float(held @ image) >= SAME_PICTURE


def _told(record: KnowledgeRecord) -> dict[str, Any]:
    """What `knowledge_search.Filter` reads of a record."""
    held: dict[str, Any] = {
        "id": record.id,
        "names": sorted(names_of(record)),
        "category": record.category.casefold(),
        "split": record.split,
        "place": "\n".join(place_of(record)).casefold(),
    }
    if record.position is not None:
        held["position"] = dict(zip(("lat", "lon"), record.position, strict=True))
    if _DATE.match(record.date):
        held["first_day"], held["last_day"] = _days(record.date)
    return held


def _days(date: str) -> tuple[int, int]:
    """An ISO date as its first and last day, yyyymmdd; one of a year is every day of it."""
    found = _DATE.match(date)
    year, month, day = found.groups() if found else ("0", None, None)
    first = f"{year}{month or '00'}{day or '00'}"
    return int(first), int(f"{year}{month or '99'}{day or '99'}")
