"""Writes the generated world as each data set is published, byte layout and all.

One file per format, each with one `Format`. A reader (`data/datasets`) opens what it wrote, and
`tests/data/test_exports.py` compares the two: what was drawn is what is read.
"""

from __future__ import annotations

from rsvlm.data.scenes.export import (
    coco,
    dior_rsvg,
    floodnet,
    geochat_instruct,
    rsgpt4v,
    rsicap,
    rsicd,
    rsivqa,
    rsvqa,
    rswk,
    skyeye968k,
)
from rsvlm.data.scenes.export.format import Format, Splits, export

#: Format by its word, which is also the word of its reader in `datasets.DATASETS`.
FORMATS: dict[str, Format] = {
    "coco": coco.FORMAT,
    "dior_rsvg": dior_rsvg.FORMAT,
    "floodnet": floodnet.FORMAT,
    "geochat_instruct": geochat_instruct.FORMAT,
    "rsgpt4v": rsgpt4v.FORMAT,
    "rsicap": rsicap.RSICAP,
    "rsicd": rsicd.FORMAT,
    "rsieval": rsicap.RSIEVAL,
    "rsivqa": rsivqa.FORMAT,
    "rsvqa_hr": rsvqa.HR,
    "rsvqa_lr": rsvqa.LR,
    "rswk": rswk.FORMAT,
    "skyeye968k": skyeye968k.FORMAT,
    "ssdd": coco.SSDD,
    "vhr10": coco.VHR10,
}

__all__ = ["FORMATS", "Format", "Splits", "export"]
