"""RRSIS-D: a pickle of references, a JSON of objects with run-length masks, and pictures."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsvlm.data.sample import Sample
from rsvlm.data.scenes.export.coco import categories, record
from rsvlm.data.scenes.export.format import Expected, Format, Splits, save
from rsvlm.data.scenes.export.grounding import asked, refer


def write(out: Path, splits: Splits) -> Expected:
    """Writes `rrsisd/refs(unc).p`, `rrsisd/instances.json` and `images/rrsisd/JPEGImages/`."""
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
            picture = save(sample.images[0], out / "images" / "rrsisd" / "JPEGImages" / file)
            images.append(
                {"id": image, "file_name": file, "height": picture.height, "width": picture.width}
            )
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
                meta = {"id": str(number), "image": file, "ref_id": number, "ann_id": number}
                expected[split].append(refer(sample.images, replace(instance, id=0), meta))
    folder = out / "rrsisd"
    folder.mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories()}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    return expected


FORMAT = Format(write, parts=("masks", "references"))
