"""RemoteCLIP: CLIP tuned on captions, and on boxes and masks turned into captions.

Liu, Chen, Guan, Zhou, Zhu, Ye, Fu, Zhou, 2024, "RemoteCLIP: A Vision Language Foundation Model for
Remote Sensing", TGRS (arXiv 2306.11029), and the code at ChenDelong1999/RemoteCLIP.

Recipe (paper): from OpenAI's weights, InfoNCE, "Adam" with linear warm-up and cosine, mixed
precision, 108,215 steps; learning rate 7e-5 (RN50), 4e-5 (B/32), 1e-4 (L/14), batch 256, 256, 28.
Weight decay: not given. Data: RET-3, DET-10 and SEG-4, 165,745 images with five captions each.
Images: random resized crop, horizontal flip, rotation by 0, 90, 180 or 270 degrees.

The files are bare open_clip state dicts and QuickGELU throughout; the demo of their README runs
GELU on a current open_clip. Retrieval captions are capitalised by the published script.
"""

from __future__ import annotations

from typing import Any

from rsvlm.checkpoints.zoo import Row, recalls

#: Order of Table III.
_SETS = (
    *("rsi_cb128", "rsi_cb256", "whu_earth", "eurosat", "mlrsnet", "patternnet", "resisc45"),
    *("aid", "rs2800", "optimal31", "rsc11", "whu_rs19"),
)


def _table3(*values: float) -> dict[str, float]:
    return {f"{name}/remoteclip/top1": value for name, value in zip(_SETS, values, strict=True)}


def _row(model: str, arch: str, metrics: dict[str, float]) -> Row:
    file = f"RemoteCLIP-{arch}.pt"
    facts: dict[str, Any] = {"arch": arch, "activation": "quick_gelu", "metrics": metrics}
    return Row(
        model=model,
        tag="ret3det10seg4",
        uri=f"hf://chendelong/RemoteCLIP@main/{file}",
        files=(file,),
        licence="the repository's LICENSE file of March 2024 (its issue 23), not read here",
        paper="2306.11029",
        homepage="https://github.com/ChenDelong1999/RemoteCLIP",
        **facts,
    )


ROWS = (
    _row(
        "remoteclip_rn50",
        "RN50",
        {
            **recalls("rsitmd", 23.67, 47.57, 64.60, 19.29, 51.55, 70.58, mean=46.21),
            **recalls("rsicd", 13.36, 32.94, 44.83, 10.76, 32.83, 48.75, mean=30.58),
            **recalls("ucm_captions", 13.33, 50.48, 74.76, 15.24, 57.14, 84.57, mean=49.25),
        },
    ),
    _row(
        "remoteclip_vitb32",
        "ViT-B-32",
        {
            **recalls("rsitmd", 27.88, 50.66, 65.71, 22.17, 56.46, 73.41, mean=49.38),
            **recalls("rsicd", 17.02, 37.97, 51.51, 13.71, 37.11, 54.25, mean=35.26),
            **recalls("ucm_captions", 20.48, 59.85, 83.33, 18.67, 61.52, 94.29, mean=56.36),
            **_table3(
                *(24.18, 39.50, 63.12, 35.96, 59.28, 57.71, 70.33),
                *(91.30, 68.57, 77.96, 64.94, 96.12),
            ),
        },
    ),
    _row(
        "remoteclip_vitl14",
        "ViT-L-14",
        {
            **recalls("rsitmd", 28.76, 52.43, 63.94, 23.76, 59.51, 74.73, mean=50.52),
            **recalls("rsicd", 18.39, 37.42, 51.05, 14.73, 39.93, 56.58, mean=36.35),
            **recalls("ucm_captions", 19.05, 54.29, 80.95, 17.71, 62.19, 93.90, mean=54.68),
            **_table3(
                *(37.22, 52.82, 70.83, 59.94, 66.32, 68.75, 79.84),
                *(87.90, 72.32, 90.05, 74.90, 94.66),
            ),
        },
    ),
)
