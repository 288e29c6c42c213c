"""A knowledge base in LanceDB's tables: what changed is written alone, and large ones get an index.

    kb/lance/                   tables of records, chunks and pictures, with all of their versions
    kb/versions/000002/         lance.json: which versions of the tables; of the last one the files
                                of `knowledge_version` too, made from the tables

The tables are what the base is; the files are there because an exact search reads vectors where
they lie, which torch does in a fraction of the time of a scan by LanceDB (benchmarks/knowledge.py).
Files that are damaged, or were dropped with an older version, are made again from the tables.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.errors import extra
from rsvlm.files import write_text
from rsvlm.retrieval.knowledge_search import best, cosines
from rsvlm.retrieval.knowledge_store import Asked, FileStore
from rsvlm.retrieval.knowledge_tables import (
    INSTEAD,
    ROWS,
    TABLES,
    append,
    columns_of,
    connect,
    counted,
    delete,
    part_of,
    quoted,
    schema_of,
)
from rsvlm.retrieval.knowledge_version import (
    Floats,
    Ints,
    Part,
    Version,
    read_files,
    write_files,
)

log = logging.getLogger(__name__)

#: From how many chunks on a base gets an index; an exact search of fewer takes 0.1 s on two cores.
INDEX_ROWS = 500_000
#: From how many rows on, of those that the filters leave, the index is asked.
EXACT_ROWS = 100_000
#: Rows that are scored exactly for each that is wanted, and at least.
_REFINE, _AT_LEAST = 20, 200
#: Where pictures and texts are asked together, so many times as many rows near by text, lists, and
#: pictures are looked at: the best of both may be the best of neither.
_BOTH, _LISTS = 5, 2
#: Lists of the index that are looked through.
PROBES = 30
#: Up to how many bytes an index is read into memory when it is first asked: a question that reads
#: its lists from disk takes twice the time. That of a million vectors has 69 MB.
_WARM = 1 << 30
#: From how many pieces on a table is put together again.
_FRAGMENTS = 20


class LanceStore(FileStore):
    """A folder of LanceDB's tables, and of the files that an exact search reads.

    Args:
        root: the folder.
        index_rows: from how many chunks on an index is made.
        exact_rows: from how many rows on, of those that the filters leave, it is asked.

    Raises:
        UserError: LanceDB is not installed; names the extra.
    """

    kind = "lance"
    #: Versions share what did not change; so more of them stay than of files.
    kept = 10

    def __init__(
        self, root: str | Path, *, index_rows: int = INDEX_ROWS, exact_rows: int = EXACT_ROWS
    ) -> None:
        super().__init__(root)
        self.index_rows, self.exact_rows = index_rows, exact_rows
        self._open_at: tuple[int, Any, Ints, Ints] | None = None
        with extra("knowledge", INSTEAD):
            import lancedb  # noqa: F401

    def clean(self) -> None:
        """Removes parts of ended builds, old versions, and the files of all but the last."""
        super().clean()
        for number in self.versions()[:-1]:
            for path in self._folder(number).iterdir():
                if path.name != "lance.json":
                    path.unlink(missing_ok=True)

    def narrow(self, version: Version, asked: Asked) -> tuple[Version, Ints] | None:
        """Rows near the question's text, by the index, and rows of pictures near its picture.

        They are scored exactly afterwards, so that what is found has its own score.
        """
        if version.row_ids is None or len(version) < self.exact_rows:
            return None
        if not self._said(version.number)["indexed"]:
            return None
        takes = None if asked.where is None else version.columns.taken(asked.where)
        every = asked.types is None
        spans = [s for kind, s in version.groups.items() if every or kind in (asked.types or ())]
        left = sum(
            last - first
            if takes is None
            else int(np.count_nonzero(takes[version.record_of[first:last]]))
            for first, last in spans
        )
        if left < self.exact_rows:
            return None  # few enough to be scored where they lie

        def kept(rows: Ints) -> Ints:
            there = np.zeros(len(rows), dtype=bool)
            for first, last in spans:
                there |= (rows >= first) & (rows < last)
            return rows[there if takes is None else there & takes[version.record_of[rows]]]

        least = max(_AT_LEAST, _REFINE * asked.count)
        rows = np.zeros(0, dtype=np.int64)
        if asked.text is not None:
            # What is asked for by type or record is held against what the index gave, of which
            # more is asked then: LanceDB's own filter looks at each row.
            both = asked.image is not None
            count = (_BOTH if both else 1) * least * len(version) // left
            rows = kept(self._near(version, asked.text, count, _LISTS if both else 1))
            if len(rows) < min(least // 2, left):  # what is near is none of it
                if takes is not None:
                    return None
                rows = self._near(version, asked.text, least, 1, asked.types)
        if asked.image is not None:
            rows = self._with_pictures(version, asked, rows, least, kept, takes)
        return version, np.unique(rows)

    def _near(
        self,
        version: Version,
        text: Floats,
        count: int,
        times: int = 1,
        types: Sequence[str] | None = None,
    ) -> Ints:
        at = self._said(version.number)["tables"]["chunks"]
        if self._open_at is None or self._open_at[0] != at:
            assert version.row_ids is not None
            order = np.argsort(version.row_ids, kind="stable")
            self._open_at = at, self._warm(at), order, version.row_ids[order]
        _, table, order, ids = self._open_at
        # A row's id is in the index; a column would be looked up in the table, for a third of the
        # whole time.
        search = table.search(text).distance_type("cosine").select(["_distance"])
        search = search.with_row_id(True).limit(count)
        if types is not None:
            search = search.where(f"type IN ({quoted(types)})", prefilter=True)
        # Types may lie far from the question: further lists until there are enough.
        lists = times * PROBES
        search = search.minimum_nprobes(lists).maximum_nprobes(0 if types else lists)
        near = search.to_arrow()["_rowid"].to_numpy().astype(np.int64)
        found: Ints = order[np.searchsorted(ids, near)]
        return found

    def _with_pictures(
        self,
        version: Version,
        asked: Asked,
        near: Ints,
        least: int,
        kept: Callable[[Ints], Ints],
        takes: Any,
    ) -> Ints:
        """Rows near by text, and those whose pictures may lift them among the best.

        Pictures are all compared, as they are few beside rows. A row that the index did not give
        has at most the text's score of the last that it gave.
        """
        assert asked.image is not None
        every = np.arange(len(version.image), dtype=np.int64)
        seen = np.append(cosines(version.image, asked.image, every), 0.0)  # -1: no picture
        if takes is not None:
            left_out = version.image_of[~takes]
            seen[left_out[left_out >= 0]] = -9.0  # below any cosine
        order = best(seen[:-1], _BOTH * least)
        rows = np.concatenate([near, kept(_of_pictures(version, order[:least]))])
        if asked.text is None or not len(near):
            return rows
        told = cosines(version.text, asked.text, rows)
        scores = asked.alpha * seen[version.picture_of[rows]] + (1 - asked.alpha) * told
        edge = np.sort(scores)[-min(asked.count, len(scores))]
        lifted = asked.alpha * seen[order] + (1 - asked.alpha) * told[: len(near)].min() > edge
        return np.concatenate([rows, kept(_of_pictures(version, order[least:][lifted[least:]]))])

    def _warm(self, at: int) -> Any:
        """The chunks' table of a version, with the lists of its index in memory."""
        table = self._table("chunks")
        table.checkout(at)
        for index in table.list_indices():
            # Of fewer than 256 vectors LanceDB makes none, and calls it one all the same.
            if index.columns == ["vector"] and 0 < (index.size_bytes or 0) < _WARM:
                table.prewarm_index(index.name)
        return table

    def _fill(
        self,
        folder: Path,
        parts: Sequence[Part],
        fingerprint: str,
        of: Version | None,
        gone: Collection[str],
    ) -> None:
        said: dict[str, Any] = {"dim": 0, "next": [0, 0], "tables": {}, "indexed": False}
        said |= {} if of is None else self._said(of.number)
        dim = next((part.text.shape[1] for part in parts if len(part.text)), 0)
        firsts, said["next"] = said["next"], counted(said["next"], parts)
        anew = said["dim"] == 0  # there are no tables, or tables of no vectors
        said["dim"] = dim if anew else said["dim"]
        if anew:
            shutil.rmtree(self.root / "lance", ignore_errors=True)
        for name in TABLES:
            schema = schema_of(name, said["dim"])
            if anew:
                table = connect(self.root).create_table(name, schema=schema)
            else:
                table = self._table(name)
                if table.version != said["tables"][name]:  # a write of another was killed
                    table.checkout(said["tables"][name])
                    table.restore()
                delete(table, "id" if name == "records" else "record", gone)
            append(table, schema, ROWS[name](parts, *firsts))
            if name == "chunks":
                said["indexed"] = self._index(table, said["dim"], said["indexed"])
            said["tables"][name] = table.version
        said["left_out"] = [
            *(of.left_out if of is not None else ()),
            *(t for p in parts for t in p.left_out),
        ]
        said["fingerprint"] = fingerprint
        self._files(folder, said)
        write_text(folder / "lance.json", json.dumps(said, indent=1))

    def _index(self, table: Any, dim: int, indexed: bool) -> bool:
        """Makes the chunks' index, or takes up what was added; whether there is one."""
        count = table.count_rows()
        if table.stats()["fragment_stats"]["num_fragments"] > _FRAGMENTS:
            # Its versions are ours to drop, so nothing is old enough for it.
            table.optimize(cleanup_older_than=timedelta(days=36500))
        if indexed or count < self.index_rows:
            return indexed
        log.info("%s: an index of %d chunks is made.", self.root, count)
        with extra("knowledge", INSTEAD):
            from lancedb.index import Bitmap, IvfPq
        table.create_index("vector", config=IvfPq(**index_options(count, dim)))
        table.create_index("type", config=Bitmap())
        return True

    def _files(self, folder: Path, said: dict[str, Any]) -> None:
        """Makes the files of a version from its tables."""
        held = {}
        for name in TABLES:
            table = self._table(name)
            table.checkout(said["tables"][name])
            held[name] = columns_of(table, said["dim"])
        part, row_ids = part_of(held, said)
        write_files(folder, [part], said["fingerprint"], row_ids)

    def _read(self, folder: Path, number: int) -> Version:
        try:
            return read_files(folder, number)
        except (OSError, ValueError, KeyError, EOFError) as error:
            said = self._said(number)
            if (folder / "version.json").is_file():
                log.warning("%s is damaged (%s): it is read from the tables.", folder, error)
        try:
            with tempfile.TemporaryDirectory(prefix="rsvlm-knowledge-") as beside:
                self._files(Path(beside), said)
                return read_files(Path(beside), number)  # mapped: it stays when the name goes
        except RuntimeError as error:  # LanceDB's own
            raise ValueError(str(error)) from error

    def _said(self, number: int) -> dict[str, Any]:
        said: dict[str, Any] = json.loads((self._folder(number) / "lance.json").read_text())
        return said

    def _table(self, name: str) -> Any:
        return connect(self.root).open_table(name)


def index_options(count: int, dim: int) -> dict[str, Any]:
    """LanceDB's options of an index for `count` vectors of `dim` numbers.

    Half the usual count of lists, learnt from 64 vectors each, in 12 rounds: the index of a million
    takes two minutes of processor time. With LanceDB's own numbers it had not ended after six.
    """
    return {
        "distance_type": "cosine",
        "num_partitions": max(1, int(count**0.5 / 2)),
        "num_sub_vectors": max(1, dim // 8),
        "max_iterations": 12,
        "sample_rate": 64,
    }


def _of_pictures(version: Version, near: Ints) -> Ints:
    """Rows of the records of some pictures."""
    order, pictures = version.by_picture
    starts = np.searchsorted(pictures, near, "left")
    ends = np.searchsorted(pictures, near, "right")
    spans = [order[a:b] for a, b in zip(starts, ends, strict=True)]
    return np.concatenate([np.zeros(0, dtype=np.int64), *spans])
