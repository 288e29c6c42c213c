"""SECOND and SECOND-CC: pairs with maps in SECOND's colours, white where nothing changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rsvlm.data import palette
from rsvlm.data.palette import SECOND, paint
from rsvlm.data.sample import Sample
from rsvlm.data.text.no_change import NO_CHANGE
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.karpathy import Records
from rsvlm.synthetic.world import SECOND_OF


def second_maps(sample: Sample) -> list[np.ndarray]:
    """Both maps in SECOND's classes, `NO_CHANGE` where the scene is the same on both dates."""
    table = np.array(SECOND_OF, np.uint8)
    same = ~sample.meta["change_mask"]
    return [np.where(same, np.uint8(palette.NO_CHANGE), table[ids]) for ids in sample.semantic]


def write(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/{im1,im2,label1,label2}/`."""
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        expected[split] = []
        for index, sample in enumerate(scenes):
            name = f"{3 * index + 3:05d}.png"
            maps = second_maps(sample)
            for date, (image, ids) in enumerate(zip(sample.images, maps, strict=True), start=1):
                save(image, out / split / f"im{date}" / name)
                save(paint(ids, SECOND), out / split / f"label{date}" / name)
            expected[split].append(
                Sample(
                    sample.images,
                    layout="before_after",
                    semantic=maps,
                    meta={"id": name, "change_mask": sample.meta["change_mask"]},
                )
            )
    return expected


def write_captions(out: Path, splits: Splits) -> Expected:
    """Writes `SECOND-CC-AUG.json` and `<split>/{rgb,sem}/{A,B}/`."""
    records = Records()
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        expected[split] = []
        for index, sample in enumerate(scenes):
            name = f"{split}_{index:06d}.png"
            maps = second_maps(sample)
            for date, image, ids in zip("AB", sample.images, maps, strict=True):
                save(image, out / split / "rgb" / date / name)
                save(paint(ids, SECOND), out / split / "sem" / date / name)
            flag = sample.meta["changeflag"]
            texts = sample.texts if flag else sorted(NO_CHANGE["second_cc"])
            said = records.add(name, split, texts, lead=" ", filepath=split, changeflag=flag)
            expected[split].append(
                Sample(
                    sample.images,
                    layout="before_after",
                    texts=said,
                    semantic=maps,
                    meta={"id": name, "changeflag": flag, "changeflag_from": "file"},
                )
            )
    records.write(out / "SECOND-CC-AUG.json")
    return expected


FORMAT = Format(write, layout="before_after", parts=("semantic",))
CAPTIONS = Format(write_captions, layout="before_after", parts=("captions", "semantic"))
