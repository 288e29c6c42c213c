"""RSICD: one JSON of captions in Karpathy's format, and a folder of JPEG files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.data.scenes.export.format import Expected, Format, Splits, save


def write(out: Path, splits: Splits) -> Expected:
    """Writes `dataset_rsicd.json` and `RSICD_images/`."""
    records: list[dict[str, Any]] = []
    expected: dict[str, list[Sample]] = {}
    sentid = 0
    for split, scenes in splits.items():
        expected[split] = []
        for sample in scenes:
            name = f"{scenes.classes[sample.label or 0].replace(' ', '')}_{len(records) + 1}.jpg"
            save(sample.images[0], out / "RSICD_images" / name)
            sentences = []
            for text in sample.texts:
                tokens = text.rstrip(".").lower().split()
                raw = " ".join(tokens) + " ."
                sentences.append(
                    {"tokens": tokens, "raw": raw, "imgid": len(records), "sentid": sentid}
                )
                sentid += 1
            records.append(
                {
                    "filename": name,
                    "imgid": len(records),
                    "split": split,
                    "sentences": sentences,
                    "sentids": [s["sentid"] for s in sentences],
                }
            )
            expected[split].append(
                Sample(
                    images=sample.images,
                    texts=[str(s["raw"]) for s in sentences],
                    meta={"id": name},
                )
            )
    (out / "dataset_rsicd.json").write_text(
        json.dumps({"images": records, "dataset": "rsicd"}), encoding="utf-8"
    )
    return expected


FORMAT = Format(write)
