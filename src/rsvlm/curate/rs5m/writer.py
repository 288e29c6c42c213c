"""RS5M's tars, as released: `img_content`, `img_name`, `caption`."""

from __future__ import annotations

import csv
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rsvlm.curate.record import Record, rng
from rsvlm.errors import UserError
from rsvlm.files import written_whole

#: Columns of the tables behind the published ones; empty where a pipeline does not make them.
_KNOWN = (
    "url", "source", "keyword", "clip_score", "rs_score", "width", "height", "top_cap", "ssl_cap",
    "meta_caption", "country", "city", "month", "latitude", "longitude", "utm",
)  # fmt: skip


@dataclass
class RS5MTars:
    """`train/<subset>-train-0000.tar` and `val/<subset>-val-0000.tar`, 32 of each.

    Five per cent are drawn for validation, as in the paper. `data=rs5m` reads them; where the other
    subset is not there, with `data.dataset.missing=skip`.

    Beside them stand the published tables, `<subset>_train_intermediate.csv` and so of val:
    `img_name` and `caption`, and behind these what else is known of each picture (`_KNOWN`): its
    address, scores, `top_cap` and `ssl_cap`, place and time.

    Args:
        subset: pub11 or rs3.
        val_ratio: share of the validation split.
        shards: of each split.
        seed: of the draw.

    Raises:
        UserError: a share that is none, or no shard.
    """

    subset: str = "pub11"
    val_ratio: float = 0.05
    shards: int = 32
    seed: int = 0
    name = "rs5m_tars"
    version = "2"

    def __post_init__(self) -> None:
        if not 0 <= self.val_ratio < 1 or self.shards < 1:
            raise UserError(
                f"val_ratio={self.val_ratio:g} shards={self.shards}: a share of 0 to below 1, as "
                "0.05, and at least one shard."
            )

    def write(self, records: Iterator[Record], out: Path) -> Mapping[str, Any]:
        """See `Writer`."""
        counts = {"train": 0, "val": 0}
        sources: dict[str, int] = {}
        files = {
            split: [
                f"{split}/{self.subset}-{split}-{number:04d}.tar" for number in range(self.shards)
            ]
            for split in counts
        }
        tables = {split: f"{self.subset}_{split}_intermediate.csv" for split in counts}
        with ExitStack() as stack:
            rows = {
                split: stack.enter_context(_table(stack.enter_context(written_whole(out / name))))
                for split, name in tables.items()
            }
            tars: dict[str, list[tarfile.TarFile]] = {}
            for split, names in files.items():
                (out / split).mkdir(parents=True, exist_ok=True)
                tars[split] = [
                    stack.enter_context(_tar(stack.enter_context(written_whole(out / name))))
                    for name in names
                ]
            for record in records:
                drawn = rng(self.seed, "split", record["id"]).random()
                split = "val" if drawn < self.val_ratio else "train"
                number = counts[split]
                counts[split] += 1
                source = str(record.get("source") or self.subset)
                sources[source] = sources.get(source, 0) + 1
                members = {
                    "img_content": record["image"],
                    "img_name": record["id"].encode(),
                    "caption": record["caption"].encode("utf-8", "replace"),
                }
                for ending, content in members.items():
                    entry = tarfile.TarInfo(f"{number:08d}.{ending}")
                    entry.size = len(content)
                    tars[split][number % self.shards].addfile(entry, io.BytesIO(content))
                row = (record["id"], record["caption"], *(record.get(word) for word in _KNOWN))
                rows[split](row)
        # An empty tar looks like a download that broke off.
        made = {
            split: [name for n, name in enumerate(names) if n < counts[split]]
            for split, names in files.items()
        }
        for split, names in files.items():
            for name in names[len(made[split]) :]:
                (out / name).unlink()
            if not counts[split]:
                (out / tables.pop(split)).unlink()
        return {
            "files": [*(name for names in made.values() for name in names), *tables.values()],
            "splits": counts,
            "sources": dict(sorted(sources.items())),
            "licences": {"pictures": "those of their owners; none was looked at"},
            "reader": {
                "data": "rs5m",
                "splits": [split for split, number in counts.items() if number],
                "options": {"missing": "skip"},
            },
            "read_with": f"data=rs5m data.root={out} data.dataset.missing=skip",
        }


@contextmanager
def _table(path: Path) -> Iterator[Callable[[Sequence[Any]], object]]:
    """A table with its head; gives what adds a row."""
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        add = csv.writer(file, lineterminator="\n").writerow
        add(("img_name", "caption", *_KNOWN))
        yield add


def _tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)
