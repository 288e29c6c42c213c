"""DOTA: a picture, and a text file of corners."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rsvlm.data.geometry import turned
from rsvlm.data.sample import Instance, Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

#: What the generated world calls things → what DOTA does. Others have no place there.
CLASSES: dict[str, str] = {
    "boat": "ship",
    "ship": "ship",
    "tank": "storage-tank",
    "court": "tennis-court",
    "running track": "ground-track-field",
    "soccer field": "soccer-ball-field",
    "vehicle": "small-vehicle",
    "wagon": "large-vehicle",
    "plane": "plane",
    "swimming pool": "swimming-pool",
}


def write(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/images/` and `<split>/labelTxt/`.

    Published corners are whole pixels; here they have four decimals, since a car of a small scene
    is hardly wider than a pixel.
    """
    expected: dict[str, list[Sample]] = {split: [] for split in splits}
    number = 0
    for split, scenes in splits.items():
        for sample in scenes:
            name = f"P{number:04d}"
            number += 3
            save(sample.images[0], out / split / "images" / f"{name}.png")
            shown: list[Instance] = []
            meta: dict[str, Any] = {"id": f"{name}.png"}
            if split != "test":  # whose labels are withheld
                meta |= {"corners": {}, "sensor": "scenes", "gsd": sample.meta["gsd"]}
                lines = ["imagesource:scenes", f"gsd:{sample.meta['gsd']!r}"]
                for instance in sample.instances:
                    kind = CLASSES.get(instance.category)
                    if kind is None or instance.box is None or instance.angle is None:
                        continue
                    corners = turned(instance.box, instance.angle).round(4)
                    words = [f"{value:.4f}" for value in corners.flat]
                    lines.append(" ".join([*words, kind, str(len(shown) % 7 // 6)]))
                    key = len(lines)
                    meta["corners"][key] = tuple((float(x), float(y)) for x, y in corners)
                    shown.append(replace(instance, id=key, category=kind))
                meta["difficult"] = [i.id for k, i in enumerate(shown) if k % 7 == 6]
                labels = out / split / "labelTxt" / f"{name}.txt"
                labels.parent.mkdir(parents=True, exist_ok=True)
                labels.write_text("\n".join(lines) + "\n", encoding="utf-8")
            expected[split].append(Sample(images=sample.images, instances=shown, meta=meta))
    return expected


FORMAT = Format(write, parts=("instances",), options={"oriented": True})
