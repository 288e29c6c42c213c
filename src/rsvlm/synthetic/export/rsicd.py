"""RSICD: one JSON of captions in Karpathy's format, and a folder of JPEG files."""

from __future__ import annotations

from rsvlm.synthetic.export.format import Format
from rsvlm.synthetic.export.karpathy import writer

FORMAT = Format(
    writer(
        "dataset_rsicd.json",
        "RSICD_images",
        lambda label, number: f"{label}_{number + 1}.jpg",
        dataset="rsicd",
    )
)
