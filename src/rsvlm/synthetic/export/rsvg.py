"""RSVG: for each split a list of (picture, box, expression) saved by torch, and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rsvlm.data.sample import Instance, Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.grounding import asked, refer


def write(out: Path, splits: Splits) -> Expected:
    """Writes `rsvg_<split>.pth` and `images/`."""
    expected: dict[str, list[Sample]] = {}
    number = 0
    for split, scenes in splits.items():
        rows: list[tuple[Any, ...]] = []
        expected[split] = []
        for sample in scenes:
            phrased = asked(sample)
            if not phrased:
                continue
            file = f"{number:07d}.jpg"
            number += 1
            save(sample.images[0], out / "images" / file)
            for instance in phrased:
                meta = {"id": f"{split}_{len(rows)}", "image": file}
                shown = Instance(0, "target", phrase=instance.phrase, box=instance.box)
                expected[split].append(refer(sample.images, shown, meta))
                rows.append((file, list(instance.box or ()), instance.phrase, ""))
        torch.save(rows, out / f"rsvg_{split}.pth")
    return expected


FORMAT = Format(write, parts=("references",))
