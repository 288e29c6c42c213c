"""iSAID: pictures beside two of masks, one with a colour for each object, one for each class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from rsvlm.data.datasets.isaid import PALETTE
from rsvlm.data.palette import paint
from rsvlm.data.sample import Instance, Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save

#: What the generated world calls things → what iSAID does. Others have no place there.
CLASSES: dict[str, str] = {
    "boat": "ship",
    "ship": "ship",
    "tank": "storage_tank",
    "court": "tennis_court",
    "soccer field": "Soccer_ball_field",
    "vehicle": "Small_Vehicle",
    "wagon": "Large_Vehicle",
    "plane": "plane",
    "swimming pool": "Swimming_pool",
}
#: Colours of objects are far apart in the published files; these are, too.
_STEP = 15013


def write(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/images/`, of each picture three files; names have gaps, as in DOTA."""
    expected: dict[str, list[Sample]] = {split: [] for split in splits}
    number = 0
    for split, scenes in splits.items():
        folder = out / split / "images"
        for sample in scenes:
            name = f"P{number:04d}"
            number += 3
            picture = save(sample.images[0], folder / f"{name}.png")
            size = (picture.height, picture.width)
            ids, classes = np.zeros(size, np.int64), np.zeros(size, np.uint8)
            shown: list[Instance] = []
            for instance in sample.instances:
                kind = CLASSES.get(instance.category)
                if kind is None or instance.mask is None:
                    continue
                key = (len(shown) + 1) * _STEP
                ids[instance.mask] = key
                classes[instance.mask] = list(PALETTE).index(kind)
                shown.append(replace(instance, id=key, category=kind))
            channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
            Image.fromarray(channels).save(folder / f"{name}_instance_id_RGB.png")
            paint(classes, PALETTE).save(folder / f"{name}_instance_color_RGB.png")
            expected[split].append(
                Sample(images=sample.images, instances=shown, meta={"id": f"{name}.png"})
            )
    # The masks of the test split are withheld.
    for path in (out / "test" / "images").glob("*_RGB.png"):
        path.unlink()
    for sample in expected.get("test", ()):
        sample.instances = []
    return expected


FORMAT = Format(write, parts=("masks",))
