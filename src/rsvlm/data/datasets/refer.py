"""Expressions in the format of the RefCOCO data sets: a pickle of references, a JSON of objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.base import Entry, split_error
from rsvlm.data.datasets.coco import read_coco, size
from rsvlm.data.datasets.missing import Missing
from rsvlm.data.datasets.pickles import read_pickle
from rsvlm.data.datasets.regions import Regions
from rsvlm.errors import UserError


class Refer(Regions):
    """What data sets in RefCOCO's format share; a sample is a sentence about one object.

    The pickle is a list of `{"ref_id", "ann_id", "image_id", "split", "sentences": [{"raw", ...}],
    ...}`; the JSON is COCO's. It is read without running any code of the pickle.
    """

    def fill(
        self, refs: Path, instances: Path, folders: Sequence[Path], missing: Missing, masks: bool
    ) -> None:
        """Reads both files.

        Args:
            refs: the pickle.
            instances: the JSON.
            folders: where pictures may lie.
            missing: what becomes of those that are not there.
            masks: serve masks.

        Raises:
            UserError: a file is damaged, the pickle wants to run code, or the split is unknown.
        """
        records = read_pickle(refs)
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise UserError(f"{refs} holds no list of references.")
        known = Counter(str(record.get("split")) for record in records)
        if self.split != "all" and self.split not in known:
            raise split_error(self.split, dict(known), str(refs))
        found = read_coco(self, instances, masks=masks)
        self.categories = found.categories
        objects = {r.id: (image, r) for image, rs in found.regions.items() for r in rs}
        chosen = [
            (key, record, *objects[record["ann_id"]])
            for key, record in self._chosen(records, objects)
        ]
        names = [found.images[image]["file_name"] for _, _, image, _ in chosen]
        paths = self.located(folders, names, missing)
        for name, (key, record, image, region) in zip(names, chosen, strict=True):
            if name not in paths:
                continue
            said = self._sentences(record, key)
            for k, text in enumerate(said):
                meta: dict[str, Any] = {"image": name, "ref_id": key, "ann_id": region.id}
                self.add(
                    Entry(str(key) if len(said) == 1 else f"{key}_{k}", paths[name], meta=meta),
                    [replace(region, id=0, phrase=text)],
                    size(found.images[image]),
                )

    def _chosen(
        self, records: list[dict[str, Any]], objects: dict[int, Any]
    ) -> list[tuple[int, dict[str, Any]]]:
        """The references of the split with their ids; notes those that fit no object."""
        out = []
        seen: set[Any] = set()
        for number, record in enumerate(records):
            if self.split != "all" and str(record.get("split")) != self.split:
                continue
            key = record.get("ref_id")
            who = f"reference {key if key is not None else number}"
            if not isinstance(key, int) or key in seen:
                self.fault("reference(s) have an id that repeats, and were numbered anew", who)
                key = len(records) + number
            seen.add(key)
            ann = record.get("ann_id")
            if not isinstance(ann, int) or ann not in objects:
                self.fault("reference(s) mean an object that is not there, and are left out", who)
                continue
            if record.get("image_id", objects[ann][0]) != objects[ann][0]:
                self.fault("reference(s) name another picture than their object does", who)
            out.append((key, record))
        return out

    def _sentences(self, record: dict[str, Any], key: int) -> list[str]:
        out = []
        sentences = record.get("sentences")
        for sentence in sentences if isinstance(sentences, list | tuple) else ():
            text = sentence.get("raw") or sentence.get("sent") if isinstance(sentence, dict) else ""
            if isinstance(text, str) and text.strip():
                out.append(text.strip())
        if not out:
            self.fault("reference(s) have no words, and are left out", f"reference {key}")
        return out
