"""AIR-SLT: sentences and the polygons that each speaks of, in one JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rsvlm.data.sample import Instance, Sample
from rsvlm.data.transforms import to_pil
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def corners(box: tuple[float, float, float, float, float]) -> list[list[float]]:
    """The corners of an oriented box (x0, y0, x1, y1, counter-clockwise degrees), to 1/100."""
    x0, y0, x1, y1, angle = box
    x, y, turn = (x0 + x1) / 2, (y0 + y1) / 2, math.radians(angle)
    cos, sin = math.cos(turn), math.sin(turn)
    return [
        [round(x + a * cos + b * sin, 2), round(y - a * sin + b * cos, 2)]
        for a, b in ((x0 - x, y0 - y), (x1 - x, y0 - y), (x1 - x, y1 - y), (x0 - x, y1 - y))
    ]


def write(out: Path, splits: Splits) -> Expected:
    """Writes `annotations/anno.json` and `imgs/`: the phrases of the test scenes' things."""
    records: list[dict[str, Any]] = []
    expected: list[Sample] = []
    for number, sample in enumerate(splits["test"]):
        name = f"{number}.jpg"
        save(sample.images[0], out / "imgs" / name)
        answers = [t for t in sample.turns if t.kind == "refer" and t.role == "assistant"]
        said = [(t.text, t.instance_ids) for t in answers]
        # A scene without a thing to point at is asked for as a whole.
        side = float(to_pil(sample.images[0]).width)
        whole = [[0.0, 0.0], [side, 0.0], [side, side], [0.0, side]]
        for phrase, ids in said or [("the whole picture", ())]:
            polygons = [corners(sample.meta["oriented"][i]) for i in ids] or [whole]
            records.append({"caption": phrase, "jpg_name": name, "points": polygons})
            boxes = [_bounds(polygon) for polygon in polygons]
            expected.append(
                Sample(
                    sample.images,
                    texts=[phrase],
                    instances=[
                        Instance(i, "region", phrase=phrase, box=box) for i, box in enumerate(boxes)
                    ],
                    meta={
                        "id": f"{number}_{len(expected):02d}",
                        "image": name,
                        "polygons": polygons,
                    },
                )
            )
    path = out / "annotations" / "anno.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(records), encoding="utf-8")
    return {"test": expected}


def _bounds(polygon: list[list[float]]) -> tuple[float, float, float, float]:
    xs, ys = zip(*polygon, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


FORMAT = Format(write, parts=("references",))
