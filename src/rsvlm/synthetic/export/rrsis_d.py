"""RRSIS-D: a pickle of references, a JSON of objects with run-length masks, and pictures."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rsvlm.data.sample import Instance, Picture, Sample
from rsvlm.data.transforms import to_pil
from rsvlm.synthetic.export.coco import categories, record
from rsvlm.synthetic.export.format import Expected, Format, Splits, save
from rsvlm.synthetic.export.grounding import asked, refer


def write(out: Path, splits: Splits) -> Expected:
    """Writes `rrsisd/refs(unc).p`, `rrsisd/instances.json` and `images/rrsisd/JPEGImages/`.

    As among the published ones, a picture of each split is a row of pixels higher than its masks.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    expected: dict[str, list[Sample]] = {split: [] for split in splits}
    for split, scenes in splits.items():
        for sample in scenes:
            phrased = asked(sample)
            if not phrased:
                continue
            image = 3 * len(images) + 1  # DIOR's numbers, of which not all are used
            file = f"{image:05d}.jpg"
            picture = to_pil(sample.images[0])
            width, height = picture.size
            images.append({"id": image, "file_name": file, "height": height, "width": width})
            odd = not expected[split]
            if odd:
                picture = picture.resize((width, height + 1), Image.Resampling.BICUBIC)
            save(picture, out / "images" / "rrsisd" / "JPEGImages" / file)
            for instance in phrased:
                number = len(refs)
                entry = record(replace(instance, id=number), image_id=image)
                entry["segmentation"] = [entry["segmentation"]]
                annotations.append(entry)
                phrase = str(instance.phrase)
                sentence = {
                    "tokens": phrase.lower().split(),
                    "raw": phrase,
                    "sent_id": number,
                    "sent": phrase.lower(),
                }
                refs.append(
                    {
                        "ref_id": number,
                        "ann_id": number,
                        "category_id": entry["category_id"],
                        "image_id": image,
                        "file_name": file,
                        "split": split,
                        "sentences": [sentence],
                        "sent_ids": [number],
                    }
                )
                meta: dict[str, Any] = {"id": str(number), "image": file}
                meta |= {"ref_id": number, "ann_id": number}
                shown = replace(instance, id=0)
                if odd:
                    shown = _higher(shown)
                    meta["annotated_size"] = (height, width)
                pictures: list[Picture] = [picture]
                expected[split].append(refer(pictures, shown, meta))
    folder = out / "rrsisd"
    folder.mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories()}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    return expected


def _higher(instance: Instance) -> Instance:
    """An object over a picture that was stretched by a row."""
    assert instance.box is not None and instance.mask is not None
    height = len(instance.mask)
    # The row of the old picture in which the middle of each new one lies.
    rows = (np.arange(height + 1) * 2 + 1) * height // (2 * (height + 1))
    x0, y0, x1, y1 = instance.box
    scale = (height + 1) / height
    return replace(instance, box=(x0, y0 * scale, x1, y1 * scale), mask=instance.mask[rows])


FORMAT = Format(write, parts=("masks", "references"))
