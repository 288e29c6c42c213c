"""Samples of data sets that are there already, of one or several, as records."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rsvlm.curate.record import Record
from rsvlm.data.datasets import DATASETS
from rsvlm.data.datasets.base import overrides
from rsvlm.data.images import BrokenImage
from rsvlm.data.inspection.statistics import annotations_only
from rsvlm.errors import UserError, near

SPLITS = ("train", "val", "test")
_KNOWN = {"data", "root", "splits", "options"}


@dataclass
class Samples:
    """The samples of data sets, one set behind the other, each read by its own reader.

    A record has `id` (set, split and the sample's own), `set`, `split`, `name` (the sample's own
    id), `licence`, `image` (of several the first; as it lies in its file, else as PNG), `captions`,
    and where the set has them `label` (the class's name), `turns` ([role, text, kind]) and
    `instances` (`category`, `phrase`, and `box`: x0, y0, x1, y1 in pixels).

    Args:
        sets: name → `data` (a reader, as rsicd), `root`, and where they are needed `splits` (all of
            train, val and test) and `options` of the reader.

    Raises:
        UserError: no set, an unknown word, or what the readers raise.
    """

    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name = "samples"
    version = "1"

    def __post_init__(self) -> None:
        if not self.sets:
            raise UserError(
                "no data set is named: give "
                "+pipeline.source.sets.rsicd={data:rsicd,root:/data/RSICD}, and so for each."
            )
        for name, given in self.sets.items():
            for word in set(given) - _KNOWN:
                raise UserError(f"sets.{name}.{word}: {near(word, _KNOWN)}")
            kind = str(given.get("data"))
            if kind not in DATASETS or not given.get("root"):
                raise UserError(
                    f"sets.{name}={dict(given)}: it has data (a reader) and root (its folder). "
                    f"{near(kind, DATASETS)}"
                )

    def fingerprint(self) -> str:
        """Of the samples' names and captions, and the sizes of their files."""
        total = hashlib.sha256()
        for name, split, dataset in self._opened():
            for entry in dataset.entries:
                size = os.path.getsize(entry.path) if os.path.isfile(entry.path) else -1
                words = (name, split, entry.id, str(size), *entry.texts)
                total.update("\0".join(words).encode("utf-8", "surrogatepass") + b"\n")
        return total.hexdigest()[:16]

    def __length_hint__(self) -> int:
        return sum(len(dataset) for _, _, dataset in self._opened())

    def __iter__(self) -> Iterator[Record]:
        for name, split, dataset in self._opened():
            seen: set[str] = set()
            annotated = overrides(dataset, "annotate")
            for index, entry in enumerate(dataset.entries):
                # Sets repeat names, as one picture under several questions.
                own = entry.id if entry.id not in seen else f"{entry.id}#{index}"
                seen.add(entry.id)
                record: Record = {
                    "id": f"{name}/{split}/{own}",
                    "set": name,
                    "split": split,
                    "name": entry.id,
                    "licence": dataset.licence,
                    "image": _picture(dataset, index),
                    "captions": list(entry.texts),
                }
                if entry.texts:
                    record["caption"] = entry.texts[0]
                if entry.label is not None and dataset.classes:
                    record["label"] = dataset.classes[entry.label]
                yield record | (_annotations(dataset, index) if annotated else {})

    def _opened(self) -> Iterator[tuple[str, str, Any]]:
        for name, given in self.sets.items():
            for split in given.get("splits") or SPLITS:
                make: Any = DATASETS[str(given["data"])]
                yield name, str(split), make(given["root"], split, **(given.get("options") or {}))


def _picture(dataset: Any, index: int) -> bytes:
    """The picture's file; of what lies in none the pixels, and nothing of what cannot be read."""
    path = dataset.entries[index].path
    try:
        if path and os.path.isfile(path):
            return Path(path).read_bytes()
        out = io.BytesIO()
        dataset.image(index).save(out, "PNG")
        return out.getvalue()
    except (BrokenImage, OSError):
        return b""  # which stages drop as `empty_file`


def _annotations(dataset: Any, index: int) -> Record:
    try:
        sample = annotations_only(dataset, index)
    except BrokenImage:
        return {}
    found: Record = {}
    if sample.turns:
        found["turns"] = [[turn.role, turn.text, turn.kind] for turn in sample.turns]
    if sample.instances:
        found["instances"] = [
            {"category": one.category, "phrase": one.phrase, "box": list(one.box or ()) or None}
            for one in sample.instances
        ]
    return found
