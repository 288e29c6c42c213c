"""LEVIR-CC and LEVIR-MCI: pairs in A/ and B/ by split, captions in one JSON, masks in label/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rsvlm.data.datasets.levir_mci import GREYS
from rsvlm.data.sample import Sample
from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.karpathy import Records
from rsvlm.synthetic.world import SEMANTIC


def number(index: int) -> int:
    """The number in a file's name: published ones have gaps, here every fourth is left out."""
    return 1 + index + index // 3


def captions(sample: Sample) -> list[str]:
    """Its captions; of an unchanged pair the five published sentences are said, and no others."""
    return list(sample.texts) if sample.meta["changeflag"] else sorted(NO_CHANGE["levir_cc"])


def change_map(sample: Sample) -> np.ndarray:
    """[H, W] uint8 map of changed roads (1) and buildings (2)."""
    before, after = sample.semantic
    out = np.zeros(before.shape, np.uint8)
    for value, name in enumerate(("road", "building"), start=1):
        of = SEMANTIC.index(name)
        out[(before == of) != (after == of)] = value
    return out


@dataclass(frozen=True, slots=True)
class Write:
    """Writes pairs, JSON and, where asked for, masks.

    Attributes:
        masks: also write label/ (LEVIR-MCI).
    """

    masks: bool = False

    def __call__(self, out: Path, splits: Splits) -> Expected:
        """Writes `LevirCCcaptions.json` and `images/`."""
        records = Records()
        expected: dict[str, list[Sample]] = {}
        grey = np.array(list(GREYS), np.uint8)
        for split, scenes in splits.items():
            expected[split] = []
            for index, sample in enumerate(scenes):
                name = f"{split}_{number(index):06d}.png"
                folder = out / "images" / split
                for date, image in zip("AB", sample.images, strict=True):
                    save(image, folder / date / name)
                flag = sample.meta["changeflag"]
                said = records.add(
                    name, split, captions(sample), lead=" ", filepath=split, changeflag=flag
                )
                meta = {"id": name, "changeflag": flag, "changeflag_from": "file"}
                if self.masks:
                    mask = change_map(sample)
                    save(
                        Image.fromarray(grey[mask]).convert("RGB"),
                        folder / "label" / name,
                    )
                    meta["change_mask"] = mask
                expected[split].append(
                    Sample(sample.images, layout="before_after", texts=said, meta=meta)
                )
        records.write(out / "LevirCCcaptions.json")
        return expected


FORMAT = Format(Write(), layout="before_after")
MCI = Format(Write(masks=True), layout="before_after", parts=("captions", "semantic"))
