"""NWPU-Captions: a list per class in one JSON, five keys for five captions, a folder per class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsvlm.data.datasets.nwpu_captions import CAPTIONS
from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write(out: Path, splits: Splits) -> Expected:
    """Writes `dataset_nwpu.json` and `NWPU_images/<class>/`."""
    content: dict[str, list[dict[str, Any]]] = {}
    samples: list[tuple[str, str, Sample]] = []
    imgid = 0
    for split, scenes in splits.items():
        for sample in scenes:
            scene = scenes.classes[sample.label or 0].replace(" ", "_")
            rows = content.setdefault(scene, [])
            name = f"{scene}_{len(rows) + 1:03d}.jpg"
            save(sample.images[0], out / "NWPU_images" / scene / name)
            texts = [f"{text.rstrip('.')} ." for text in sample.texts]
            row: dict[str, Any] = {"filename": name, "imgid": imgid, "split": split}
            for key, text in zip(CAPTIONS, texts, strict=True):
                row[key] = text
                row[key.replace("raw", "sentids")] = imgid
            rows.append(row)
            imgid += 1
            samples.append(
                (split, scene, Sample(sample.images, texts=texts, meta={"id": f"{scene}/{name}"}))
            )
    (out / "dataset_nwpu.json").write_text(json.dumps(content), encoding="utf-8")
    order, labels = list(content), sorted(content)
    samples.sort(key=lambda row: order.index(row[1]))  # the file's order: class by class
    expected: dict[str, list[Sample]] = {split: [] for split in splits}
    for split, scene, sample in samples:
        sample.label = labels.index(scene)
        expected[split].append(sample)
    return expected


FORMAT = Format(write)
