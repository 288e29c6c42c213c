"""RefSegRS: pictures and masks as TIFF, and a list of numbers and phrases for each split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rsvlm.data.datasets.refsegrs import write_mask
from rsvlm.data.datasets.regions import bounds
from rsvlm.data.sample import Instance, Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.grounding import refer


def write(out: Path, splits: Splits) -> Expected:
    """Writes `images/`, `masks/` and `output_phrase_<split>.txt`.

    A phrase may mean several things; a picture is stored again for each of its phrases.
    """
    expected: dict[str, list[Sample]] = {}
    number = 0
    for split, scenes in splits.items():
        expected[split] = []
        lines = []
        for sample in scenes:
            by_id = {instance.id: instance for instance in sample.instances}
            for turn in sample.turns:
                if turn.role != "assistant" or turn.kind != "refer":
                    continue
                masks = [by_id[key].mask for key in turn.instance_ids]
                mask = np.any([m for m in masks if m is not None], 0)
                name = f"{number}.tif"
                save(sample.images[0], out / "images" / name)
                write_mask(mask, out / "masks" / name)
                lines.append(f"{number} {turn.text}\n")
                shown = Instance(0, "target", phrase=turn.text, box=bounds(mask), mask=mask)
                meta = {"id": str(number), "image": name}
                expected[split].append(refer(sample.images, shown, meta))
                number += 1
        (out / f"output_phrase_{split}.txt").write_text("".join(lines), encoding="utf-8")
    return expected


FORMAT = Format(write, parts=("masks", "references"))
