"""Change pairs as LEVIR-CD: A/, B/ and label/ in a folder per split, masks in black and white."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/{A,B,label}/<split>_<number>.png`."""
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        expected[split] = []
        for index, sample in enumerate(scenes):
            name = f"{split}_{index + 1}.png"
            mask = sample.meta["change_mask"].astype(np.uint8)
            for date, image in zip("AB", sample.images, strict=True):
                save(image, out / split / date / name)
            save_grey(mask * 255, out / split / "label" / name)
            expected[split].append(
                Sample(
                    sample.images,
                    layout="before_after",
                    meta={"id": name, "change_mask": mask},
                )
            )
        # The reader's order is that of the names.
        expected[split].sort(key=lambda sample: str(sample.meta["id"]))
    return expected


def save_grey(values: np.ndarray, path: Path) -> None:
    """Stores a picture of one band."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


FORMAT = Format(write, layout="before_after", parts=("semantic",))
