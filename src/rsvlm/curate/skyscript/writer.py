"""Shards of captioned pictures, and SkyScript's own names for them."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsvlm.curate.record import Record
from rsvlm.errors import UserError
from rsvlm.files import written_whole


@dataclass
class SkyScriptShards:
    """Writes `train-0000.tar` and so on, which `data=shards` reads.

    A sample is a JPEG and a JSON: `captions` (`title`, and `title_multi_objects` where it says
    more), and under `meta` what SkyScript's own files hold: `title`, `title_multi_objects`,
    `center_tags`, `surrounding_tags`, `bounds`, `lonlat`, `dates`, `gsd`. Its name is SkyScript's:
    object, source and year, as `a198234555_US_19`.

    Args:
        per_shard: samples of a shard.
        source: SkyScript's code of the imagery (US is NAIP, CH SWISSIMAGE, ...), two signs.
        text_column: `title`, `title_multi_objects`, or `both`.
        licence: of the pictures, for the card.
    """

    per_shard: int = 1000
    source: str = "US"
    text_column: str = "both"
    licence: str = "as the imagery's provider says"

    name = "skyscript_shards"
    version = "1"

    def __post_init__(self) -> None:
        if self.per_shard < 1:
            raise UserError("per_shard= is at least 1.")
        if self.text_column not in ("title", "title_multi_objects", "both"):
            raise UserError("text_column= is title, title_multi_objects or both.")
        if len(self.source) != 2 or not (self.source.isalnum() and self.source.isupper()):
            raise UserError(f"source={self.source!r}: two capitals or digits, as US or S2.")

    def write(self, records: Iterator[Record], out: Path) -> dict[str, Any]:
        """Writes the shards; see the class."""
        counts: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        tags: Counter[str] = Counter()
        with ExitStack() as stack:
            tars: dict[str, tarfile.TarFile] = {}
            open_now: dict[str, ExitStack] = {}
            for record in records:
                split = record["split"]
                if counts[split] % self.per_shard == 0:
                    if split in open_now:
                        open_now.pop(split).close()
                    own = open_now[split] = stack.enter_context(ExitStack())
                    file = out / f"{split}-{counts[split] // self.per_shard:04d}.tar"
                    part = own.enter_context(written_whole(file))
                    tars[split] = own.enter_context(
                        tarfile.open(part, "w", format=tarfile.USTAR_FORMAT)
                    )
                counts[split] += 1
                folder, _, _ = record["raster"].rpartition("/")
                sources[folder or "the folder of imagery"] += 1
                key, value = next(iter(record["center_tags"].items()))
                tags[f"{key}={value}"] += 1
                self._add(tars[split], record)
        return {
            "splits": dict(sorted(counts.items())),
            "tags": dict(tags.most_common(30)),
            "distinct_tags": len(tags),
            "notes": [
                f"{len(tags)} different main tags; the most frequent: "
                + ", ".join(f"{tag} {count}" for tag, count in tags.most_common(12))
            ],
            "read_with": f"data=shards data.root={out}",
            "reader": {"data": "shards", "splits": sorted(counts), "options": {}},
            "sources": dict(sorted(sources.items())),
            "licences": {
                "tags": "ODbL 1.0, © OpenStreetMap contributors",
                "pictures": self.licence,
            },
        }

    def _add(self, tar: tarfile.TarFile, record: Record) -> None:
        year = record["time"][0] % 100 if "time" in record else 0
        key = f"{record['id']}_{self.source}_{year:02d}"
        meta = {name: record[name] for name in _META if name in record}
        if "time" in record:
            year, month, day = record["time"][:3]
            meta["dates"] = [f"{year:04d}-{month:02d}-{day:02d}"]
        content = {"id": key, "captions": self._captions(record), "meta": meta}
        _member(tar, f"{key}.jpg", record["image"])
        _member(tar, f"{key}.json", json.dumps(content, ensure_ascii=False).encode())

    def _captions(self, record: Record) -> Sequence[str]:
        if self.text_column != "both":
            return [record[self.text_column]]
        return list(dict.fromkeys((record["title"], record["title_multi_objects"])))


_META = (
    "title",
    "title_multi_objects",
    "center_tags",
    "surrounding_tags",
    "bounds",
    "lonlat",
    "gsd",
    "raster",
    "window",
    "clip_score",
)


def _member(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # of no time and nobody, so that the same run gives the same file
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
