"""GeoPixInstruct: parquet files of annotations for train and valid of several sources."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rsvlm.data import rle
from rsvlm.data.datasets.regions import bounds
from rsvlm.data.sample import Sample
from rsvlm.errors import extra
from rsvlm.synthetic.annotate import CATEGORIES
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.grounding import asked, questions

#: Source → its share of the folders; a test split is not published.
_SOURCES = ("SIOR_T", "FAST_T", "SOTA_T")
_PUBLISHED = {"train": "train", "val": "valid"}


def write(out: Path, splits: Splits) -> Expected:
    """Writes `data/<part>-00000-of-00001.parquet` and `images/`."""
    with extra("readers"):
        import pyarrow as pa
        from pyarrow import parquet

    instance = pa.struct(
        [
            ("bbox", pa.list_(pa.int64())),
            ("category", pa.string()),
            ("category_id", pa.int64()),
            ("description", pa.string()),
            ("instance_id", pa.string()),
            ("mask", pa.struct([("counts", pa.string()), ("size", pa.list_(pa.int64()))])),
        ]
    )
    schema = pa.schema(
        [
            ("image_id", pa.string()),
            ("image_path", pa.string()),
            ("instances", pa.list_(instance)),
        ]
    )
    (out / "data").mkdir()
    rows: dict[str, list[dict[str, Any]]] = {}
    found: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        if split not in _PUBLISHED:
            continue
        parts = [f"{_PUBLISHED[split]}.{source}" for source in _SOURCES]
        for part in parts:
            rows[part], found[part] = [], []
        for number, sample in enumerate(scenes):
            part = parts[number % len(parts)]
            key = f"{part}_{number:05d}"
            file = f"{part.partition('.')[2]}/{key}.jpg"
            save(sample.images[0], out / "images" / file)
            objects = [replace(i, id=k) for k, i in enumerate(asked(sample))]
            for shown in objects:
                assert shown.mask is not None
                shown.box = bounds(shown.mask)
            entries = [
                {
                    "bbox": [int(value) for value in shown.box or ()],
                    "category": shown.category,
                    "category_id": CATEGORIES.index(shown.category),
                    "description": shown.phrase,
                    "instance_id": f"{key}_{shown.id}",
                    "mask": rle.encode(shown.mask) if shown.mask is not None else None,
                }
                for shown in objects
            ]
            rows[part].append({"image_id": key, "image_path": file, "instances": entries})
            meta = {"id": key, "image": file, "box_convention": "xyxy"}
            found[part].append(
                Sample(images=sample.images, instances=objects, turns=questions(objects), meta=meta)
            )
    for part, records in rows.items():
        path = out / "data" / f"{part}-00000-of-00001.parquet"
        parquet.write_table(pa.Table.from_pylist(records, schema=schema), path)
    return {
        split: [s for part, samples in found.items() if part.startswith(word) for s in samples]
        for split, word in _PUBLISHED.items()
        if split in splits
    }


FORMAT = Format(write, parts=("masks", "references"))
