"""Writes the generated world as each data set is published, byte layout and all.

One file per format, each with one `Format`. A reader (`data/datasets`) opens what it wrote, and
`tests/data/test_exports.py` compares the two: what was drawn is what is read.
"""

from __future__ import annotations

from rsvlm.data.scenes.export import coco, dior_rsvg, rsicd
from rsvlm.data.scenes.export.format import Format, Splits, export

#: Format by its word, which is also the word of its reader in `datasets.DATASETS`.
FORMATS: dict[str, Format] = {
    "coco": coco.FORMAT,
    "dior_rsvg": dior_rsvg.FORMAT,
    "rsicd": rsicd.FORMAT,
    "ssdd": coco.SSDD,
    "vhr10": coco.VHR10,
}

__all__ = ["FORMATS", "Format", "Splits", "export"]
