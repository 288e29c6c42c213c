"""Duplicates of data sets that are there: lists of what to leave out, and nothing is removed."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsvlm.curate.record import Barrier, Dropped, Record
from rsvlm.files import written_whole

_HEAD = "# split\tid\twhy; data.exclude=<this file> leaves those of the training split out\n"


@dataclass
class Marked:
    """A de-duplicator that drops nothing: it adds `duplicate_of`, the id of the record that stays.

    Args:
        barrier: of `dedup.stages`.
    """

    barrier: Barrier

    @property
    def name(self) -> str:
        """The de-duplicator's."""
        return self.barrier.name

    @property
    def version(self) -> str:
        """The de-duplicator's."""
        return self.barrier.version

    def key(self, record: Record) -> Any:
        """See `Barrier`."""
        return self.barrier.key(record)

    def decide(self, ids: Sequence[str], keys: Any) -> Sequence[Mapping[str, Any] | Dropped]:
        """See `Barrier`."""
        return [
            {"duplicate_of": one.detail.removeprefix("as ")} if isinstance(one, Dropped) else one
            for one in self.barrier.decide(ids, keys)
        ]


class DuplicateLists:
    """Writes `<set>.txt` for each set, as `data.exclude=` takes it, and `duplicates.csv`.

    The table has a row for each record that is one: its set, split and name, and the id of the one
    that stays.
    """

    name = "duplicate_lists"
    version = "1"

    def write(self, records: Iterator[Record], out: Path) -> Mapping[str, Any]:
        """See `Writer`."""
        sources: Counter[str] = Counter()
        found: Counter[str] = Counter()
        across: Counter[str] = Counter()
        licences: dict[str, str] = {}
        with ExitStack() as stack:
            table = stack.enter_context(written_whole(out / "duplicates.csv"))
            file = stack.enter_context(table.open("w", encoding="utf-8", newline=""))
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(("set", "split", "name", "duplicate_of"))
            lists: dict[str, Any] = {}
            for record in records:
                name, split = record["set"], record["split"]
                sources[f"{name}, {split}"] += 1
                licences[name] = record["licence"]
                stays = record.get("duplicate_of")
                if not stays:
                    continue
                found[f"{name}, {split}"] += 1
                other = ", ".join(stays.split("/")[:2])
                if other != f"{name}, {split}":
                    across[f"{name}, {split}, as in {other}"] += 1
                rows.writerow((name, split, record["name"], stays))
                if name not in lists:
                    part = stack.enter_context(written_whole(out / f"{name}.txt"))
                    lists[name] = stack.enter_context(part.open("w", encoding="utf-8"))
                    lists[name].write(_HEAD)
                lists[name].write(f"{split}\t{record['name']}\tduplicate: of {stays}\n")
        notes = [f"{n} of {sources[word]} samples of {word} are duplicates" for word, n in
                 sorted(found.items())]  # fmt: skip
        return {
            "files": ["duplicates.csv", *(f"{name}.txt" for name in lists)],
            "duplicates": dict(sorted(found.items())),
            "across": dict(sorted(across.items())),
            "notes": notes + [f"{n} of {word}" for word, n in sorted(across.items())],
            "sources": dict(sorted(sources.items())),
            "licences": licences,
        }
