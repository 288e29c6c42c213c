"""ReasonSeg: a picture and a JSON file of labelme's polygons with a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rsvlm.data.datasets.regions import bounds
from rsvlm.data.sample import Instance, Sample, Turn
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/<name>.jpg` and `.json` for each phrase.

    A polygon includes its outline, so that a mask is written as its rows of pixels.
    """
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        expected[split] = []
        number = 0
        for sample in scenes:
            by_id = {instance.id: instance for instance in sample.instances}
            for turn in sample.turns:
                if turn.role != "assistant" or turn.kind != "refer":
                    continue
                masks = [by_id[key].mask for key in turn.instance_ids]
                mask = np.any([m for m in masks if m is not None], 0)
                name = f"{number:04d}"
                number += 1
                path = out / split / f"{name}.jpg"
                save(sample.images[0], path)
                shapes = [{"label": "target", "points": row} for row in _rows(mask)]
                kept = {"text": [turn.text], "is_sentence": False, "shapes": shapes}
                path.with_suffix(".json").write_text(json.dumps(kept), encoding="utf-8")
                shown = Instance(0, "target", box=bounds(mask), mask=mask)
                turns = [
                    Turn("user", turn.text, (0,), kind="refer"),
                    Turn("assistant", turn.text, (), (0,), kind="refer"),
                ]
                meta = {"id": name, "image": path.name}
                expected[split].append(
                    Sample(sample.images, turns=turns, instances=[shown], meta=meta)
                )
    return expected


def _rows(mask: np.ndarray) -> list[list[list[Any]]]:
    """Runs of pixels as polygons of three corners."""
    out = []
    for y in np.flatnonzero(mask.any(1)).tolist():
        edges = np.flatnonzero(np.diff(np.pad(mask[y].astype(np.int8), 1)))
        for x0, x1 in edges.reshape(-1, 2).tolist():
            out.append([[x0, y], [x1 - 1, y], [x1 - 1, y]])
    return out


FORMAT = Format(write, parts=("masks", "references"))
