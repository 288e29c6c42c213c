"""Karpathy's JSON as data sets of captioned images are published in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


class Records:
    """Records that count images and sentences through all splits."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._sentid = 0

    def add(
        self, filename: str, split: str, texts: Sequence[str], *, lead: str = "", **more: Any
    ) -> list[str]:
        """Adds an image and returns its captions as a reader gives them.

        Args:
            filename: its file.
            split: its part.
            texts: captions; written in lower case, a space before the full stop.
            lead: what every `raw` begins with.
            more: further keys of the record.
        """
        sentences, said = [], []
        for text in texts:
            tokens = text.rstrip(".").lower().split()
            said.append(" ".join(tokens) + " .")
            sentences.append(
                {
                    "tokens": tokens,
                    "raw": lead + said[-1],
                    "imgid": len(self.records),
                    "sentid": self._sentid,
                }
            )
            self._sentid += 1
        record = {"filename": filename, "imgid": len(self.records), "split": split}
        sentids = [sentence["sentid"] for sentence in sentences]
        self.records.append(record | more | {"sentences": sentences, "sentids": sentids})
        return said

    def write(self, path: Path, **more: Any) -> None:
        """Writes the file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": self.records} | more), encoding="utf-8")


def writer(
    file: str, folder: str, name: Callable[[str, int], str], *, val: bool = True, **more: Any
) -> Callable[[Path, Splits], Expected]:
    """How one JSON and one folder of images are written.

    Args:
        file: name of the JSON.
        folder: the images' folder.
        name: from a class (without spaces) and the image's number to its file name.
        val: the data set has a validation split.
        more: further keys of the file.
    """

    def write(out: Path, splits: Splits) -> Expected:
        records = Records()
        expected: dict[str, list[Sample]] = {}
        for split, scenes in splits.items():
            if split == "val" and not val:
                continue
            expected[split] = []
            for sample in scenes:
                label = scenes.classes[sample.label or 0].replace(" ", "")
                filename = name(label, len(records.records))
                save(sample.images[0], out / folder / filename)
                said = records.add(filename, split, sample.texts)
                expected[split].append(
                    Sample(images=sample.images, texts=said, meta={"id": filename})
                )
        records.write(out / file, **more)
        return expected

    return write


RSITMD = Format(
    writer("dataset_RSITMD.json", "images", lambda label, i: f"{label}_{i}.tif", val=False)
)
SYDNEY = Format(writer("dataset.json", "imgs", lambda label, i: f"{i + 1}.tif", dataset="sydney"))
UCM = Format(writer("dataset.json", "imgs", lambda label, i: f"{i + 1}.tif", dataset="ucm"))
FORMAT = Format(
    writer("dataset_scenes.json", "images", lambda label, i: f"{i}.png", dataset="scenes")
)
