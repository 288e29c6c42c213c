"""DUBAI-CCD: tiles of two years in two folders, a JSON of captions per split."""

from __future__ import annotations

from pathlib import Path

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.karpathy import Records

_FILES = {"train": "Train", "val": "Validation", "test": "Test"}


def write(out: Path, splits: Splits) -> Expected:
    """Writes `imgs_tiles/RGB/500_{2000,2010}/` and `description_jsontr_te_val/`."""
    expected: dict[str, list[Sample]] = {}
    number = 0
    for split, scenes in splits.items():
        expected[split] = []
        records = Records()
        for sample in scenes:
            number += 1
            name = f"{number}.tif"
            for year, image in zip(("2000", "2010"), sample.images, strict=True):
                save(image, out / "imgs_tiles" / "RGB" / f"500_{year}" / name)
            said = records.add(name, split, sample.texts)
            expected[split].append(
                Sample(sample.images, layout="before_after", texts=said, meta={"id": name})
            )
        records.write(out / "description_jsontr_te_val" / f"{_FILES[split]}_Dubai_CC.json")
    return expected


FORMAT = Format(write, layout="before_after")
