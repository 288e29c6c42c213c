"""Writes the generated world as each data set is published, byte layout and all.

One file per format, each with one `Format`. A reader (`data/datasets`) opens what it wrote, and
`tests/data/test_exports.py` compares the two: what was drawn is what is read.
"""

from __future__ import annotations

from rsvlm.data.scenes.export import (
    change_pairs,
    changechat,
    coco,
    dior_rsvg,
    dota,
    dubai_ccd,
    floodnet,
    geochat_instruct,
    isaid,
    karpathy,
    levir,
    rrsis_d,
    rsgpt4v,
    rsicap,
    rsicd,
    rsivqa,
    rsvg,
    rsvqa,
    rswk,
    second,
    skyeye968k,
)
from rsvlm.data.scenes.export.format import Format, Splits, export

#: Format by its word, which is also the word of its reader in `datasets.DATASETS`.
FORMATS: dict[str, Format] = {
    "change_pairs": change_pairs.FORMAT,
    "changechat": changechat.FORMAT,
    "coco": coco.FORMAT,
    "dior_rsvg": dior_rsvg.FORMAT,
    "dota": dota.FORMAT,
    "dubai_ccd": dubai_ccd.FORMAT,
    "floodnet": floodnet.FORMAT,
    "geochat_instruct": geochat_instruct.FORMAT,
    "isaid": isaid.FORMAT,
    "karpathy": karpathy.FORMAT,
    "levir_cc": levir.FORMAT,
    "levir_mci": levir.MCI,
    "rrsis_d": rrsis_d.FORMAT,
    "rsgpt4v": rsgpt4v.FORMAT,
    "rsicap": rsicap.RSICAP,
    "rsicd": rsicd.FORMAT,
    "rsieval": rsicap.RSIEVAL,
    "rsitmd": karpathy.RSITMD,
    "rsivqa": rsivqa.FORMAT,
    "rsvg": rsvg.FORMAT,
    "rsvqa_hr": rsvqa.HR,
    "rsvqa_lr": rsvqa.LR,
    "rswk": rswk.FORMAT,
    "second": second.FORMAT,
    "second_cc": second.CAPTIONS,
    "skyeye968k": skyeye968k.FORMAT,
    "ssdd": coco.SSDD,
    "sydney_captions": karpathy.SYDNEY,
    "ucm_captions": karpathy.UCM,
    "vhr10": coco.VHR10,
}

__all__ = ["FORMATS", "Format", "Splits", "export"]
