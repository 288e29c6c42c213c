"""A knowledge base on a Qdrant server, for many users: nothing of it lies on their machines.

    http://host:6333/places     is, on the server, three collections:
    places                      a point a chunk: [picture, text], 2 D numbers, and what filters read
    places-records              a point a record
    places-about                the manifest, what each version holds, and who is writing

A chunk's score, alpha * cos(picture) + (1 - alpha) * cos(text), is one inner product of its point
with [alpha * question's picture, (1 - alpha) * question's text]; so the server ranks as we do, and
what it gives back is scored again. A point belongs to the versions from `since` until before
`until`: a write adds points of a later version, which nobody sees until the manifest names it.

One process writes at a time (`knowledge_lease.py` says what two writers may see at worst), and the
manifest changes only from the version that a write began with.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.errors import UserError, extra
from rsvlm.retrieval.knowledge_lease import Lease
from rsvlm.retrieval.knowledge_lock import one_writer
from rsvlm.retrieval.knowledge_points import (
    FOREVER,
    INDEXED,
    ServerVersion,
    check_places,
    chunk_points,
    conditions,
    live,
    of_picture,
    record_of_point,
    record_points,
    small_version,
)
from rsvlm.retrieval.knowledge_records import KnowledgeRecord
from rsvlm.retrieval.knowledge_store import Asked, parts_folder
from rsvlm.retrieval.knowledge_version import Ints, Part, Version

#: Up to how many chunks the server compares all of them, and so finds what an exact search does.
EXACT_ROWS = 50_000
_FORMAT = 1
_KEPT = 3
_BATCH = 256
_MANIFEST = 0  # its id in `-about`; those behind it are versions, and `knowledge_lease.WRITER`
_NAME = re.compile(r"[\w.-]+$")


class QdrantStore:
    """A base on a server.

    Args:
        address: of the server with a name for the base, http://host:6333/places. A key is read
            from QDRANT_API_KEY.
        client: another client, as `QdrantClient(":memory:")`; None makes one.
        exact_rows: up to how many chunks the server compares all of them.

    Raises:
        UserError: no name in the address; or the client is not installed, with the extra's name.
    """

    kind = "qdrant"

    def __init__(self, address: str, client: Any = None, *, exact_rows: int = EXACT_ROWS) -> None:
        self.root: Path | str = address.rstrip("/")
        self.exact_rows = exact_rows
        server, _, self.name = str(self.root).rpartition("/")
        if server.endswith("/") or not _NAME.match(self.name):
            raise UserError(
                f"{address} names no base: put a name behind the server's address, as "
                "http://localhost:6333/places."
            )
        with extra("knowledge", "Without it, --store files keeps a base in a folder."):
            from qdrant_client import QdrantClient, models
        self.models = models
        if client is None:
            scheme, _, rest = server.partition("://")
            host, _, prefix = rest.partition("/")
            client = QdrantClient(
                url=f"{scheme}://{host}",
                prefix=prefix or None,
                timeout=30,
                api_key=os.environ.get("QDRANT_API_KEY"),
                check_compatibility=False,
            )
        self.client = client
        self.lease = Lease(self.root, models, self._about, self._tell)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the base says of itself; empty where there is none.

        Raises:
            UserError: the server is away, or the base is of a later rsvlm.
        """
        held = self._about(_MANIFEST)
        if held and held["format"] > _FORMAT:
            raise UserError(f"{self.root} is of a later rsvlm: open it with that one.")
        return held

    def open(self, number: int | None = None) -> Version:
        """See `Store`.

        Raises:
            UserError: the server is away, or there is no base or no such version.
        """
        manifest = self.manifest
        if not manifest:
            begun = any(self._building().glob("*"))
            raise UserError(
                f"{self.root} is no knowledge base."
                + (
                    " A build was begun here and has not ended: give the same rsvlm knowledge "
                    "build again, and it goes on."
                    if begun
                    else " Make one: rsvlm knowledge build --store qdrant --source folder --root "
                    f"<pictures> --records <.jsonl> --out {self.root}"
                ),
                code="no_knowledge_base",
            )
        number = manifest["version"] if number is None else number
        if number not in self.versions():
            there = ", ".join(map(str, self.versions()))
            raise UserError(f"{self.root} has no version {number}; there are {there}.")
        return ServerVersion(self, number, self._about(number))

    def versions(self) -> list[int]:
        """Numbers of the versions that can be opened, oldest first."""
        last = self._about(_MANIFEST).get("version", 0)
        with self._asked():
            found = self.client.retrieve(f"{self.name}-about", [*range(max(1, last - 9), last + 1)])
        return sorted(point.id for point in found)

    def parts(self, fingerprint: str) -> Path:
        """The folder of a plan's parts, in the cache of this machine."""
        return parts_folder(self._building(), fingerprint)

    def write(
        self,
        parts: Sequence[Part],
        fingerprint: str,
        facts: dict[str, Any],
        *,
        of: Version | None = None,
        gone: Collection[str] = (),
    ) -> int:
        """See `Store`."""
        said: dict[str, Any] = {"records": 0, "chunks": 0, "kinds": {}, "left_out": []}
        said |= {} if of is None else self._about(of.number)
        number = 1 + (of.number if of is not None else 0)
        self._begin(number, int(facts["dim"]))
        self._upsert(f"{self.name}-records", record_points(parts, said["records"], number))
        self._upsert(self.name, chunk_points(parts, said["records"], said["chunks"], number))
        self._end(gone, number)
        kinds = {kind for part in parts for kind in (chunk.type for chunk in part.chunks)}
        kinds |= said["kinds"].keys()
        self._tell(
            number,
            {
                "records": said["records"] + sum(len(part.records) for part in parts),
                "chunks": said["chunks"] + sum(len(part.chunks) for part in parts),
                "held": self._count(f"{self.name}-records", number),
                "pictures": self._count(f"{self.name}-records", number, pictured=True),
                "kinds": {k: c for k in kinds if (c := self._count(self.name, number, type=k))},
                "left_out": said["left_out"] + [text for part in parts for text in part.left_out],
                "fingerprint": fingerprint,
            },
        )
        self.lease.hold()
        held = {"format": _FORMAT, "version": number, "store": self.kind, **facts}
        before = self.models.FieldCondition(
            key="version", match=self.models.MatchValue(value=number - 1)
        )
        self._tell(_MANIFEST, {**held, "writer": self.lease.token}, only=[before])
        if self._about(_MANIFEST).get("writer") != self.lease.token:
            raise UserError(
                f"{self.root}: another process has written version {number} while this one was "
                "silent. Look at what it holds (rsvlm knowledge info), and ask again."
            )
        self.clean()
        return number

    def clean(self) -> None:
        """Removes parts of ended builds, and the oldest versions."""
        shutil.rmtree(self._building(), ignore_errors=True)
        old = self.versions()[:-_KEPT]
        if old:
            with self._asked():
                for name in (self.name, f"{self.name}-records"):
                    self.client.delete(name, self._chosen(until={"lte": old[-1] + 1}))
                self.client.delete(f"{self.name}-about", old)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the base for this process, on this machine and on the server.

        Raises:
            UserError: another process writes it; says which.
        """
        with one_writer(self._building().parent, self.root):
            with self._asked():
                if not self.client.collection_exists(f"{self.name}-about"):
                    one = self.models.VectorParams(size=1, distance=self.models.Distance.DOT)
                    self.client.create_collection(f"{self.name}-about", vectors_config=one)
            self.lease.hold()
            try:
                yield
            finally:
                with self._asked():
                    self.client.delete(f"{self.name}-about", self.lease.own())

    def size(self) -> int | None:
        """None: the server does not say."""
        return None

    def narrow(self, version: Version, asked: Asked) -> tuple[Version, Ints] | None:
        """What the server finds, as a small version: vectors, texts and records of these rows."""
        assert isinstance(version, ServerVersion)
        both = asked.image is not None and asked.text is not None
        given = [vector for vector in (asked.image, asked.text) if vector is not None]
        dim = len(given[0])
        vector = np.zeros(2 * dim, dtype=np.float32)
        if asked.image is not None:
            vector[:dim] = asked.image * (asked.alpha if both else 1)
        if asked.text is not None:
            vector[dim:] = asked.text * (1 - asked.alpha if both else 1)
        exact = len(version) <= self.exact_rows
        how = None  # of the client's own memory, which compares all and says so
        if self._remote():
            wide = None if exact else max(128, 2 * asked.count)
            how = self.models.SearchParams(exact=exact, hnsw_ef=wide)
        if asked.where is not None and asked.where.place and self._remote():
            with self._asked():
                release = str(self.client.info().version)
            check_places(release, self.root)
        chosen = conditions(self.models, version.number, asked.types, asked.where)
        limit = asked.count + 16
        with self._asked():
            while True:
                points = self.client.query_points(
                    self.name,
                    query=vector.tolist(),
                    query_filter=chosen,
                    search_params=how,
                    limit=limit,
                    with_payload=True,
                    with_vectors=True,
                ).points
                short = len(points) < limit
                edge = points[-1].score if points else 0.0
                if asked.exclude_self and asked.image is not None:
                    points = [p for p in points if not of_picture(p, asked.image)]
                # Equal scores, as of a record's chunks by its picture, are put in order here: so
                # the last of those that came is to be worse than the last that is wanted.
                wanted = points[: asked.count]
                if short or (len(wanted) == asked.count and edge < wanted[-1].score - 1e-6):
                    break
                limit *= 4
            keys = sorted({point.payload["key"] for point in points})
            held = self.client.retrieve(f"{self.name}-records", keys, with_payload=True)
        records = {point.id: record_of_point(point) for point in held}
        small = small_version(points, records, version.number, dim)
        return small, np.arange(len(small), dtype=np.int64)

    def records(self, number: int, ids: Collection[str] | None = None) -> list[KnowledgeRecord]:
        """The records of a version, in their order; some of them, or all."""
        chosen = live(self.models, number)
        if ids is not None:
            one_of = self.models.MatchAny(any=sorted(ids))
            chosen.must.append(self.models.FieldCondition(key="id", match=one_of))
        found, offset = [], None
        with self._asked():
            while True:
                some, offset = self.client.scroll(
                    f"{self.name}-records", chosen, limit=1000, offset=offset, with_payload=True
                )
                found += some
                if offset is None:
                    return [record_of_point(point) for point in sorted(found, key=lambda p: p.id)]

    def _begin(self, number: int, dim: int) -> None:
        """Makes the collections, or takes back what a write that was killed has left."""
        m = self.models
        self.lease.hold()
        with self._asked():
            if number == 1:
                for name, size in ((self.name, 2 * dim), (f"{self.name}-records", 1)):
                    self.client.delete_collection(name)
                    space = m.VectorParams(size=size, distance=m.Distance.DOT)
                    self.client.create_collection(name, vectors_config=space)
                    if self._remote():
                        for field, kind in INDEXED.items():
                            self.client.create_payload_index(name, field, m.PayloadSchemaType(kind))
                return
            for name in (self.name, f"{self.name}-records"):
                self.client.delete(name, self._chosen(since={"gte": number}))
                again = self._chosen(until={"gte": number, "lt": FOREVER}).filter
                self.client.set_payload(name, {"until": FOREVER}, points=again)

    def _upsert(self, name: str, points: Iterator[dict[str, Any]]) -> None:
        batch: list[Any] = []
        for point in points:
            batch.append(self.models.PointStruct(**point))
            if len(batch) == _BATCH:
                self._send(name, batch)
                batch = []
        if batch:
            self._send(name, batch)

    def _send(self, name: str, batch: list[Any]) -> None:
        self.lease.hold()
        with self._asked():
            self.client.upsert(name, batch, wait=True)

    def _end(self, gone: Collection[str], number: int) -> None:
        """Records that are gone end before a version; those that came with it stay."""
        m, ids = self.models, sorted(gone)
        for start in range(0, len(ids), 1000):
            some = live(m, number - 1)
            one_of = m.MatchAny(any=ids[start : start + 1000])
            some.must.append(m.FieldCondition(key="id", match=one_of))
            with self._asked():
                for name in (self.name, f"{self.name}-records"):
                    self.client.set_payload(name, {"until": number}, points=some)

    def _count(self, name: str, number: int, **fields: Any) -> int:
        chosen = live(self.models, number)
        for key, value in fields.items():
            match = self.models.MatchValue(value=value)
            chosen.must.append(self.models.FieldCondition(key=key, match=match))
        with self._asked():
            return int(self.client.count(name, count_filter=chosen, exact=True).count)

    def _chosen(self, **ranges: dict[str, int]) -> Any:
        m = self.models
        must = [m.FieldCondition(key=k, range=m.Range(**span)) for k, span in ranges.items()]
        return m.FilterSelector(filter=m.Filter(must=must))

    def _about(self, id: int) -> dict[str, Any]:
        with self._asked():
            if not self.client.collection_exists(f"{self.name}-about"):
                return {}
            found = self.client.retrieve(f"{self.name}-about", [id], with_payload=True)
        return dict(found[0].payload) if found else {}

    def _tell(self, id: int, held: dict[str, Any], *, only: Sequence[Any] = ()) -> None:
        """Keeps a point; one that is there already only where it meets the conditions."""
        m = self.models
        with self._asked():
            self.client.upsert(
                f"{self.name}-about",
                [m.PointStruct(id=id, vector=[0.0], payload=held)],
                wait=True,
                ordering=m.WriteOrdering.STRONG,
                update_filter=m.Filter(must=list(only)) if only else None,
            )

    def _remote(self) -> bool:
        return "local" not in type(getattr(self.client, "_client", self.client)).__module__

    def _building(self) -> Path:
        cache = Path(os.environ.get("RSVLM_CACHE", Path.home() / ".cache" / "rsvlm"))
        return cache / "knowledge" / re.sub(r"\W+", "_", str(self.root)) / "building"

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Around what is asked of the server.

        Raises:
            UserError: it does not answer, or refuses.
        """
        with extra("knowledge"):
            from qdrant_client.http.exceptions import ApiException, UnexpectedResponse
        try:
            yield
        except UnexpectedResponse as error:
            said = (error.content or b"").decode(errors="replace")[:300]
            key = " Its key is read from QDRANT_API_KEY." if error.status_code in (401, 403) else ""
            raise UserError(
                f"the server of {self.root} refused what was asked ({error.status_code} "
                f"{error.reason_phrase} {said}).{key}"
            ) from error
        except ApiException as error:
            raise UserError(
                f"the server of {self.root} does not answer ({error}): is it running, and is the "
                "address right? docker run -p 6333:6333 qdrant/qdrant starts one.",
                code="server_away",
            ) from error
