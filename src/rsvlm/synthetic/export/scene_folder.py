"""Scene classification: a folder per class, in a folder per split."""

from __future__ import annotations

from pathlib import Path

from rsvlm.data.sample import Sample
from rsvlm.synthetic.export.format import Expected, Format, Splits, save


def write(out: Path, splits: Splits) -> Expected:
    """Writes `<split>/<class>/<class>_<number>.png`."""
    expected: dict[str, list[Sample]] = {}
    for split, scenes in splits.items():
        found: dict[str, Sample] = {}
        for i, sample in enumerate(scenes):
            label = scenes.classes[sample.label or 0]
            id = f"{label}/{label.replace(' ', '')}_{i:04d}.png"
            save(sample.images[0], out / split / id)
            found[id] = Sample(sample.images, meta={"id": id})
        labels = sorted({id.split("/")[0] for id in found})
        expected[split] = []
        for id in sorted(found):
            found[id].label = labels.index(id.split("/")[0])
            expected[split].append(found[id])
    return expected


FORMAT = Format(write, parts=())
